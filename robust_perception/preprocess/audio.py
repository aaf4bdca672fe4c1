"""Sound to network input: the last second."""

from __future__ import annotations

import numpy as np

from robust_perception.vocabulary import AUDIO_RATE, Array, SensorFrame

WINDOW = AUDIO_RATE
"""Samples the network hears: one second."""


def prepare(frame: SensorFrame, size: tuple[int, int]) -> Array:
    """The last second of sound.

    Args:
        frame: float32 (n,), 16 kHz mono in [-1, 1], oldest sample first.
        size: ignored; there for the common signature.

    Returns:
        float32 (16000,), silence put in front of a shorter recording; a view of the frame's array otherwise.

    Raises:
        ValueError: another type or shape, or no samples.
    """
    samples = frame.data
    if samples.dtype != np.float32 or samples.ndim != 1 or samples.size == 0:
        msg = f"audio frame: expected float32 (n,) with n > 0, got {samples.dtype} {samples.shape}"
        raise ValueError(msg)
    if samples.size >= WINDOW:
        return np.ascontiguousarray(samples[-WINDOW:])
    padded = np.zeros(WINDOW, dtype=np.float32)
    padded[-samples.size :] = samples
    return padded
