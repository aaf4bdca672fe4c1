"""The score from which a box is worth publishing."""

from __future__ import annotations

import numpy as np
import pytest

from robust_perception.datasets import Sample
from robust_perception.evaluation.tally import Columns, Tally
from robust_perception.evaluation.thresholds import FALLBACK, NEVER, Found, _best, add_boxes, iou
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
