"""Pictures that show next to nothing, so that a network learns what they are worth beside the others.

With s small, log-uniform, and m a mean or a grey value:

    rgb      x' = s x + (1 - s) m          fog, glare, a cover; or min(g x, 255), g large: too much light
    depth    a part s of the picture has distances, in patches; or one near distance all over: a cover
    thermal  x' = m + s (x - m) + shift    a shutter that closes, a cover; shift in kelvin

Without them a network takes what such a picture shows for what is there: no edges, no thing.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from robust_perception.vocabulary import Modality

Image = npt.NDArray[Any]

LEFT = (0.005, 0.3)
"""Range of s."""
COVER = 0.3
"""Part of the blinded depth images that are covered."""
GLARED = 0.3
"""Part of the blinded colour pictures that have too much light."""


def blinded(modality: Modality, image: Image, generator: np.random.Generator) -> Image:
    """An image of which next to nothing is left.

    Args:
        modality: rgb, depth or thermal.
        image: raw network input: uint8 (h, w, 3), float32 (h, w) metres, float32 (h, w) kelvin.
        generator: the only source of chance.

    Returns:
        Another array of the same kind.
    """
    left = float(np.exp(generator.uniform(*np.log(LEFT))))
    if modality is Modality.RGB:
        return _blinded_rgb(image, left, generator)
    if modality is Modality.DEPTH:
        return _blinded_depth(image, left, generator)
    kelvin = image.astype(np.float64)
    known = np.isfinite(kelvin)
    mean = float(kelvin[known].mean()) if known.any() else np.nan
    changed = mean + left * (kelvin - mean) + generator.uniform(-3, 3)
    return (changed + generator.normal(0, 0.05, image.shape)).astype(np.float32)


def _blinded_rgb(image: Image, left: float, generator: np.random.Generator) -> Image:
    light = image.astype(np.float32)
    if generator.random() < GLARED:
        light = light * np.float32(1 / left)
    else:
        light = left * light + np.float32((1 - left) * generator.uniform(0, 255))
    noisy = light + generator.normal(0, generator.uniform(0, 3), image.shape)
    changed: Image = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
    return changed


def _blinded_depth(image: Image, left: float, generator: np.random.Generator) -> Image:
    if generator.random() < COVER:
        near = generator.uniform(0.1, 0.8) + generator.normal(0, 0.005, image.shape)
        return near.astype(np.float32)
    rows, columns = (int(n) for n in generator.integers(4, 25, 2))
    kept = (generator.random((rows, columns)) < left).astype(np.uint8)
    mask = cv2.resize(kept, image.shape[::-1], interpolation=cv2.INTER_NEAREST)
    changed: Image = np.where(mask > 0, image, np.float32(np.nan))
    return changed
