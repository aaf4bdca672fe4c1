"""Noise of sensors: crops out of a bank that is drawn once.

So a frame costs a view and not half a million random numbers. The bank is the same in every process; which
crop a frame gets comes from the frame's own generator, so a frame is a function of scene seed and time alone.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

_MARGIN = 96
_LAYERS = 6


class NoiseBank:
    """Standard normal fields of one picture size.

    Args:
        height: rows of a field.
        width: columns of a field.
    """

    def __init__(self, height: int, width: int) -> None:
        rng = np.random.default_rng(20_240_229)
        shape = (_LAYERS, height + _MARGIN, width + _MARGIN)
        self._size = (height, width)
        self._white: Floats = rng.standard_normal(shape, dtype=np.float32)
        self._coloured: Floats = rng.standard_normal((*shape[1:], 3), dtype=np.float32)
        self._smooth: Floats = np.stack([_smooth(layer) for layer in self._white])

    def white(self, rng: np.random.Generator) -> Floats:
        """Independent pixels: float32 (H, W), mean 0, deviation 1; a view, do not write."""
        return self._crop(self._white[rng.integers(_LAYERS)], rng)

    def smooth(self, rng: np.random.Generator) -> Floats:
        """Blotches some 12 pixels wide: float32 (H, W), mean 0, deviation 1; a view, do not write."""
        return self._crop(self._smooth[rng.integers(_LAYERS)], rng)

    def coloured(self, rng: np.random.Generator) -> Floats:
        """Independent pixels and channels: float32 (H, W, 3), mean 0, deviation 1; a view, do not write."""
        return self._crop(self._coloured, rng)

    def _crop(self, layer: Floats, rng: np.random.Generator) -> Floats:
        top, left = rng.integers(0, _MARGIN, 2)
        return layer[top : top + self._size[0], left : left + self._size[1]]


def _smooth(layer: Floats) -> Floats:
    blurred = cv2.GaussianBlur(layer, (0, 0), 6.0)
    field: Floats = ((blurred - blurred.mean()) / blurred.std()).astype(np.float32)
    return field
