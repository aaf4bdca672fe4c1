"""What faults make of a frame's values: noise, light, damaged pixels, heat, sound; `smoke` has its own file.

noise         x' = x + sigma N(0, 1), in the frame's own unit
darkness      c' = gain c + 3 sqrt(1 - gain^2) N(0, 1): what the camera adds of itself, 3 counts, stays
overexposure  c' = min(gain c, 255): what is brighter than 255 / gain is white
dead_rows     a `part` of the rows, the same throughout the window, read nothing
holes         a `part` of the picture, in patches some 16 pixels wide, has no distance
drift         T' = T + kelvin min(1, t / seconds), t since the window began
clipping      x' = clip(gain x, -1, 1): a microphone that is driven too hard
gaps          a `part` of the stretches of 20 ms is silent: packets that did not come

Kelvin of a thermal picture that holds grey values and no temperatures are grey values that stand for them.
What noise or drift takes to 0 m, to 0 K or below is no measurement: NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import cv2
import numpy as np

from robust_perception.faults.moment import Moment
from robust_perception.faults.smoke import smoke
from robust_perception.faults.values import a_kelvin, counts, finite, measurable
from robust_perception.vocabulary import AUDIO_RATE, Array, Modality, SensorFrame

DARK_NOISE = 3.0
"""Deviation of the noise that a camera has of its own, which darkness leaves; counts of 255."""
PATCH = 16
"""Width of a hole in depth, pixels."""
PACKET = AUDIO_RATE // 50
"""Samples that are missing together: 20 ms."""

Effect = Callable[[SensorFrame, Mapping[str, float], Moment], Array]


def noise(frame: SensorFrame, values: Mapping[str, float], moment: Moment) -> Array:
    """Add Gaussian noise of deviation `sigma` in the frame's own unit; invalid pixels stay invalid."""
    shape = frame.data.shape
    sigma = values["sigma"] * (a_kelvin(frame) if frame.modality is Modality.THERMAL else 1.0)
    noisy = frame.data.astype(np.float32)
    noisy += np.float32(sigma) * moment.chance.standard_normal(shape, dtype=np.float32)
    if frame.modality is Modality.RGB:
        return counts(noisy)
    if frame.modality is Modality.AUDIO:
        return np.clip(noisy, -1.0, 1.0)
    return measurable(frame, noisy)


def darkness(frame: SensorFrame, values: Mapping[str, float], moment: Moment) -> Array:
    """Take light away from a colour picture; what the camera adds of itself stays."""
    gain = values["gain"]
    dim = frame.data.astype(np.float32) * np.float32(gain)
    # The light's own noise is dimmed with it; variances add up to what they were.
    sigma = np.float32(DARK_NOISE * math.sqrt(1 - gain * gain))
    dim += sigma * moment.chance.standard_normal(dim.shape, dtype=np.float32)
    return counts(dim)


def overexposure(frame: SensorFrame, values: Mapping[str, float], moment: Moment) -> Array:
    """Give a colour picture more light than it can hold."""
    del moment
    return counts(frame.data.astype(np.float32) * np.float32(values["gain"]))


def dead_rows(frame: SensorFrame, values: Mapping[str, float], moment: Moment) -> Array:
    """Rows that read nothing: black, without distance, as cold as the coldest pixel."""
    height = frame.data.shape[0]
    dead = moment.lasting.permutation(height)[: round(values["part"] * height)]
    damaged = frame.data.copy()
    if frame.modality is Modality.RGB:
        damaged[dead] = 0
    else:
        nothing = np.nan if frame.modality is Modality.DEPTH else finite(damaged).min()
        damaged[dead] = nothing
    return damaged


def holes(frame: SensorFrame, values: Mapping[str, float], moment: Moment) -> Array:
    """Patches without distance, as dark and shiny surfaces give them."""
    height, width = frame.data.shape
    coarse = (math.ceil(height / PATCH) + 1, math.ceil(width / PATCH) + 1)
    field = moment.chance.random(coarse, dtype=np.float32)
    smooth = np.asarray(cv2.resize(field, (width, height), interpolation=cv2.INTER_LINEAR))
    damaged = frame.data.astype(np.float32)
    count = round(values["part"] * smooth.size)
    if count:
        damaged[smooth <= np.partition(smooth, count - 1, axis=None)[count - 1]] = np.nan
    return damaged


def drift(frame: SensorFrame, values: Mapping[str, float], moment: Moment) -> Array:
    """Temperatures that wander off as the camera warms up."""
    seconds = values["seconds"]
    reached = min(1.0, moment.since_s / seconds) if seconds > 0 else 1.0
    off = np.float32(values["kelvin"] * reached * a_kelvin(frame))
    return measurable(frame, frame.data.astype(np.float32) + off)


def clipping(frame: SensorFrame, values: Mapping[str, float], moment: Moment) -> Array:
    """Sound louder than the microphone can take."""
    del moment
    loud: Array = np.clip(frame.data.astype(np.float32) * np.float32(values["gain"]), -1.0, 1.0)
    return loud


def gaps(frame: SensorFrame, values: Mapping[str, float], moment: Moment) -> Array:
    """Silence where packets of sound did not come."""
    missing = moment.chance.random(math.ceil(frame.data.size / PACKET)) < values["part"]
    quiet = frame.data.astype(np.float32)
    quiet[np.repeat(missing, PACKET)[: quiet.size]] = 0.0
    return quiet


EFFECTS: dict[str, Effect] = {
    "noise": noise,
    "darkness": darkness,
    "overexposure": overexposure,
    "smoke": smoke,
    "dead_rows": dead_rows,
    "holes": holes,
    "drift": drift,
    "clipping": clipping,
    "gaps": gaps,
}
"""Fault kind -> what it does to a frame's values; a new array, the frame itself is left alone."""
