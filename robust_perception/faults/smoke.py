"""Smoke between the sensor and what it sees: blotchy, and drifting.

With density s per metre, a field b(x, y, t) about 1, and distance z (a picture without distance is taken to
be 3 m away):

    rgb:      c' = c e + 190 (1 - e),   e = exp(-s b z)
    depth:    no return where e^2 is below a random number: light passes the smoke twice
    thermal:  T' = mean + (T - mean) exp(-0.05 s b z): long waves pass
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from robust_perception.faults.moment import Moment
from robust_perception.faults.values import counts, finite
from robust_perception.vocabulary import Array, Modality, SensorFrame

SMOKE_GREY = 190.0
TYPICAL_DISTANCE = 3.0
"""Distance of what a picture without depth shows, metres."""

Floats = npt.NDArray[np.float32]


def smoke(frame: SensorFrame, values: Mapping[str, float], moment: Moment) -> Array:
    """Put smoke of `density` per metre between the sensor and what it sees."""
    height, width = frame.data.shape[:2]
    thickness = np.float32(values["density"]) * _blotches(height, width, moment.t_s)
    if frame.modality is Modality.RGB:
        passed = np.exp(-thickness * TYPICAL_DISTANCE)[:, :, None]
        veiled = frame.data.astype(np.float32) * passed + np.float32(SMOKE_GREY) * (1 - passed)
        return counts(veiled)
    seen = frame.data.astype(np.float32)
    if frame.modality is Modality.DEPTH:
        returned = np.exp(-2 * thickness * np.nan_to_num(seen))
        seen[moment.chance.random(seen.shape, dtype=np.float32) > returned] = np.nan
        return seen
    mean = finite(seen).mean()  # a dead pixel is no temperature
    flattened: Array = mean + (seen - mean) * np.exp(np.float32(-0.05 * TYPICAL_DISTANCE) * thickness)
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
