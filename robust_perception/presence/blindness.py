"""Does a frame show anything? What a lens cap, fog, glare or a shutter leave of a picture.

With g the picture averaged over 32 x 24 blocks, so that noise is no structure, and its percentiles g5, g95:

    rgb      (g95 - g5) / (g95 + g5)    Michelson's contrast of the grey values; 0 where all is black
    depth    pixels with a distance / pixels
    thermal  g95 - g5                   kelvin; of a picture without temperatures its grey values, as many a
                                        kelvin as everywhere (`units.GREY_A_KELVIN`)

Whether a picture shows too little depends on the model and the place, so nobody looks unless asked to
(`SensorConfig.least_shown`; `benchmarks/blindness.py` finds the values of a model). Darkness is no blindness:
what is left of the light still has its contrast. Nor is silence: it says something, and a dead microphone
repeats itself (`frozen`).
"""

from __future__ import annotations

import cv2
import numpy as np

from robust_perception.units import GREY_A_KELVIN
from robust_perception.vocabulary import Array, Modality, SensorFrame

_BLOCKS = (32, 24)
_ROWS = 96
"""Of a picture that are looked at, about: four a block, enough against noise and a millisecond less."""

_MEANING = {
    Modality.RGB: ("a contrast of {:.3f}", "{:g}", "rgb.min_contrast", "covered, fogged or glared at"),
    Modality.DEPTH: ("distances in {:.1%} of the pixels", "{:.1%}", "depth.min_measured", "out of range"),
    Modality.THERMAL: ("a span of {:.2f} K", "{:g} K", "thermal.min_span", "covered, or its shutter closed"),
}


def shown(frame: SensorFrame) -> float | None:
    """How much an image shows, in the unit of its sensor; None for sound.

    Args:
        frame: rgb uint8 (H, W, 3), depth float32 (H, W) metres with NaN = invalid, thermal float32 (H, W).
    """
    if frame.modality is Modality.AUDIO:
        return None
    picture = frame.data[:: max(1, len(frame.data) // _ROWS)]
    if frame.modality is Modality.DEPTH:
        return float(np.isfinite(picture).mean())
    low, high = _extent(picture)
    if frame.modality is Modality.RGB:
        return (high - low) / (high + low) if high > 0.0 else 0.0
    return (high - low) if frame.radiometric else (high - low) / GREY_A_KELVIN


def blind(modality: Modality, value: float, least: float) -> str:
    """In words, that a frame shows less than it must."""
    found, needed, parameter, cause = _MEANING[modality]
    return f"{found.format(value)}, at least {needed.format(least)} is expected ({parameter}); {cause}?"


def _extent(picture: Array) -> tuple[float, float]:
    """Percentiles 5 and 95 of the means of blocks, over all channels; what is no number does not count."""
    values = picture.astype(np.float32, copy=False)
    known = np.isfinite(values)
    if not known.any():
        return 0.0, 0.0
    if not known.all():
        values = np.where(known, values, values[known].mean())
    blocks = cv2.resize(values, _BLOCKS, interpolation=cv2.INTER_AREA)
    grey = blocks if blocks.ndim == 2 else blocks.mean(axis=2)
    low, high = np.percentile(grey, (5, 95))
    return float(low), float(high)
