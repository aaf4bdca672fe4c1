"""`robust-perception bag check`: what it counts, and what it refuses; the live graph is in test/ros."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_model import make_model

from robust_perception.bag import main
from robust_perception.bag_commands.check import Comparison, verdict


def label_map(*changed: tuple[int, int]) -> np.ndarray:
    """Zeros of 4 x 5 but for these pixels."""
    values = np.zeros((4, 5), np.uint8)
    for place in changed:
        values[place] = 1
    return values


def test_every_pixel_and_every_frame_counts() -> None:
    offline = {stamp: label_map() for stamp in (1, 2, 3, 4)}
    live = {1: label_map(), 2: label_map((0, 0), (3, 4)), 4: np.zeros((2, 2), np.uint8), 9: label_map((1, 1))}
    compared = Comparison.of(live, offline)
    assert compared == Comparison(frames=4, identical=1, missing=1, pixels=2 + 20)
    assert str(compared) == "4 frames, 1 identical, 1 without output, 22 pixels differ"


@given(
    st.dictionaries(st.integers(0, 20), st.integers(0, 3)),
    st.dictionaries(st.integers(0, 20), st.integers(0, 3)),
)
def test_only_what_is_there_and_equal_is_identical(live: dict[int, int], offline: dict[int, int]) -> None:
    compared = Comparison.of(
        {stamp: np.full((2, 3), value, np.uint8) for stamp, value in live.items()},
        {stamp: np.full((2, 3), value, np.uint8) for stamp, value in offline.items()},
    )
    assert compared.identical == sum(live.get(stamp) == value for stamp, value in offline.items())
    assert compared.missing == len(offline.keys() - live.keys())
    assert compared.pixels == 6 * (compared.frames - compared.identical - compared.missing)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--limit", "0"], "expected a whole number above 0, got '0'"),
        (["--rate", "0"], "expected a rate above 0"),
        (["--domain", "102"], "expected a ROS domain from 0 to 101, got '102'"),
        (["--patterns", "rgb,radar"], "got 'radar'"),
    ],
)
def test_wrong_usage_is_named(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["check", "--model", "m", "--data", "d", *words])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_without_ros_it_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "robust_perception.ros.replay_check", raising=False)
    monkeypatch.setitem(sys.modules, "rclpy", None)
    assert main(["check", "--model", "m", "--data", "d"]) == 1
    assert "needs 'rclpy'; source ROS, or pip install '.[ros]' in the source tree" in capsys.readouterr().err


def test_a_pattern_without_frames_proves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rclpy", reason="rclpy is not installed")
    model = make_model(tmp_path / "tiny")
    split = tmp_path / "data" / "test"
    for kind, name in (("rgb", "a"), ("rgb", "b"), ("depth", "b")):
        (split / kind).mkdir(parents=True, exist_ok=True)
        pixels = np.full((64, 96, 3), 90, np.uint8) if kind == "rgb" else np.full((64, 96), 900, np.uint16)
        cv2.imwrite(str(split / kind / f"{name}.png"), pixels)
    words = ["check", "--model", str(model), "--data", str(tmp_path / "data"), "--limit", "1"]
    assert main([*words, "--patterns", "rgb+depth"]) == 1
    assert "rgb+depth: expected a frame with all of its sensors among 1, got none" in capsys.readouterr().err


def test_frames_without_an_output_are_no_difference() -> None:
    same, lacking, other = Comparison(4, 4, 0, 0), Comparison(4, 3, 1, 0), Comparison(4, 2, 0, 9)
    assert verdict([same, same], 3.0) == "replay equals evaluation"
    assert verdict([same, lacking], 100.0) == "1 frames had no output at --rate 100: give a lower one"
    assert verdict([lacking, other], 3.0).startswith("replay differs in 2 label maps; 1 frames had no output")
