"""What the three image modalities share: checks of type and shape, and resizing."""

from __future__ import annotations

from typing import Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from robust_perception.vocabulary import Array, SensorFrame

Scalar = TypeVar("Scalar", np.uint8, np.float32)


def check(frame: SensorFrame, dtype: type[Scalar], channels: int | None) -> npt.NDArray[Scalar]:
    """The frame's array, contiguous, after a check of its type and shape.

    Args:
        frame: an image frame.
        dtype: the element type it must have.
        channels: length of the last axis, or None for a (H, W) image.

    Raises:
        ValueError: another type or shape, or no pixels.
    """
    data = frame.data
    rank = 2 if channels is None else 3
    fits = data.dtype == dtype and data.ndim == rank and data.size > 0
    if fits and channels is not None:
        fits = data.shape[2] == channels
    if not fits:
        shape = "(H, W)" if channels is None else f"(H, W, {channels})"
        msg = (
            f"{frame.modality} frame: expected {np.dtype(dtype).name} {shape}, got {data.dtype} {data.shape}"
        )
        raise ValueError(msg)
    return np.ascontiguousarray(data).astype(dtype, copy=False)


def resize_area(image: npt.NDArray[Any], size: tuple[int, int]) -> Array:
    """Resize to `size` (H, W): by area when no side grows, else linearly; untouched when equal."""
    height, width = image.shape[:2]
    if (height, width) == size:
        return image
    shrinks = size[0] <= height and size[1] <= width
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, (size[1], size[0]), interpolation=method)


def resize_nearest(image: npt.NDArray[Any], size: tuple[int, int]) -> Array:
    """Resize to `size` (H, W) without mixing pixels; untouched when equal."""
    if image.shape[:2] == size:
        return image
    return cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_NEAREST)
