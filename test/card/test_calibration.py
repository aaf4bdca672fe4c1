"""Expected calibration error by hand, and what is counted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robust_perception.card.calibration import Calibration, reliability
from robust_perception.datasets import Sample
from robust_perception.vocabulary import FrameSet, Modality, Pattern, Perception, SensorFrame

RGB = Pattern.parse("rgb")
parts = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=60)


def test_the_error_is_the_weighted_gap_of_the_bins() -> None:
    # three boxes said 0.9, of which two are right; one said 0.3, which is wrong
    found = reliability([0.9, 0.9, 0.9, 0.3], [1, 1, 0, 0])
    assert found["ece"] == pytest.approx(0.75 * (0.9 - 2 / 3) + 0.25 * 0.3)
    assert found["bias"] == pytest.approx(0.75 - 0.5)
    assert [(b["count"], b["confidence"]) for b in found["bins"]] == [(1, 0.3), (3, pytest.approx(0.9))]


def test_ten_bins_share_out_the_confidence_and_the_last_has_its_end() -> None:
    said = [0.05, 0.31, 0.39, 0.41, 0.91, 1.0]
    bins = reliability(said, [0] * 6)["bins"]
    assert [b["count"] for b in bins] == [1, 2, 1, 2]
    assert reliability([0.31, 0.39, 0.41], [1, 0, 1])["ece"] == pytest.approx((2 * 0.15 + 0.59) / 3)


@given(parts)
def test_it_lies_between_the_bias_and_one(pairs: list[tuple[float, float]]) -> None:
    said, true = [list(values) for values in zip(*pairs, strict=True)]
    found = reliability(said, true)
    assert abs(found["bias"]) - 1e-9 <= found["ece"] <= 1
    assert sum(b["count"] for b in found["bins"]) == found["count"] == len(pairs)
    assert reliability(said, said)["ece"] == pytest.approx(0, abs=1e-9)


def seen(label_map: list[list[int]], boxes: np.ndarray, scores: list[float]) -> Perception:
    frame = SensorFrame(Modality.RGB, np.zeros((2, 3, 3), np.uint8), 1)
    return Perception(
        FrameSet(RGB, {Modality.RGB: frame}, Modality.RGB),
        np.array(label_map, np.uint8),
        boxes,
        np.array(scores, np.float32),
        np.ones(len(scores), np.int64),
        np.zeros(0, np.float32),
        0.9,
    )


def test_frames_are_judged_by_their_labelled_pixels_and_boxes_from_a_score_on() -> None:
    label = np.array([[1, 1, 0], [0, 255, 255]], np.uint8)
    box = np.array([[0, 0, 2, 1]], np.float32)
    sample = Sample("a", {}, label, box, np.array([1]), None)
    calibration = Calibration()
    found = np.concatenate([box, box + 10, box + 20, box])
    calibration(sample, seen([[1, 0, 0], [0, 0, 1]], found, [0.8, 0.6, 0.05, 0.049]))
    told = calibration.to_json(RGB)
    assert told["frames"]["points"] == [[0.9, pytest.approx(3 / 4)]]
    assert told["boxes"]["count"] == 3
    assert told["boxes"]["ece"] == pytest.approx((0.2 + 0.6 + 0.05) / 3)
    assert calibration.to_json(Pattern.parse("depth")) == {"boxes": None, "frames": None}


def test_what_says_nothing_is_not_counted() -> None:
    unlabelled = np.full((2, 3), 255, np.uint8)
    nothing = np.zeros((0, 4), np.float32)
    calibration = Calibration()
    for boxes in (None, nothing):
        ids = None if boxes is None else np.zeros(0, np.int64)
        calibration(Sample("a", {}, unlabelled, boxes, ids, None), seen([[0] * 3] * 2, nothing, []))
    assert calibration.to_json(RGB) == {"boxes": None, "frames": None}
