"""What a microphone at the camera hears: bodies that emit, travel time, distance, a wall, and a noise floor.

Every source is a function of the sample index, so any stretch of time can be asked for, in any order, and
consecutive stretches join without a seam.

    heard(n) = sum over bodies  g/d  s(n - d/c)  +  0.4 g/d'  s(n - d'/c)  +  room(n)

with distance d, the path d' by way of the floor, the speed of sound c and loudness g at one metre.

* tick: decaying sinusoids, two to six beats a second, tick and tock apart;
* voice: syllables, each a glottal harmonic series under three formants, with pauses;
* boil: hiss between 1.5 and 7 kHz, bubbling, sometimes with a whistle;
* room: noise with a falling spectrum, mains hum, now and then a knock.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from robust_perception.simulation.scene import Emitter, Vec
from robust_perception.vocabulary import AUDIO_RATE

Samples = npt.NDArray[np.float32]

SPEED_OF_SOUND = 343.0
"""Metres a second."""

_LOOP = 1 << 16
_VOWELS = (
    (730, 1090, 2440),
    (270, 2290, 3010),
    (300, 870, 2240),
    (530, 1840, 2480),
    (570, 840, 2410),
    (440, 1020, 2240),
)


class Soundscape:
    """All the sound of one scene.

    Args:
        emitters: the bodies.
        quiet: strength of the room's noise floor, full scale = 1.
        seed: of the noise floor.
    """

    def __init__(self, emitters: tuple[Emitter, ...], quiet: float, seed: int) -> None:
        self._sources = [(e.loudness, _SOURCES[e.kind](e.seed)) for e in emitters]
        self._room = _room(quiet, seed)

    def heard(self, start: int, count: int, places: list[Vec], microphone: Vec) -> Samples:
        """Samples `start` to `start + count` at 16 kHz.

        Args:
            start: index of the first sample, 0 = start of the scene; may be negative.
            count: how many.
            places: where each emitter is, (3,) metres, in their order.
            microphone: where it is heard, (3,) metres.

        Returns:
            float32 (count,), in [-1, 1].
        """
        total = self._room(start, count)
        for (loudness, source), place in zip(self._sources, places, strict=True):
            mirrored = place * np.array([1.0, 1.0, -1.0])
            for spot, share in ((place, 1.0), (mirrored, 0.4)):
                distance = max(float(np.linalg.norm(spot - microphone)), 0.2)
                delay = round(distance / SPEED_OF_SOUND * AUDIO_RATE)
                total += np.float32(share * loudness / distance) * source(start - delay, count)
        clipped: Samples = np.clip(total, -1.0, 1.0).astype(np.float32, copy=False)
        return clipped


Source = Callable[[int, int], Samples]


def _tick(seed: int) -> Source:
    rng = np.random.default_rng(seed)
    period = AUDIO_RATE / float(rng.uniform(2.0, 6.0))
    clicks = [_click(rng) for _ in range(2)]
    length = clicks[0].size

    def samples(start: int, count: int) -> Samples:
        out = np.zeros(count + 2 * length, np.float32)
        first = math.floor((start - length) / period)
        last = math.ceil((start + count) / period)
        for beat in range(first, last + 1):
            at = round(beat * period) - start + length
            if 0 <= at <= count + length:
                out[at : at + length] += clicks[beat % 2]
        return out[length : length + count]

    return samples


def _click(rng: np.random.Generator) -> Samples:
    t = np.arange(320) / AUDIO_RATE
    wave = np.zeros_like(t)
    for _ in range(4):
        frequency, decay = rng.uniform(1800, 6500), rng.uniform(0.001, 0.004)
        wave += rng.uniform(0.4, 1.0) * np.sin(2 * np.pi * frequency * t) * np.exp(-t / decay)
    click: Samples = (wave / np.abs(wave).max()).astype(np.float32)
    return click


def _voice(seed: int) -> Source:
    rng = np.random.default_rng(seed)
    pitch = float(rng.uniform(95, 240))
    tract = float(rng.uniform(0.9, 1.2))
    beat = int(AUDIO_RATE * rng.uniform(0.16, 0.26))
    cache: dict[int, Samples] = {}

    def syllable(index: int) -> Samples:
        known = cache.get(index)
        if known is not None:
            return known
        chance = np.random.default_rng([seed, index % (1 << 32)])
        if chance.random() < 0.18:
            made = np.zeros(beat, np.float32)
        else:
            t = np.arange(beat) / AUDIO_RATE
            f0 = pitch * float(chance.uniform(0.85, 1.2))
            glide = float(chance.uniform(-0.15, 0.15)) * f0 / t[-1]
            phase = 2 * np.pi * (f0 * t + glide * t * t / 2)
            formants = np.array(_VOWELS[chance.integers(len(_VOWELS))]) * tract
            order = np.arange(1, min(32, int(4000 / f0)) + 1)
            response = sum(
                g / (1 + ((order * f0 - f) / w) ** 2)
                for f, w, g in zip(formants, (90, 120, 180), (1, 0.6, 0.3), strict=True)
            )
            weights = (response + 0.03) / np.sqrt(order)
            wave = weights @ np.sin(order[:, None] * phase)
            breath = chance.standard_normal(beat) * 0.02
            envelope = np.sin(np.pi * np.arange(beat) / beat) ** 0.7
            wave = (wave / (np.abs(wave).max() + 1e-9) + breath) * envelope
            made = (wave * float(chance.uniform(0.5, 1.0))).astype(np.float32)
        if len(cache) > 64:
            cache.clear()
        cache[index] = made
        return made

    def samples(start: int, count: int) -> Samples:
        first, last = start // beat, (start + count - 1) // beat
        joined = np.concatenate([syllable(i) for i in range(first, last + 1)])
        offset = start - first * beat
        return joined[offset : offset + count]

    return samples


def _boil(seed: int) -> Source:
    rng = np.random.default_rng(seed)
    low, high = float(rng.uniform(1200, 2000)), float(rng.uniform(5000, 7500))
    hiss = _shaped(rng, lambda f: ((f > low) & (f < high)) + 0.15 * (f < 600))
    bubble = 1 + 0.4 * _shaped(rng, lambda f: 1.0 * ((f > 4) & (f < 25)))
    loop = (0.35 * hiss * np.clip(bubble, 0.1, None)).astype(np.float32)
    if rng.random() < 0.5:
        cycles = round(float(rng.uniform(1900, 3300)) * _LOOP / AUDIO_RATE)
        turn = 2 * np.pi * np.arange(_LOOP) / _LOOP
        vibrato = 0.8 * np.sin(round(6 * _LOOP / AUDIO_RATE) * turn)
        tone = np.sin(cycles * turn + vibrato) + 0.3 * np.sin(2 * (cycles * turn + vibrato))
        loop = (loop + 0.5 * tone).astype(np.float32)
    return _looped(loop)


def _room(quiet: float, seed: int) -> Source:
    rng = np.random.default_rng([seed, 3])
    slope = float(rng.uniform(0.3, 1.1))
    loop = quiet * _shaped(rng, lambda f: np.maximum(f, 40) ** -slope)
    if rng.random() < 0.4:
        turn = 2 * np.pi * np.arange(_LOOP) / AUDIO_RATE
        mains = 50.0 if rng.random() < 0.5 else 60.0
        for harmonic in (1, 2, 3):
            loop += quiet * float(rng.uniform(0.1, 0.8)) * np.sin(harmonic * mains * turn)
    for _ in range(int(rng.integers(0, 3))):
        at = int(rng.integers(0, _LOOP - 4000))
        t = np.arange(3200) / AUDIO_RATE
        knock = np.sin(2 * np.pi * rng.uniform(90, 400) * t) * np.exp(-t / rng.uniform(0.01, 0.04))
        loop[at : at + 3200] += float(rng.uniform(0.02, 0.15)) * knock
    return _looped(loop.astype(np.float32))


def _shaped(rng: np.random.Generator, amplitude: Callable[[Vec], npt.NDArray[np.floating[Any]]]) -> Vec:
    """Noise of this spectrum and deviation 1 that joins its own end: `_LOOP` samples."""
    frequencies = np.fft.rfftfreq(_LOOP, 1 / AUDIO_RATE)
    phases = rng.uniform(0, 2 * np.pi, frequencies.size)
    wave = np.fft.irfft(amplitude(np.asarray(frequencies, np.float64)) * np.exp(1j * phases), _LOOP)
    return np.asarray(wave / wave.std())


def _looped(loop: Samples) -> Source:
    twice = np.concatenate([loop, loop])

    def samples(start: int, count: int) -> Samples:
        if count > _LOOP:
            return loop[np.arange(start, start + count) % _LOOP]
        begin = start % _LOOP
        return twice[begin : begin + count].copy()

    return samples


_SOURCES: dict[str, Callable[[int], Source]] = {"tick": _tick, "voice": _voice, "boil": _boil}
