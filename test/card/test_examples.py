"""The best and the worst of a course, each of a scene of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tiny_model import make_model

from robust_perception.bags.truth import Truth
from robust_perception.card.examples import EACH, Examples
from robust_perception.engine.manifest import Manifest
from robust_perception.evaluation.playback import Played
from robust_perception.vocabulary import FrameSet, Modality, Pattern, Perception, SensorFrame

RGB = Pattern.parse("rgb")


def played(time_ns: int) -> Played:
    frame = SensorFrame(Modality.RGB, np.full((64, 96, 3), 90, np.uint8), time_ns)
    none = np.zeros(0, np.float32)
    seen = Perception(
        FrameSet(RGB, {Modality.RGB: frame}, Modality.RGB),
        np.zeros((64, 96), np.uint8),
        none.reshape(0, 4),
        none,
        np.zeros(0, np.int64),
        none,
        1.0,
    )
    return Played(time_ns, RGB, {Modality.RGB: time_ns}, seen)


def test_a_scene_that_comes_back_is_shown_once(tmp_path: Path) -> None:
    examples = Examples(Manifest.load(make_model(tmp_path / "tiny", references=False)), 10**9)
    qualities = {0: [50.0, 90.0], 1: [30.0, 80.0], 2: [60.0, 70.0], 3: [float("nan"), 10.0]}
    for turn in range(2):
        for scene, values in qualities.items():
            label = np.full((64, 96), scene % 3, np.uint8)
            label[0, scene] = 255
            time_ns = 10**9 * (1 + turn * 4 + scene)
            examples(played(time_ns), Truth(time_ns, label), values[turn])
    best, worst = ([e.facts["foreground_miou"] for e in kept] for kept in (examples.best, examples.worst))
    assert (best, worst) == ([90.0, 80.0], [10.0, 30.0])
    assert len(examples.best) == EACH
    assert examples.best[0].facts["time_s"] == 4.0
    for example in (*examples.best, *examples.worst):
        assert example.said[:2] == example.true[:2] == b"\xff\xd8", "a JPEG"


def test_an_output_without_a_truth_is_no_example(tmp_path: Path) -> None:
    examples = Examples(Manifest.load(make_model(tmp_path / "tiny", references=False)), 0)
    examples(played(1), None, float("nan"))
    examples(played(2), Truth(2), 50.0)
    assert (list(examples.best), list(examples.worst)) == ([], [])
