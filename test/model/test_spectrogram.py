"""The exported log-mel spectrogram against SciPy's Fourier transform and filters made in another way."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy import signal

from robust_perception.model.spectrogram import BANDS, FFT, FLOOR, HOP, MEAN, STD, WINDOW, LogMel, mel_filters
from robust_perception.vocabulary import AUDIO_RATE


def hertz_of_mel(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return 700.0 * np.expm1(mel * np.log(10.0) / 2595.0)


def edges() -> npt.NDArray[np.float64]:
    """The 66 corner frequencies, Hz."""
    low, high = 2595.0 * np.log10(1.0 + np.array([50.0, 8000.0]) / 700.0)
    return hertz_of_mel(np.linspace(low, high, BANDS + 2))


def reference(sound: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """The formula at the head of spectrogram.py, in float64."""
    window = signal.get_window("hann", WINDOW)
    starts = range(0, len(sound) - WINDOW + 1, HOP)
    frames = np.stack([sound[s : s + WINDOW].astype(np.float64) * window for s in starts])
    power = np.abs(np.fft.rfft(frames, FFT)) ** 2
    corners = edges()
    bins = np.fft.rfftfreq(FFT, 1.0 / AUDIO_RATE)
    filters = [np.interp(bins, corners[b : b + 3], [0.0, 1.0, 0.0], left=0, right=0) for b in range(BANDS)]
    return (np.log(np.array(filters) @ power.T + FLOOR) - MEAN) / STD


@pytest.mark.parametrize("kind", ["noise", "clicks", "chirp", "silence", "clipped"])
def test_it_is_the_formula(kind: str) -> None:
    generator = np.random.default_rng(5)
    t = np.arange(AUDIO_RATE) / AUDIO_RATE
    clicks = np.zeros(AUDIO_RATE)
    clicks[::1600] = 1.0
    sound = {
        "noise": generator.normal(0, 0.1, AUDIO_RATE),
        "clicks": clicks,
        "chirp": 0.5 * signal.chirp(t, 60, 1, 7900),
        "silence": np.zeros(AUDIO_RATE),
        "clipped": np.clip(generator.normal(0, 3, AUDIO_RATE), -1, 1),
    }[kind].astype(np.float32)
    found = LogMel()(torch.from_numpy(sound)[None]).numpy()[0]
    expected = reference(sound)
    assert found.shape == expected.shape == (64, 98)
    # Near the floor of 1e-6 the float32 products of the graph are what limits it.
    np.testing.assert_allclose(found, expected, atol=2e-3)


@pytest.mark.parametrize("hertz", [100.0, 440.0, 1000.0, 3000.0, 7000.0])
def test_a_tone_is_loudest_in_the_band_around_it(hertz: float) -> None:
    t = torch.arange(AUDIO_RATE) / AUDIO_RATE
    mean = LogMel()(0.5 * torch.sin(2 * torch.pi * hertz * t)[None])[0].mean(dim=1)
    corners, loudest = edges(), int(mean.argmax())
    spacing = AUDIO_RATE / FFT
    assert corners[loudest] - spacing <= hertz <= corners[loudest + 2] + spacing


def test_every_filter_hears_something() -> None:
    filters = mel_filters()
    assert filters.shape == (BANDS, FFT // 2 + 1)
    assert (filters >= 0).all()
    assert (filters <= 1).all()
    assert (filters.sum(axis=1) > 0).all(), f"deaf filters: {np.flatnonzero(filters.sum(axis=1) == 0)}"


def test_constants_are_not_among_the_weights() -> None:
    assert LogMel().state_dict() == {}
