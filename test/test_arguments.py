"""What command lines share: numbers, the way to files that a command writes, options that go together."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from robust_perception import arguments


@pytest.mark.parametrize(
    ("read", "wrong", "expected"),
    [
        (arguments.positive, ["0", "x", "1.5", ""], "a whole number above 0"),
        (arguments.count, ["-1", "abc"], "a whole number from 0 on"),
        (arguments.seed, ["-1", "one"], "a seed, a whole number from 0 on"),
        (arguments.domain, ["-1", "102", "home"], "a ROS domain from 0 to 101"),
        (arguments.rate, ["0", "1001", "nan", "fast"], "a rate above 0 and up to 1000 frames a second"),
        (arguments.positive_number, ["0", "inf", "nan", "long"], "a number above 0"),
        (arguments.number_from_zero, ["-1", "inf", "nan", "little"], "a number from 0 on"),
        (arguments.number, ["nan", "-inf", "cold"], "a number"),
    ],
)
def test_a_number_that_does_not_fit_is_told_what_was_expected(
    read: Callable[[str], float], wrong: list[str], expected: str
) -> None:
    for text in wrong:
        with pytest.raises(argparse.ArgumentTypeError) as refused:
            read(text)
        assert str(refused.value) == f"expected {expected}, got {text!r}"
    assert read("1") == 1


def test_a_sensor_that_there_is_not_is_told_which_there_are() -> None:
    assert arguments.sensor("thermal") == "thermal"
    with pytest.raises(argparse.ArgumentTypeError, match="out of rgb, depth, thermal, audio, got 'radar'"):
        arguments.sensor("radar")


def test_where_nothing_can_be_written_is_found_out_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments.make_way(None, tmp_path / "a" / "deep" / "report.json", tmp_path / "b" / "page.html")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    assert not any(path.is_file() for path in tmp_path.rglob("*"))
    with pytest.raises(
        IsADirectoryError, match="a: expected a file to write, got a folder; name a file in it"
    ):
        arguments.make_way(tmp_path / "a")
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path / "a")  # root may write everywhere
    with pytest.raises(PermissionError, match=r"x\.json: expected a file to write, got one that may not be"):
        arguments.make_way(tmp_path / "a" / "x.json")
