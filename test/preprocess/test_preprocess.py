"""Sensor frames to network inputs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from robust_perception.preprocess import INPUT_DTYPES, input_shape, prepare
from robust_perception.units import NOMINAL_KELVIN
from robust_perception.vocabulary import IMAGE_MODALITIES, Modality, SensorFrame

SIDES = st.tuples(st.integers(1, 40), st.integers(1, 40))


def image(modality: Modality, size: tuple[int, int], seed: int = 0) -> SensorFrame:
    generator = np.random.default_rng(seed)
    if modality is Modality.RGB:
        return SensorFrame(modality, generator.integers(0, 256, (*size, 3), dtype=np.uint8), 1)
    values = (
        generator.uniform(0.5, 4, size) if modality is Modality.DEPTH else generator.uniform(280, 310, size)
    )
    return SensorFrame(modality, values.astype(np.float32), 1)


@pytest.mark.parametrize("modality", IMAGE_MODALITIES)
@given(source=SIDES, target=SIDES)
def test_inputs_have_the_models_shape_and_type(
    modality: Modality, source: tuple[int, int], target: tuple[int, int]
) -> None:
    prepared = prepare(image(modality, source), target)
    assert prepared.shape == input_shape(modality, target)
    assert prepared.dtype == INPUT_DTYPES[modality]
    assert prepared.flags.c_contiguous


@pytest.mark.parametrize("modality", IMAGE_MODALITIES)
def test_a_frame_of_the_models_size_is_not_copied(modality: Modality) -> None:
    frame = image(modality, (24, 32))
    assert np.shares_memory(prepare(frame, (24, 32)), frame.data)


@pytest.mark.parametrize("modality", [Modality.RGB, Modality.THERMAL])
@given(source=SIDES, target=SIDES)
def test_resizing_stays_within_the_values(
    modality: Modality, source: tuple[int, int], target: tuple[int, int]
) -> None:
    frame = image(modality, source)
    prepared = prepare(frame, target)
    assert prepared.min() >= frame.data.min() - 1e-3
    assert prepared.max() <= frame.data.max() + 1e-3


@given(source=SIDES, target=SIDES, seed=st.integers(0, 9))
def test_depth_is_picked_never_mixed(source: tuple[int, int], target: tuple[int, int], seed: int) -> None:
    frame = image(Modality.DEPTH, source, seed)
    frame.data[np.random.default_rng(seed).random(source) < 0.3] = np.nan
    prepared = prepare(frame, target)
    known = prepared[~np.isnan(prepared)]
    assert set(known.tolist()) <= set(frame.data[~np.isnan(frame.data)].tolist())


def test_dead_thermal_pixels_take_the_mean_of_the_others() -> None:
    kelvin = np.array([[290, 300], [np.nan, np.inf]], dtype=np.float32)
    prepared = prepare(SensorFrame(Modality.THERMAL, kelvin, 1), (2, 2))
    np.testing.assert_array_equal(prepared, [[290, 300], [295, 295]])
    assert np.isnan(kelvin[1, 0]), "the frame's own buffer must not change"


def test_thermal_without_a_finite_pixel_is_refused() -> None:
    frame = SensorFrame(Modality.THERMAL, np.full((2, 2), np.nan, np.float32), 1)
    with pytest.raises(ValueError, match=r"thermal frame: expected temperatures, got \(2, 2\) without one"):
        prepare(frame, (2, 2))


def test_a_picture_that_is_no_temperature_gets_the_nominal_range() -> None:
    grey = np.array([[0, 255]], dtype=np.float32)
    prepared = prepare(SensorFrame(Modality.THERMAL, grey, 1, radiometric=False), (1, 2))
    np.testing.assert_allclose(prepared, [NOMINAL_KELVIN], rtol=1e-6)


@given(
    hnp.arrays(np.float32, st.integers(1, 40_000), elements=st.floats(-1, 1, width=32), fill=st.just(0.25))
)
def test_sound_is_the_last_second_with_silence_before_a_shorter_one(samples: np.ndarray) -> None:
    prepared = prepare(SensorFrame(Modality.AUDIO, samples, 1), (240, 320))
    assert prepared.shape == (16000,)
    heard = min(16000, samples.size)
    np.testing.assert_array_equal(prepared[16000 - heard :], samples[-heard:])
    assert not prepared[: 16000 - heard].any()


@pytest.mark.parametrize(
    ("modality", "data", "message"),
    [
        (
            Modality.RGB,
            np.zeros((4, 4), np.uint8),
            r"rgb frame: expected uint8 \(H, W, 3\), got uint8 \(4, 4\)",
        ),
        (Modality.RGB, np.zeros((4, 4, 4), np.uint8), r"got uint8 \(4, 4, 4\)"),
        (Modality.RGB, np.zeros((4, 4, 3), np.float32), r"got float32 \(4, 4, 3\)"),
        (Modality.DEPTH, np.zeros((4, 4), np.uint16), r"depth frame: expected float32 \(H, W\), got uint16"),
        (Modality.THERMAL, np.zeros((0, 4), np.float32), r"thermal frame: expected .* got float32 \(0, 4\)"),
        (
            Modality.AUDIO,
            np.zeros((4, 2), np.float32),
            r"audio frame: expected float32 \(n,\).*got float32 \(4, 2\)",
        ),
        (Modality.AUDIO, np.zeros(0, np.float32), r"audio frame: .*got float32 \(0,\)"),
    ],
)
def test_other_types_and_shapes_are_refused(modality: Modality, data: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prepare(SensorFrame(modality, data, 1), (4, 4))
