"""Thermal frame to network input."""

from __future__ import annotations

import numpy as np

from robust_perception.preprocess.images import check, resize_area
from robust_perception.units import NOMINAL_KELVIN
from robust_perception.vocabulary import Array, SensorFrame


def prepare(frame: SensorFrame, size: tuple[int, int]) -> Array:
    """Temperatures at the model's size.

    Pixels that are not finite are dead, not hot: they take the mean of the others, so that neither resizing
    nor a convolution spreads them.

    Args:
        frame: float32 (h, w), kelvin; or grey value 0..255 when the frame is not radiometric.
        size: the model's (H, W).

    Returns:
        float32 (H, W), kelvin; the frame's own array when nothing had to change.

    Raises:
        ValueError: another type or shape, or not one finite pixel.
    """
    kelvin = check(frame, np.float32, None)
    finite = np.isfinite(kelvin)
    if not finite.all():
        if not finite.any():
            msg = f"thermal frame: expected temperatures, got {kelvin.shape} without one finite pixel"
            raise ValueError(msg)
        kelvin = np.where(finite, kelvin, kelvin[finite].mean(dtype=np.float64)).astype(np.float32)
    if not frame.radiometric:
        low, high = NOMINAL_KELVIN
        kelvin = (kelvin * np.float32((high - low) / 255.0) + np.float32(low)).astype(np.float32)
    return resize_area(kelvin, size)
