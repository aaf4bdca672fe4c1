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


@given(parts)
def test_it_lies_between_the_bias_and_one(pairs: list[tuple[float, float]]) -> None:
    said, true = [list(values) for values in zip(*pairs, strict=True)]
    found = reliability(said, true)
    assert abs(found["bias"]) - 1e-9 <= found["ece"] <= 1
    assert sum(b["count"] for b in found["bins"]) == found["count"] == len(pairs)
    assert reliability(said, said)["ece"] == pytest.approx(0, abs=1e-9)


def test_frames_are_judged_by_their_labelled_pixels_and_boxes_from_a_score_on() -> None:
    label = np.array([[1, 1], [0, 255]], np.uint8)
    boxes = np.array([[0, 0, 2, 1]], np.float32)
    sample = Sample("a", {}, label, boxes, np.array([1]), None)
    frame = SensorFrame(Modality.RGB, np.zeros((2, 2, 3), np.uint8), 1)
    seen = Perception(
        FrameSet(RGB, {Modality.RGB: frame}, Modality.RGB),
        np.array([[1, 0], [0, 0]], np.uint8),
        np.concatenate([boxes, boxes + 10, boxes]),
        np.array([0.8, 0.6, 0.01], np.float32),
        np.array([1, 1, 1]),
        np.zeros(0, np.float32),
        0.9,
    )
    calibration = Calibration()
    calibration(sample, seen)
    found = calibration.to_json(RGB)
    assert found["frames"]["points"] == [[0.9, pytest.approx(2 / 3)]]
    assert found["boxes"]["count"] == 2
    assert found["boxes"]["ece"] == pytest.approx(0.5 * 0.2 + 0.5 * 0.6)
    assert calibration.to_json(Pattern.parse("depth")) == {"boxes": None, "frames": None}
