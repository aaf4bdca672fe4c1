"""Intersection over union against hand-made numbers and its definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from robust_perception.evaluation.segmentation import ConfusionMatrix
from robust_perception.vocabulary import UNLABELLED

CLASSES = 4
MAPS = hnp.arrays(np.uint8, (6, 5), elements=st.sampled_from([0, 1, 2, 3, UNLABELLED]))


def measure(truth: np.ndarray, predicted: np.ndarray) -> ConfusionMatrix:
    matrix = ConfusionMatrix(CLASSES)
    matrix.add(truth, predicted)
    return matrix


def test_a_case_worked_out_by_hand() -> None:
    truth = np.array([[0, 0, 1, 1], [2, 2, UNLABELLED, 1]], np.uint8)
    predicted = np.array([[0, 1, 1, 1], [2, 0, 3, UNLABELLED]], np.uint8)
    matrix = measure(truth, predicted)
    # background: 1 of 2 true and 1 wrong; class 1: 2 of 3 true and 1 wrong; class 2: 1 of 2 true;
    # class 3 was said only where nobody knows
    np.testing.assert_allclose(matrix.iou(), [100 / 3, 50, 50, np.nan])
    assert matrix.foreground_miou() == pytest.approx(50)


def test_a_class_that_was_only_predicted_counts_as_zero() -> None:
    truth = np.array([[1, 1, 0, 0]], np.uint8)
    assert measure(truth, truth).foreground_miou() == 100
    predicted = np.array([[1, 1, 0, 2]], np.uint8)
    assert measure(truth, predicted).foreground_miou() == 50


def test_background_is_not_foreground() -> None:
    blank = np.zeros((3, 3), np.uint8)
    assert np.isnan(measure(blank, blank).foreground_miou())


@given(truth=MAPS, predicted=MAPS)
def test_equals_its_definition(truth: np.ndarray, predicted: np.ndarray) -> None:
    known = truth != UNLABELLED
    expected = []
    for c in range(CLASSES):
        both = np.logical_and(truth == c, predicted == c)[known].sum()
        either = np.logical_or(truth == c, predicted == c)[known].sum()
        expected.append(100 * both / either if either else np.nan)
    np.testing.assert_allclose(measure(truth, predicted).iou(), expected)


@given(truth=MAPS, predicted=MAPS)
def test_values_are_between_0_and_100(truth: np.ndarray, predicted: np.ndarray) -> None:
    iou = measure(truth, predicted).iou()
    assert ((iou >= 0) & (iou <= 100))[~np.isnan(iou)].all()


@given(truth=MAPS)
def test_a_perfect_prediction_gives_100(truth: np.ndarray) -> None:
    matrix = measure(truth, truth)
    iou = matrix.iou()
    assert (iou[~np.isnan(iou)] == 100).all()
    foreground = np.isin(truth, [1, 2, 3]).any()
    assert matrix.foreground_miou() == 100 if foreground else np.isnan(matrix.foreground_miou())


@given(truth=MAPS, predicted=MAPS, order=st.permutations(range(CLASSES)))
def test_renaming_classes_renames_values(truth: np.ndarray, predicted: np.ndarray, order: list[int]) -> None:
    names = np.full(256, UNLABELLED, np.uint8)
    names[:CLASSES] = order
    renamed = measure(names[truth], names[predicted]).iou()
    np.testing.assert_array_equal(renamed[order], measure(truth, predicted).iou())


@given(frames=st.lists(st.tuples(MAPS, MAPS), min_size=1, max_size=4))
def test_frames_add_up_like_one_large_frame(frames: list[tuple[np.ndarray, np.ndarray]]) -> None:
    one_by_one = ConfusionMatrix(CLASSES)
    for truth, predicted in frames:
        one_by_one.add(truth, predicted)
    whole = measure(np.concatenate([t for t, _ in frames]), np.concatenate([p for _, p in frames]))
    np.testing.assert_array_equal(one_by_one.counts, whole.counts)


def test_wrong_values_and_shapes_are_refused() -> None:
    blank = np.zeros((2, 2), np.uint8)
    with pytest.raises(ValueError, match=r"expected the shape \(2, 2\) of the ground truth, got \(2, 3\)"):
        measure(blank, np.zeros((2, 3), np.uint8))
    with pytest.raises(ValueError, match="prediction: expected values below 4 or 255, got 9"):
        measure(blank, np.full((2, 2), 9, np.uint8))
    with pytest.raises(ValueError, match="ground truth: expected"):
        measure(np.full((2, 2), 4, np.uint8), blank)


@pytest.mark.parametrize("counts", [np.zeros((2, 3), np.int64), np.zeros((3, 4), np.float64)])
def test_counts_of_others_are_refused(counts: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected int64 \(3, 4\), got"):
        ConfusionMatrix(3).join(counts)
