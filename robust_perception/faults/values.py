"""Values as a sensor can give them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from robust_perception.units import GREY_A_KELVIN, depth_from_metres, thermal_from_kelvin
from robust_perception.vocabulary import Array, Modality, SensorFrame

GREY_HIGHEST = 255.0


def counts(values: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """Brightness as an 8-bit camera gives it: rounded, and no more than black and white."""
    brightness: npt.NDArray[np.uint8] = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return brightness


def a_kelvin(frame: SensorFrame) -> float:
    """What a kelvin is in the unit of a thermal frame; of grey values, what `preprocess` takes for it."""
    return 1.0 if frame.radiometric else GREY_A_KELVIN


def measurable(frame: SensorFrame, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Depth or thermal values as the camera of a frame gives them.

    Nothing is nearer than the lens or colder than absolute zero: where a fault goes that far there is no
    measurement, as where such a value comes in a message. Grey values end at black and white.
    """
    if frame.modality is Modality.DEPTH:
        return depth_from_metres(values)
    return thermal_from_kelvin(values) if frame.radiometric else np.clip(values, 0.0, GREY_HIGHEST)


def finite(values: Array) -> Array:
    """Those of an array that are finite, in a row; all of them where none is."""
    known: Array = values[np.isfinite(values)]
    return known if known.size else values
