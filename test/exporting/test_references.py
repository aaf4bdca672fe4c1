"""What torch and ONNX Runtime may differ by is measured by what was rounded."""

from __future__ import annotations

import numpy as np
import pytest

from robust_perception.exporting.references import difference


def test_a_value_is_compared_with_itself_or_one() -> None:
    old = np.float32([[0.0, 0.5, -200.0]])
    assert difference("scene", old, old + np.float32([[3e-5, 0.0, 0.0]])) == pytest.approx(3e-5)
    assert difference("scene", old, old + np.float32([[0.0, 0.0, 0.02]])) == pytest.approx(1e-4, rel=0.01)


def test_a_side_is_a_difference_and_compared_with_the_box() -> None:
    # A distance of 160.4 from a centre of 160.0, rounded otherwise: 1.4e-4 pixels of a box of 320.
    old = np.float32([[-0.4, 20.0, 319.6, 90.0], [4.0, 4.0, 8.0, 8.0]])
    new = old + np.float32([[1.4e-4, 0.0, 0.0, 0.0], [0.0] * 4])
    assert difference("boxes", old, new) == pytest.approx(1.4e-4 / 320, rel=0.01)
    small = old + np.float32([[0.0] * 4, [0.0, 1.6e-3, 0.0, 0.0]])
    assert difference("boxes", old, small) == pytest.approx(4e-4, rel=0.01)


def test_what_is_no_number_passes_no_limit() -> None:
    old = np.float32([[1.0, 2.0, 3.0, 4.0]])
    assert np.isnan(difference("boxes", old, old * np.nan))
