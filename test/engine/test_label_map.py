"""The label map is the argmax of interpolated scores, whichever way it is made."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from robust_perception.engine import label_map as module
from robust_perception.engine.label_map import label_map, magnification

SIDES = st.integers(1, 9)
CLOSE = 1e-4
"""Scores this close may swap by rounding."""


def interpolated(scores: np.ndarray, factor: int) -> np.ndarray:
    """Bilinear, half-pixel centres, edges repeated, in float64 and by the definition."""

    def along(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        place = np.clip((np.arange(count * factor) + 0.5) / factor - 0.5, 0, count - 1)
        before = np.floor(place).astype(int)
        return before, np.minimum(before + 1, count - 1), place - before

    wide = scores.astype(np.float64)
    top, bottom, down = along(scores.shape[1])
    left, right, across = along(scores.shape[2])
    rows = wide[:, top] * (1 - down)[:, None] + wide[:, bottom] * down[:, None]
    return rows[:, :, left] * (1 - across) + rows[:, :, right] * across


def require_largest(labels: np.ndarray, scores: np.ndarray, factor: int) -> None:
    """Every pixel's label has the largest interpolated score, but for rounding."""
    fine = interpolated(scores, factor)
    chosen = np.take_along_axis(fine, labels[None].astype(np.intp), axis=0)[0]
    assert labels.dtype == np.uint8
    assert labels.shape == fine.shape[1:]
    assert (fine.max(axis=0) - chosen).max() <= CLOSE


@given(
    scores=st.tuples(st.integers(2, 5), SIDES, SIDES).flatmap(
        lambda shape: arrays.arrays(np.float32, shape, elements=st.floats(-8, 8, width=32))
    ),
    factor=st.sampled_from([2, 4, 6]),
)
@settings(max_examples=300, deadline=None)
def test_it_is_the_argmax_of_interpolated_scores(scores: np.ndarray, factor: int) -> None:
    require_largest(label_map(scores, factor), scores, factor)


@pytest.mark.parametrize("blur", [0.0, 2.0, 8.0, 30.0], ids=lambda b: f"blur {b}")
def test_few_or_many_mixed_cells_give_the_same(blur: float, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = np.random.default_rng(1).standard_normal((10, 60, 80)).astype(np.float32)
    if blur:
        scores = np.stack([cv2.GaussianBlur(one, (0, 0), blur) for one in scores]) * 100
    made = {}
    for many in (1, 10**9):  # never all at once; all at once from the first mixed cell on
        monkeypatch.setattr(module, "MANY", many)
        made[many] = label_map(scores, 4)
        require_largest(made[many], scores, 4)
    assert (made[1] != made[10**9]).mean() < 1e-4


def test_one_class_everywhere_and_ties_give_the_first() -> None:
    scores = np.zeros((3, 4, 5), np.float32)
    assert not label_map(scores, 4).any()
    scores[2] = 1.0
    assert (label_map(scores, 4) == 2).all()


def test_a_point_that_differs_has_the_pixels_around_it() -> None:
    scores = np.stack([np.zeros((5, 5)), np.full((5, 5), -1.0)]).astype(np.float32)
    scores[1, 2, 2] = 1.0
    labels = label_map(scores, 4)
    assert labels[9:11, 9:11].all()
    assert labels.sum() < 3 * 16
    assert (labels == labels.T).all()


@pytest.mark.parametrize(
    ("size", "coarse", "expected"),
    [
        ((240, 320), (60, 80), 4),
        ((64, 96), (32, 48), 2),
        ((240, 320), (240, 320), None),  # odd
        ((240, 320), (80, 80), None),  # not the same along both
        ((242, 320), (60, 80), None),  # not whole
        ((240, 320), (0, 0), None),
    ],
)
def test_only_an_even_number_of_pixels_a_point_will_do(
    size: tuple[int, int], coarse: tuple[int, int], expected: int | None
) -> None:
    assert magnification(size, coarse) == expected
