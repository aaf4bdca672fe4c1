"""The colour camera: what it makes of the light that reaches it.

    count = 255 * clip(gain * balance * (light / 255) ** gamma)  blurred, + N(0, noise)

Darkness is a property of this answer and not of the lamps: a picture drawn in the dark would lose its
shades to eight bits before the noise came in.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from robust_perception.simulation.noise import NoiseBank
from robust_perception.simulation.scene import Exposure

Picture = npt.NDArray[np.uint8]


def expose(light: Picture, exposure: Exposure, bank: NoiseBank, rng: np.random.Generator) -> Picture:
    """Turn the drawn picture uint8 (H, W, 3) into the camera's, same form."""
    response = (np.arange(256) / 255.0) ** exposure.gamma
    gains = np.asarray(exposure.balance) * exposure.gain * 255.0
    table = np.clip(response[:, None] * gains, 0, 255).astype(np.float32).reshape(1, 256, 3)
    counts = np.asarray(cv2.LUT(light, table), np.float32)
    if exposure.blur > 0:
        counts = np.asarray(cv2.GaussianBlur(counts, (5, 5), exposure.blur), np.float32)
    counts += bank.coloured(rng) * np.float32(exposure.noise)
    return np.clip(counts, 0, 255).astype(np.uint8)
