"""The score from which a box is worth publishing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from robust_perception.datasets import Sample
from robust_perception.engine.engine import Engine
from robust_perception.evaluation.tally import Columns, Tally
from robust_perception.evaluation.thresholds import (
    FALLBACK,
    NEVER,
    Found,
    _best,
    add_boxes,
    best_thresholds,
    iou,
)
from robust_perception.vocabulary import FrameSet, Modality, Pattern, Perception, SensorFrame


def perception(boxes: list[list[float]], scores: list[float], ids: list[int]) -> Perception:
    frame = SensorFrame(Modality.RGB, np.zeros((8, 8, 3), np.uint8), 1)
    return Perception(
        frame_set=FrameSet(Pattern.parse("rgb"), {Modality.RGB: frame}, Modality.RGB),
        label_map=np.zeros((8, 8), np.uint8),
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        scores=np.array(scores, np.float32),
        class_ids=np.array(ids, np.int64),
        scene=np.zeros(0, np.float32),
        confidence=1.0,
    )


def sample() -> Sample:
    boxes = np.array([[0, 0, 10, 10], [20, 20, 40, 40]], np.float32)
    return Sample("a", {}, None, boxes, np.array([1, 2]), None)


def test_overlap_of_boxes() -> None:
    a = np.array([[0, 0, 2, 2]], np.float32)
    b = np.array([[0, 0, 2, 2], [1, 0, 3, 2], [5, 5, 6, 6], [1, 1, 1, 1]], np.float32)
    assert iou(a, b)[0] == pytest.approx([1.0, 1 / 3, 0.0, 0.0])


def test_the_threshold_keeps_the_hits_and_drops_the_rest() -> None:
    tally = Found()
    boxes = [[0, 0, 10, 10], [20, 20, 40, 40], [50, 50, 60, 60], [0, 0, 10, 10]]
    add_boxes(tally, sample(), perception(boxes, [0.9, 0.6, 0.4, 0.3], [1, 2, 1, 2]))
    assert tally.hits == [True, True, False, False]
    assert _best(tally) == pytest.approx(0.6)


def test_another_class_at_the_same_place_is_no_hit() -> None:
    tally = Found()
    add_boxes(tally, sample(), perception([[0, 0, 10, 10]], [0.9], [2]))
    assert tally.hits == [False]


@pytest.mark.parametrize(("height", "hit"), [(5.0, True), (4.9, False)])
def test_half_of_an_overlap_is_enough(height: float, hit: bool) -> None:
    tally = Found()
    add_boxes(tally, sample(), perception([[0, 0, 10, height]], [0.9], [1]))
    assert tally.hits == [hit]


def test_true_boxes_of_all_frames_count_for_the_recall() -> None:
    tally = Found()
    for _ in range(2):
        add_boxes(tally, sample(), perception([], [], []))
    assert tally.true_boxes == 4
    assert _best(Found([0.9, 0.8, 0.7], [True, False, True], 2)) == 0.7, "F1 is 2/3, 1/2, 4/5"


def test_as_often_right_as_wrong_is_published() -> None:
    assert _best(Found([0.9, 0.8], [False, True], 1)) == 0.8


def test_a_true_box_is_taken_once() -> None:
    tally = Found()
    add_boxes(tally, sample(), perception([[0, 0, 10, 10], [0, 0, 10, 9]], [0.5, 0.8], [1, 1]))
    assert tally.scores == pytest.approx([0.8, 0.5])
    assert tally.hits == [True, False]


def test_a_pattern_that_finds_nothing_publishes_nothing() -> None:
    tally = Found()
    add_boxes(tally, sample(), perception([], [], []))
    assert _best(tally) == NEVER


def test_without_a_true_box_the_fallback_stays() -> None:
    assert _best(Found()) == FALLBACK
    assert _best(Found([0.9, 0.4], [False, False])) == FALLBACK


def test_the_box_that_the_threshold_was_chosen_for_is_published() -> None:
    assert _best(Found([0.8236], [True], 1)) == 0.823


@pytest.mark.parametrize("hits", [[True, False, False], [False, False, True]])
def test_boxes_of_one_score_are_published_together_or_not_at_all(hits: list[bool]) -> None:
    assert _best(Found([0.9, 0.9, 0.9], hits, 1)) == NEVER
    assert _best(Found([0.9, 0.9, 0.9, 0.95], [*hits, True], 2)) == 0.95


@pytest.mark.parametrize("labelled", [True, False])
def test_boxes_of_sound_alone_are_held_against_those_of_the_picture(labelled: bool) -> None:
    found = perception([[2, 2, 4, 4]], [0.9], [1])
    picture = SensorFrame(Modality.DEPTH, np.zeros((16, 24), np.float32), 1)
    label = np.zeros((16, 24), np.uint8) if labelled else None
    true = np.array([[6, 4, 12, 8]], np.float32)
    sound = Sample("a", {Modality.DEPTH: picture}, label, true, np.array([1]), None)
    tally, metrics = Found(), Tally.of(2, ())
    add_boxes(tally, sound, found)
    metrics.add(sound, found, Columns([], []))
    assert tally.hits == [True]
    assert metrics.detection.compute()[0] == pytest.approx(100.0)


def test_boxes_more_often_wrong_than_right_are_not_published() -> None:
    tally = Found()
    wrong = [[60, 60, 70, 70]] * 3
    add_boxes(tally, sample(), perception([*wrong, [0, 0, 10, 10]], [0.9, 0.8, 0.7, 0.6], [1, 1, 1, 1]))
    assert tally.hits == [False, False, False, True]
    assert _best(tally) == NEVER


def test_a_box_of_a_class_that_nobody_labelled_is_neither_right_nor_wrong() -> None:
    tally = Found()
    boxes = [[0, 0, 10, 10], [50, 50, 60, 60], [60, 60, 70, 70]]
    known = np.array([True, True, True, False])
    add_boxes(tally, sample(), perception(boxes, [0.5, 0.9, 0.8], [1, 3, 2]), known)
    assert tally.scores == pytest.approx([0.8, 0.5])
    assert tally.hits == [False, True]
    assert tally.true_boxes == 2


CUP = np.array([[0, 0, 32, 32]], np.float32)


def shown(
    number: int, cups: np.ndarray | None, grey: int | None = None, metres: float | None = None
) -> Sample:
    """A picture whose first cell has a brightness or a distance: for the tiny model a cup, less so a box."""
    frames = {}
    for modality, value in ((Modality.RGB, grey), (Modality.DEPTH, metres)):
        if value is not None:
            rgb = modality is Modality.RGB
            data = np.zeros((64, 96, 3) if rgb else (64, 96), np.uint8 if rgb else np.float32)
            data[:32, :32] = value
            frames[modality] = SensorFrame(modality, data, 1 + number)
    ids = None if cups is None else np.ones(len(cups), np.int64)
    return Sample(str(number), frames, None, cups, ids, None)


def test_every_pattern_has_a_threshold_of_its_own_from_the_frames_that_show_it(model: Path) -> None:
    engine = Engine.load(model, threads=1)
    engine.score_threshold = 0.7
    rgb, depth, both, sound = (Pattern.parse(text) for text in ("rgb", "depth", "rgb+depth", "rgb+audio"))
    dataset = [
        shown(0, CUP, grey=204, metres=4.1),  # a cup by 0.8 and 0.41, and a box by half of that
        shown(1, CUP, grey=51),  # a cup by 0.2, less than the model itself would publish
        shown(2, None, grey=255),  # nobody knows whether there is one
        shown(3, CUP[:0], grey=254, metres=9.9),  # nothing there
    ]
    found = best_thresholds(engine, dataset, [rgb, depth, both, sound], [0, 1, 2])
    # rgb says 0.8 right, 0.4 wrong, 0.2 right, 0.1 wrong of two cups: F1 is 2/3, 1/2, 4/5, 2/3.
    assert found == pytest.approx({rgb: 0.2, depth: 0.41, both: 0.605, sound: FALLBACK}, abs=2e-3)
    assert best_thresholds(engine, dataset, [rgb], [1, 3])[rgb] == 1.0, "nothing is published"
    labelled = {1: np.array([True, True, True]), 3: np.array([True, False, False])}
    known = best_thresholds(engine, dataset, [rgb], [1, 3], labelled.__getitem__)
    assert known[rgb] == pytest.approx(0.2, abs=2e-3), "nobody looked for cups and boxes in the other"
    assert engine.score_threshold == 0.7


def test_scores_below_a_twentieth_are_not_looked_at(model: Path) -> None:
    engine = Engine.load(model, threads=1)
    for grey, wanted in ((13, 0.05), (12, NEVER)):  # 13 / 255 = 0.051
        found = best_thresholds(engine, [shown(grey, CUP, grey=grey)], [Pattern.parse("rgb")], [0])
        assert list(found.values()) == [wanted]
