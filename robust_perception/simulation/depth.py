"""The depth camera: range, noise that grows with distance, and the holes stereo and structured light leave.

    sigma(z) = 0.001 + 0.0012 z^2     (metres)

Nothing is measured (NaN)
* nearer than `NEAREST` or farther than `FARTHEST`;
* beside an edge, on the side the projector cannot see: where the next pixel to the right is nearer by more
  than 5 %;
* on surfaces seen at a grazing angle, and in blotches that stand for dark and shiny spots.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from robust_perception.simulation.noise import NoiseBank

NEAREST, FARTHEST = 0.3, 7.0
"""Range of the sensor, metres."""

Floats = npt.NDArray[np.float32]

_SHADOW = np.ones((1, 3), np.uint8)
# Anchored at its first column, the kernel spreads an edge to the left, away from the nearer surface.


def measure(distance: Floats, bank: NoiseBank, rng: np.random.Generator) -> Floats:
    """Turn exact distances float32 (H, W), metres, into a measurement, same form, NaN = invalid."""
    noise = bank.white(rng)
    depth: Floats = distance + noise * (np.float32(0.001) + np.float32(0.0012) * distance * distance)
    edge = np.zeros(distance.shape, np.uint8)
    edge[:, :-1] = distance[:, :-1] - distance[:, 1:] > np.float32(0.05) * distance[:, :-1]
    shadow = cv2.dilate(edge, _SHADOW, anchor=(0, 0)).view(bool) & (noise > -1.3)
    slope = cv2.absdiff(distance[1:], distance[:-1]) > np.float32(0.04) * distance[1:]
    grazing = np.zeros(distance.shape, bool)
    grazing[1:] = slope & (bank.white(rng)[1:] > 0.5)
    blotch = bank.smooth(rng) > np.float32(rng.uniform(2.2, 3.2))
    depth[shadow | grazing | blotch | (distance < NEAREST) | (distance > FARTHEST)] = np.nan
    return depth
