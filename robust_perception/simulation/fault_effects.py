"""What noise, darkness and smoke make of a frame's values.

Smoke is blotchy and drifts. With density s per metre, a field b(x, y, t) about 1, and distance z (a picture
without distance is taken to be 3 m away):

    rgb:      c' = c e + 190 (1 - e),   e = exp(-s b z)
    depth:    no return where e^2 is below a random number: light passes the smoke twice
    thermal:  T' = mean + (T - mean) exp(-0.05 s b z): long waves pass
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from robust_perception.vocabulary import Array, Modality, SensorFrame

SMOKE_GREY = 190.0
TYPICAL_DISTANCE = 3.0
"""Distance of what a picture without depth shows, metres."""
DARK_NOISE = 3.0
"""Deviation of the noise that darkness leaves, counts of 255."""

Floats = npt.NDArray[np.float32]
Effect = Callable[[SensorFrame, float, float, np.random.Generator], Array]


def noise(frame: SensorFrame, sigma: float, t_s: float, rng: np.random.Generator) -> Array:
    """Add Gaussian noise of deviation `sigma` in the frame's own unit; invalid depth stays invalid."""
    del t_s
    values = frame.data
    noisy = values.astype(np.float32) + np.float32(sigma) * rng.standard_normal(
        values.shape, dtype=np.float32
    )
    if frame.modality is Modality.RGB:
        return _counts(noisy)
    if frame.modality is Modality.AUDIO:
        return np.clip(noisy, -1.0, 1.0)
    if frame.modality is Modality.DEPTH:
        noisy[noisy <= 0] = np.nan
    return noisy


def darkness(frame: SensorFrame, gain: float, t_s: float, rng: np.random.Generator) -> Array:
    """Take light away from a colour picture; what the camera adds of itself stays."""
    del t_s
    dim = frame.data.astype(np.float32) * np.float32(gain)
    dim += np.float32(DARK_NOISE * (1 - gain)) * rng.standard_normal(dim.shape, dtype=np.float32)
    return _counts(dim)


def smoke(frame: SensorFrame, density: float, t_s: float, rng: np.random.Generator) -> Array:
    """Put smoke of this density per metre between the sensor and what it sees."""
    height, width = frame.data.shape[:2]
    thickness = np.float32(density) * _blotches(height, width, t_s)
    if frame.modality is Modality.RGB:
        passed = np.exp(-thickness * TYPICAL_DISTANCE)[:, :, None]
        veiled = frame.data.astype(np.float32) * passed + np.float32(SMOKE_GREY) * (1 - passed)
        return _counts(veiled)
    values = frame.data.astype(np.float32)
    if frame.modality is Modality.DEPTH:
        returned = np.exp(-2 * thickness * np.nan_to_num(values))
        values[rng.random(values.shape, dtype=np.float32) > returned] = np.nan
        return values
    mean = values.mean()
    flattened: Array = mean + (values - mean) * np.exp(np.float32(-0.05 * TYPICAL_DISTANCE) * thickness)
    return flattened


def _blotches(height: int, width: int, t_s: float) -> Floats:
    """The drifting unevenness of smoke: float32 (H, W), about 1, between 0.4 and 1.6."""
    rows = np.linspace(0, 4, 24, dtype=np.float32)[:, None]
    columns = np.linspace(0, 5, 32, dtype=np.float32)[None, :]
    drift = np.float32(t_s)
    coarse = np.sin(rows * 1.7 + drift * 0.5 + np.sin(columns * 1.3 - drift * 0.3) * 2)
    coarse = coarse + np.sin(columns * 2.3 - drift * 0.7 + rows * 0.9)
    field = cv2.resize((1 + 0.3 * coarse).astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    return cast(Floats, field)


def _counts(values: Floats) -> npt.NDArray[np.uint8]:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


EFFECTS: dict[str, Effect] = {"noise": noise, "darkness": darkness, "smoke": smoke}
"""Fault kind -> what it does to a frame's values; a new array, the frame itself is left alone."""
