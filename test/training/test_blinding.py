"""A blinded image is of the same kind and shows next to nothing; only one of several sensors is blinded."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robust_perception.datasets import Sample
from robust_perception.presence.blindness import shown
from robust_perception.training.augmentation import make_crop
from robust_perception.training.blinding import LEFT, blinded
from robust_perception.training.config import AugmentationConfig
from robust_perception.vocabulary import IMAGE_MODALITIES, Array, Modality, SensorFrame

SIZE = (96, 128)


def pictures() -> dict[Modality, Array]:
    y, x = np.mgrid[0 : SIZE[0], 0 : SIZE[1]] / 96
    scene = 0.5 + 0.4 * np.sin(9 * x) * np.cos(7 * y)
    return {
        Modality.RGB: np.repeat((255 * scene).astype(np.uint8)[..., None], 3, axis=2),
        Modality.DEPTH: (1 + 3 * scene).astype(np.float32),
        Modality.THERMAL: (290 + 10 * scene).astype(np.float32),
    }


@pytest.mark.parametrize("modality", IMAGE_MODALITIES)
@given(seed=st.integers(0, 2**31))
def test_next_to_nothing_is_left(modality: Modality, seed: int) -> None:
    image = pictures()[modality]
    kept = image.copy()
    changed = blinded(modality, image, np.random.default_rng(seed))
    assert changed.dtype == image.dtype
    assert changed.shape == image.shape
    assert np.array_equal(image, kept)
    assert np.array_equal(changed, blinded(modality, image, np.random.default_rng(seed)), equal_nan=True)
    if modality is Modality.DEPTH:
        covered = np.nanmax(changed, initial=0.0) < 1.0
        assert covered or np.isfinite(changed).mean() < LEFT[1] + 0.25
        there = np.isfinite(changed)
        assert covered or np.array_equal(changed[there], image[there])
    elif modality is Modality.THERMAL:
        value = shown(SensorFrame(modality, changed, 1))
        assert value is not None
        assert value < 1.5 * LEFT[1] * 8


def test_a_thermal_picture_without_a_temperature_stays_one() -> None:
    nothing = np.full(SIZE, np.nan, np.float32)
    assert np.isnan(blinded(Modality.THERMAL, nothing, np.random.default_rng(0))).all()


def sample(modalities: tuple[Modality, ...]) -> Sample:
    images = pictures()
    images[Modality.AUDIO] = np.zeros(16000, np.float32)
    return Sample("frame", {m: SensorFrame(m, images[m], 1) for m in modalities}, None, None, None, None)


def changed_sensors(modalities: tuple[Modality, ...], blind: float, seed: int) -> list[Modality]:
    plain = AugmentationConfig(
        crop=SIZE, scale=(1.0, 1.0), flip=0.0, around_object=0.0, brightness=0.0, contrast=0.0,
        saturation=0.0, darkness=0.0, thermal_noise=0.0, depth_scale=0.0, depth_holes=0, audio_gain=0.0,
        audio_shift=False,
    )  # fmt: skip
    shown_to_it = make_crop(
        sample(modalities),
        modalities,
        SIZE,
        dataclasses.replace(plain, blind=blind),
        np.random.default_rng(seed),
    ).inputs
    images = pictures()
    return [m for m in modalities if m.is_image and not np.allclose(shown_to_it[m], images[m], atol=0.02)]


def test_one_of_several_image_sensors_is_blinded() -> None:
    found = [changed_sensors(tuple(Modality), 1.0, seed) for seed in range(30)]
    assert {len(changed) for changed in found} == {1}
    assert {changed[0] for changed in found} == set(IMAGE_MODALITIES)
    half = [len(changed_sensors(tuple(Modality), 0.5, seed)) for seed in range(40)]
    assert 8 < sum(half) < 32


def test_the_only_image_sensor_is_never_blinded() -> None:
    for seed in range(10):
        assert changed_sensors((Modality.RGB, Modality.AUDIO), 1.0, seed) == []
        assert changed_sensors(tuple(Modality), 0.0, seed) == []
