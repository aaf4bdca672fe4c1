"""Pictures, labels and boxes of another size.

Distances and class indices are taken from the nearest pixel, for between two of them there is no third thing;
colour and temperatures are averaged when they shrink, without pixels that have no temperature, m = 0:

    y = resize(m x) / resize(m)    where resize(m) >= 1/2, elsewhere none
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
    """A picture of this size and the same type.

    Args:
        pixels: (H, W) or (H, W, 3). Temperatures are float32, NaN = none, or uint16, 0 = none; uint8 is grey.
        size: the wanted one.
        modality: what it shows; None = it is a label map.
    """
    width, height = size
    if pixels.shape[:2] == (height, width):
        same: Array = pixels
        return same
    if modality in (None, Modality.DEPTH):
        way = cv2.INTER_NEAREST
    else:
        way = cv2.INTER_AREA if pixels.shape[1] > width else cv2.INTER_LINEAR
    if modality is Modality.THERMAL and pixels.dtype != np.uint8:
        measured = np.isfinite(pixels) if pixels.dtype == np.float32 else pixels > 0
        if not measured.all():
            return _measured(pixels, measured, size, way)
    resized: Array = cv2.resize(pixels, size, interpolation=way)
    return resized


def _measured(pixels: Any, measured: npt.NDArray[np.bool_], size: Size, way: int) -> Array:
    whole = pixels.dtype == np.uint16
    # In double precision: a temperature by itself must come out as it went in.
    share = cv2.resize(measured.astype(np.float64), size, interpolation=way)
    total = cv2.resize(np.where(measured, pixels, 0).astype(np.float64), size, interpolation=way)
    mean = np.where(share >= 0.5, total / np.maximum(share, 0.5), 0.0 if whole else np.nan)
    resized: Array = (np.rint(mean) if whole else mean).astype(pixels.dtype)
    return resized


def boxes(corners: npt.NDArray[np.float32], before: Size, size: Size) -> npt.NDArray[np.float32]:
    """Boxes float32 (n, 4), xyxy, of pictures that had the size `before`."""
    scale = np.array([size[0] / before[0], size[1] / before[1]] * 2, dtype=np.float32)
    return corners * scale


def size_of(pixels: Array) -> Size:
    """Width, height."""
    return pixels.shape[1], pixels.shape[0]
