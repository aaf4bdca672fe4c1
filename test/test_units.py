"""Stored values to canonical units."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from robust_perception import units

COUNTS = hnp.arrays(np.uint16, hnp.array_shapes(min_dims=2, max_dims=2, max_side=8))


@given(COUNTS)
def test_depth_is_millimetres_and_zero_is_no_measurement(counts: np.ndarray) -> None:
    metres = units.depth_from_counts(counts)
    assert metres.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(metres), counts == 0)
    there = counts > 0
    np.testing.assert_allclose(metres[there], counts[there] / 1000.0, rtol=1e-6)


@given(COUNTS, st.sampled_from([1 / 64, 0.01, 0.04]), st.sampled_from([0.0, 273.15, -10.0]))
def test_thermal_is_scaled_and_moved(counts: np.ndarray, scale: float, offset: float) -> None:
    kelvin = units.thermal_from_counts(counts, scale, offset)
    assert kelvin.dtype == np.float32
    expected = (counts * scale + offset).astype(np.float32)
    np.testing.assert_array_equal(np.isnan(kelvin), expected <= 0)
    there = expected > 0
    np.testing.assert_allclose(kelvin[there], expected[there], rtol=1e-5, atol=1e-4)


def test_thermal_of_a_data_folder_is_exact() -> None:
    counts = np.arange(1, 1 << 16, dtype=np.uint16)
    np.testing.assert_array_equal(units.thermal_from_counts(counts).astype(np.float64), counts / 64.0)


def test_kelvin_that_are_no_measurement_become_nan_and_the_rest_stays() -> None:
    kelvin = np.array([[295.5, 0.0, -273.15, np.inf, -np.inf, np.nan]], dtype=np.float32)
    np.testing.assert_array_equal(units.thermal_from_kelvin(kelvin), [[295.5, *[np.nan] * 5]])
    assert kelvin[0, 1] == 0.0, "the message's own buffer must not change"
    clean = np.array([[295.5, np.nan]], dtype=np.float32)
    assert units.thermal_from_kelvin(clean) is clean


def test_metres_that_are_no_measurement_become_nan_and_the_rest_stays() -> None:
    metres = np.array([[1.5, 0.0, -1.0, np.inf, -np.inf, np.nan]], dtype=np.float32)
    depth = units.depth_from_metres(metres)
    np.testing.assert_array_equal(depth, [[1.5, np.nan, np.nan, np.nan, np.nan, np.nan]])
    assert metres[0, 1] == 0.0, "the message's own buffer must not change"


def test_clean_metres_are_not_copied() -> None:
    metres = np.array([[1.5, np.nan]], dtype=np.float32)
    assert units.depth_from_metres(metres) is metres


def test_sound_spans_minus_one_to_one() -> None:
    samples = np.array([-32768, 0, 16384, 32767], dtype=np.int16)
    np.testing.assert_array_equal(units.audio_from_pcm16(samples), [-1.0, 0.0, 0.5, 32767 / 32768])


@pytest.mark.parametrize(
    ("convert", "expected"),
    [
        (units.depth_from_counts, "uint16"),
        (units.depth_from_metres, "float32"),
        (units.thermal_from_counts, "uint16"),
        (units.thermal_from_kelvin, "float32"),
        (units.thermal_from_grey, "uint8"),
        (units.audio_from_pcm16, "int16"),
    ],
)
def test_another_type_is_refused_with_both_types(convert: object, expected: str) -> None:
    with pytest.raises(ValueError, match=f"expected {expected}, got int32"):
        convert(np.zeros((2, 2), dtype=np.int32))  # type: ignore[operator]
