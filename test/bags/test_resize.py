"""Pictures of another size: what is averaged, and what never is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from robust_perception.bags import resize
from robust_perception.vocabulary import Array, Modality


@pytest.mark.parametrize(("dtype", "none"), [(np.float32, np.nan), (np.uint16, 0)])
def test_pixels_without_a_temperature_cool_no_other(dtype: type[np.generic], none: float) -> None:
    kelvin = np.full((4, 8), 300, dtype)
    kelvin[0, 0], kelvin[:, 4:6], kelvin[2:, 2:4] = none, none, 320
    found = resize.picture(kelvin, (4, 2), Modality.THERMAL)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, np.array([[300, 300, none, 300], [300, 320, none, 300]], dtype))


def test_black_is_a_grey_and_no_missing_temperature() -> None:
    grey = np.zeros((2, 4), np.uint8)
    grey[:, 1] = 100
    np.testing.assert_array_equal(resize.picture(grey, (2, 1), Modality.THERMAL), [[50, 0]])


def test_distances_and_labels_are_never_averaged() -> None:
    pixels = np.array([[1, 3, 9, 9]] * 2, np.uint16)
    for modality in (Modality.DEPTH, None):
        assert set(np.unique(resize.picture(pixels, (3, 5), modality))) <= {1, 3, 9}


@given(
    kelvin=arrays.arrays(
        np.float32, (7, 9), elements=st.one_of(st.just(np.nan), st.floats(250, 400, width=32))
    ),
    width=st.integers(1, 20),
    height=st.integers(1, 20),
)
def test_a_temperature_is_between_those_it_is_made_of(kelvin: Array, width: int, height: int) -> None:
    found = resize.picture(kelvin, (width, height), Modality.THERMAL)
    assert found.shape == (height, width)
    there = found[np.isfinite(found)]
    if there.size:
        assert np.nanmin(kelvin) - 1e-3 <= there.min()
        assert there.max() <= np.nanmax(kelvin) + 1e-3
