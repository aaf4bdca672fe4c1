"""Pictures, labels and boxes of another size.

Distances and class indices are taken from the nearest pixel, for between two of them there is no third thing;
colour and temperatures are averaged when they shrink.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from robust_perception.vocabulary import Array, Modality

Size = tuple[int, int]
"""Width, height."""


def picture(pixels: Any, size: Size, modality: Modality | None) -> Array:
    """A picture (H, W) or (H, W, 3) of this size; `modality` None is a label map. Same type."""
    width, height = size
    if pixels.shape[:2] == (height, width):
        same: Array = pixels
        return same
    if modality in (None, Modality.DEPTH):
        way = cv2.INTER_NEAREST
    else:
        way = cv2.INTER_AREA if pixels.shape[1] > width else cv2.INTER_LINEAR
    resized: Array = cv2.resize(pixels, size, interpolation=way)
    return resized


def boxes(corners: npt.NDArray[np.float32], before: Size, size: Size) -> npt.NDArray[np.float32]:
    """Boxes float32 (n, 4), xyxy, of pictures that had the size `before`."""
    scale = np.array([size[0] / before[0], size[1] / before[1]] * 2, dtype=np.float32)
    return corners * scale


def size_of(pixels: Array) -> Size:
    """Width, height."""
    return pixels.shape[1], pixels.shape[0]
