"""A frame that shows nothing is refused, by what its sensor can show; darkness is no blindness."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robust_perception.presence import SensorConfig, SensorState, Synchronizer, SynchronizerConfig
from robust_perception.presence.blindness import blind, shown
from robust_perception.presence.config import MILLISECOND
from robust_perception.presence.errors import ConfigError
from robust_perception.units import GREY_A_KELVIN
from robust_perception.vocabulary import Array, Modality, Reason, SensorFrame

PERIOD = 100 * MILLISECOND
LEAST = {Modality.RGB: 0.01, Modality.DEPTH: 0.05, Modality.THERMAL: 0.25}
GENERATOR = np.random.default_rng(2)


def scene(height: int = 240, width: int = 320) -> Array:
    """Grey values 0..1 of things of several sizes."""
    y, x = np.mgrid[0:height, 0:width] / height
    picture: Array = 0.5 + 0.3 * np.sin(5 * x) * np.cos(4 * y)
    picture[height // 4 : height // 2, width // 8 : width // 3] = 0.9
    return picture


def noisy(picture: Array, sigma: float) -> Array:
    return picture + GENERATOR.normal(0, sigma, picture.shape)


def rgb(grey: Array) -> Array:
    return np.repeat(np.clip(np.rint(grey), 0, 255).astype(np.uint8)[..., np.newaxis], 3, axis=2)


def frame(modality: Modality, data: Array, number: int = 1, radiometric: bool = True) -> SensorFrame:
    return SensorFrame(modality, data, number * PERIOD, radiometric=radiometric)


def kelvin(span: float) -> Array:
    return (295 + span * scene() + GENERATOR.normal(0, 0.05, (240, 320))).astype(np.float32)


def metres(part: float) -> Array:
    depth = 1.0 + scene().astype(np.float32)
    depth[GENERATOR.random(depth.shape) >= part] = np.nan
    return depth


SEEING = {
    "day": (Modality.RGB, rgb(noisy(255 * scene(), 3))),
    "night": (Modality.RGB, rgb(noisy(6 * scene(), 1))),
    "high contrast, half of it glare": (Modality.RGB, rgb(500 * scene())),
    "a person in the open": (Modality.DEPTH, metres(0.08)),
    "a room": (Modality.THERMAL, kelvin(2.0)),
}
BLIND = {
    "glare": (Modality.RGB, rgb(noisy(np.full((240, 320), 254.0), 1))),
    "fog": (Modality.RGB, rgb(noisy(200 + 3 * scene(), 2))),
    "black": (Modality.RGB, rgb(np.zeros((240, 320)))),
    "specks": (Modality.DEPTH, metres(0.02)),
    "shutter": (Modality.THERMAL, kelvin(0.0)),
}


@pytest.mark.parametrize("name", SEEING)
def test_what_shows_something_is_taken(name: str) -> None:
    modality, data = SEEING[name]
    value = shown(frame(modality, data))
    assert value is not None
    assert value >= LEAST[modality]


@pytest.mark.parametrize("name", BLIND)
def test_what_shows_nothing_is_not(name: str) -> None:
    modality, data = BLIND[name]
    value = shown(frame(modality, data))
    assert value is not None
    assert value < LEAST[modality]


def test_a_lamp_in_the_fog_is_no_contrast() -> None:
    fog = 200 + 3 * scene()
    fog[:20, :20] = 255
    fog[-20:, -20:] = 0
    value = shown(frame(Modality.RGB, rgb(fog)))
    assert value is not None
    assert value < LEAST[Modality.RGB]


@pytest.mark.parametrize("channel", range(3))
def test_every_colour_counts(channel: int) -> None:
    picture = np.full((240, 320, 3), 100, np.uint8)
    picture[..., channel] = 255 * scene()
    value = shown(frame(Modality.RGB, picture))
    assert value is not None
    assert value > 10 * LEAST[Modality.RGB]


def test_as_much_as_must_be_shown_is_enough() -> None:
    depth = np.ones((96, 96), np.float32)
    depth[:, ::2] = np.nan
    sensor = SensorConfig(Modality.DEPTH, timeout_ns=3 * PERIOD, least_shown=0.5)
    presence = Synchronizer(SynchronizerConfig((sensor,)))
    presence.observe(frame(Modality.DEPTH, depth), PERIOD, PERIOD)
    assert presence.status(PERIOD, PERIOD)[Modality.DEPTH].state is SensorState.ALIVE


def test_sound_is_never_blind() -> None:
    assert shown(frame(Modality.AUDIO, np.zeros(16000, np.float32))) is None


def test_grey_thermal_counts_in_kelvin_as_everywhere() -> None:
    warm = kelvin(4.0)
    grey = ((warm - 283.15) * GREY_A_KELVIN).astype(np.float32)
    as_grey = shown(frame(Modality.THERMAL, grey, radiometric=False))
    assert as_grey == pytest.approx(shown(frame(Modality.THERMAL, warm)), rel=1e-3)


def test_a_few_pixels_without_a_temperature_change_little_and_none_at_all_is_blind() -> None:
    warm = kelvin(4.0)
    whole = shown(frame(Modality.THERMAL, warm))
    warm[::7, ::5] = np.nan
    assert shown(frame(Modality.THERMAL, warm)) == pytest.approx(whole, rel=0.1)
    assert shown(frame(Modality.THERMAL, np.full((240, 320), np.nan, np.float32))) == 0.0


@given(light=st.floats(0.05, 1.0))
def test_less_light_is_as_much_contrast(light: float) -> None:
    full, less = rgb(255 * scene()), rgb(255 * light * scene())
    rounded = 2.0 / (255 * light)  # grey values are whole numbers: half of one at either end
    assert shown(frame(Modality.RGB, less)) == pytest.approx(shown(frame(Modality.RGB, full)), abs=rounded)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (480, 640), (1080, 1920)])
def test_any_size_has_a_value(size: tuple[int, int]) -> None:
    for modality, shape in ((Modality.RGB, (*size, 3)), (Modality.DEPTH, size), (Modality.THERMAL, size)):
        data = GENERATOR.random(shape)
        data = (255 * data).astype(np.uint8) if modality is Modality.RGB else data.astype(np.float32)
        value = shown(frame(modality, data))
        assert value is not None
        assert np.isfinite(value)


def test_the_words_have_found_expected_parameter_and_cause() -> None:
    assert blind(Modality.RGB, 0.0042, 0.01) == (
        "a contrast of 0.004, at least 0.01 is expected (rgb.min_contrast); covered, fogged or glared at?"
    )
    assert blind(Modality.DEPTH, 0.021, 0.05) == (
        "distances in 2.1% of the pixels, at least 5.0% is expected (depth.min_measured); out of range?"
    )
    assert blind(Modality.THERMAL, 0.1, 0.25) == (
        "a span of 0.10 K, at least 0.25 K is expected (thermal.min_span); covered, or its shutter closed?"
    )


def synchronizer(least: float) -> Synchronizer:
    sensor = SensorConfig(Modality.RGB, timeout_ns=3 * PERIOD, least_shown=least)
    return Synchronizer(SynchronizerConfig((sensor,)))


def test_a_blind_sensor_is_lost_after_its_timeout_and_comes_back_when_it_sees() -> None:
    presence = synchronizer(0.01)

    def state_after(number: int, grey: Array) -> SensorState:
        now = number * PERIOD
        presence.observe(frame(Modality.RGB, rgb(grey), number), now, now)
        return presence.status(now, now)[Modality.RGB].state

    assert state_after(1, noisy(255 * scene(), 3)) is SensorState.ALIVE
    states = [state_after(number, noisy(np.full((240, 320), 254.0), 1)) for number in range(2, 7)]
    assert states == [SensorState.ALIVE] * 3 + [SensorState.BLIND] * 2, "the last good picture still counts"
    status = presence.status(6 * PERIOD, 6 * PERIOD)[Modality.RGB]
    assert status.reason is Reason.BLIND
    assert "rgb.min_contrast" in status.detail
    assert status.refused == 5
    assert status.losses == 1
    assert state_after(7, noisy(255 * scene(), 3)) is SensorState.RECOVERING
    assert state_after(8, noisy(255 * scene(), 3)) is SensorState.ALIVE


def test_one_blind_picture_is_bridged() -> None:
    presence = synchronizer(0.01)
    pictures = [scene(), scene(), np.zeros((240, 320)), scene()]
    for number, picture in enumerate(pictures, start=1):
        now = number * PERIOD
        presence.observe(frame(Modality.RGB, rgb(noisy(255 * picture, 3)), number), now, now)
        assert presence.status(now, now)[Modality.RGB].state is SensorState.ALIVE
    assert presence.status(now, now)[Modality.RGB].losses == 0


def test_without_the_setting_everything_is_taken() -> None:
    presence = synchronizer(0.0)
    presence.observe(frame(Modality.RGB, rgb(np.zeros((240, 320)))), PERIOD, PERIOD)
    assert presence.status(PERIOD, PERIOD)[Modality.RGB].state is SensorState.ALIVE


@pytest.mark.parametrize("least", [-0.1, float("nan"), float("inf")])
def test_a_setting_that_is_none_is_refused(least: float) -> None:
    with pytest.raises(ConfigError, match="least_shown"):
        SensorConfig(Modality.RGB, timeout_ns=1, least_shown=least)
