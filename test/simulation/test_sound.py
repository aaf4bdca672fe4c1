"""Sound as a function of the sample index: no graphics needed."""

from __future__ import annotations

import numpy as np
import pytest

from robust_perception.simulation.scene import Emitter
from robust_perception.simulation.sound import SPEED_OF_SOUND, Soundscape
from robust_perception.vocabulary import AUDIO_RATE

HERE = np.array([0.0, 0.0, 1.0])
NEAR = np.array([0.0, 1.0, 1.0])


def scape(*kinds: str, quiet: float = 1e-6) -> Soundscape:
    # Seed 1 of the room has no knocks, which would be louder than what is measured here.
    return Soundscape(tuple(Emitter(kind, 11, 0.5, None) for kind in kinds), quiet, 1)


@pytest.mark.parametrize("kind", ["tick", "voice", "boil"])
def test_stretches_join_without_a_seam(kind: str) -> None:
    sound = scape(kind, quiet=0.01)
    whole = sound.heard(-500, 8000, [NEAR], HERE)
    pieces = [sound.heard(-500 + i * 800, 800, [NEAR], HERE) for i in range(10)]
    np.testing.assert_array_equal(np.concatenate(pieces), whole)
    assert whole.dtype == np.float32
    assert np.abs(whole).max() <= 1.0
    np.testing.assert_array_equal(scape(kind, quiet=0.01).heard(-500, 8000, [NEAR], HERE), whole)


def test_distance_delays_and_attenuates() -> None:
    # High above the floor, whose echo then comes too late and too weak to matter.
    sound = scape("tick")
    high = np.array([0.0, 0.0, 1000.0])
    near = sound.heard(0, AUDIO_RATE, [high + np.array([0, 1.0, 0])], high)
    far = sound.heard(0, AUDIO_RATE, [high + np.array([0, 4.0, 0])], high)
    assert np.abs(near).max() == pytest.approx(4 * np.abs(far).max(), rel=0.02)
    lag = np.argmax(np.correlate(far, near, "full")) - (AUDIO_RATE - 1)
    assert lag == pytest.approx(3.0 / SPEED_OF_SOUND * AUDIO_RATE, abs=1.5)


def test_a_ticking_second_has_beats_and_a_silent_one_none() -> None:
    ticking = scape("tick", quiet=1e-4).heard(0, AUDIO_RATE, [NEAR], HERE)
    silent = scape(quiet=1e-4).heard(0, AUDIO_RATE, [], HERE)
    loud = np.abs(ticking) > 0.1
    beats = np.count_nonzero(np.diff(np.flatnonzero(loud)) > AUDIO_RATE // 20) + 1
    assert 2 <= beats <= 7
    assert np.abs(silent).max() < 0.02


def test_kinds_differ_in_spectrum() -> None:
    def centroid(kind: str) -> float:
        power = np.abs(np.fft.rfft(scape(kind).heard(0, AUDIO_RATE, [NEAR], HERE))) ** 2
        return float((power * np.arange(power.size)).sum() / power.sum())

    assert centroid("voice") < 1200 < 1800 < centroid("boil")
