"""Values as a sensor can give them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from robust_perception.units import GREY_A_KELVIN
from robust_perception.vocabulary import Array, SensorFrame

GREY_HIGHEST = 255.0


def counts(values: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """Brightness as an 8-bit camera gives it: rounded, and no more than black and white."""
    brightness: npt.NDArray[np.uint8] = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return brightness


def a_kelvin(frame: SensorFrame) -> float:
    """What a kelvin is in the unit of a thermal frame; of grey values, what `preprocess` takes for it."""
    return 1.0 if frame.radiometric else GREY_A_KELVIN


def measurable(frame: SensorFrame, values: Array) -> Array:
    """Thermal values as the camera of a frame gives them: grey ones end at black and white."""
    return values if frame.radiometric else np.clip(values, 0.0, GREY_HIGHEST)


def finite(values: Array) -> Array:
    """Those of an array that are finite, in a row; all of them where none is."""
    known: Array = values[np.isfinite(values)]
    return known if known.size else values
