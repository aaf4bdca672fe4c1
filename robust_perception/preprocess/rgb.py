"""RGB frame to network input."""

from __future__ import annotations

import numpy as np

from robust_perception.preprocess.images import check, resize_area
from robust_perception.vocabulary import Array, SensorFrame


def prepare(frame: SensorFrame, size: tuple[int, int]) -> Array:
    """RGB at the model's size.

    Args:
        frame: uint8 (h, w, 3), order R G B.
        size: the model's (H, W).

    Returns:
        uint8 (H, W, 3); the frame's own array when the size is right already.

    Raises:
        ValueError: another type or shape.
    """
    return resize_area(check(frame, np.uint8, 3), size)
