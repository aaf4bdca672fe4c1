"""Depth frame to network input."""

from __future__ import annotations

import numpy as np

from robust_perception.preprocess.images import check, resize_nearest
from robust_perception.vocabulary import Array, SensorFrame


def prepare(frame: SensorFrame, size: tuple[int, int]) -> Array:
    """Depth at the model's size.

    Pixels are picked, never averaged: a mean over an edge is a distance at which nothing stands, and one NaN
    would spread over its neighbours.

    Args:
        frame: float32 (h, w), metres, NaN = invalid.
        size: the model's (H, W).

    Returns:
        float32 (H, W), metres, NaN = invalid; the frame's own array when the size is right already.

    Raises:
        ValueError: another type or shape.
    """
    return resize_nearest(check(frame, np.float32, None), size)
