"""The thermal camera: surface temperatures as they arrive.

    T(z)  = Ta + (Ts - Ta) exp(-k z)     loss over the distance z through air of temperature Ta
    image = blur(T) + blotches + columns + N(0, netd)

The lens and the coarse detector blur by about a pixel; blotches (0.3 K) stand for uneven emissivity, columns
for the fixed pattern a microbolometer shows between two shutter events.
"""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from robust_perception.simulation.noise import NoiseBank

LOSS_PER_METRE = 0.03
NETD = 0.08
"""Noise-equivalent temperature difference, kelvin."""

COLDEST, HOTTEST = 273.15, 373.15
"""Kelvin: no thing in a room is colder than ice or hotter than a kettle that boils."""

Floats = npt.NDArray[np.float32]


def measure(
    surface: Floats,
    distance: Floats,
    ambient: float,
    bank: NoiseBank,
    scene_rng: np.random.Generator,
    frame_rng: np.random.Generator,
) -> Floats:
    """Turn surface temperatures into a radiometric picture.

    Args:
        surface: float32 (H, W), kelvin.
        distance: float32 (H, W), metres.
        ambient: temperature of the air, kelvin.
        bank: where noise comes from.
        scene_rng: makes what stays the same throughout a scene (blotches, columns).
        frame_rng: makes what changes from frame to frame.

    Returns:
        float32 (H, W), kelvin.
    """
    arrived = np.float32(ambient) + (surface - np.float32(ambient)) * np.exp(
        distance * np.float32(-LOSS_PER_METRE)
    )
    kelvin = cv2.GaussianBlur(arrived, (5, 5), 0.9)
    kelvin += bank.smooth(scene_rng) * np.float32(0.3)
    kelvin += scene_rng.normal(0, 0.05, kelvin.shape[1]).astype(np.float32)
    kelvin += bank.white(frame_rng) * np.float32(NETD)
    return cast(Floats, kelvin)
