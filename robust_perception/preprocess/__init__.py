"""Sensor frame to network input, on the host: the same code for training and for serving.

Only what a static graph cannot do is done here: picking the last second of sound, resizing an image whose
size is not the model's, giving a non-radiometric thermal picture a nominal temperature. Scaling, normalising,
masks of invalid depth and the log-mel front end are inside the exported graphs.
"""

from __future__ import annotations

from robust_perception.preprocess import audio, depth, rgb, thermal
from robust_perception.vocabulary import Array, Modality, SensorFrame

INPUT_SHAPES: dict[Modality, tuple[str | int, ...]] = {
    Modality.RGB: ("H", "W", 3),
    Modality.DEPTH: ("H", "W"),
    Modality.THERMAL: ("H", "W"),
    Modality.AUDIO: (audio.WINDOW,),
}
"""Shape of each network input without its batch axis; H and W are the model's size."""

INPUT_DTYPES: dict[Modality, str] = {
    Modality.RGB: "uint8",
    Modality.DEPTH: "float32",
    Modality.THERMAL: "float32",
    Modality.AUDIO: "float32",
}
"""Element type of each network input."""

_PREPARE = {
    Modality.RGB: rgb.prepare,
    Modality.DEPTH: depth.prepare,
    Modality.THERMAL: thermal.prepare,
    Modality.AUDIO: audio.prepare,
}


def input_shape(modality: Modality, size: tuple[int, int]) -> tuple[int, ...]:
    """Shape of the network input of `modality`, without batch axis, for a model of `size` (H, W)."""
    named = {"H": size[0], "W": size[1]}
    return tuple(named[side] if isinstance(side, str) else side for side in INPUT_SHAPES[modality])


def prepare(frame: SensorFrame, size: tuple[int, int]) -> Array:
    """Make the network input of one frame.

    Args:
        frame: a measurement in canonical units.
        size: the model's (H, W) in pixels; sound ignores it.

    Returns:
        Array of `input_shape(frame.modality, size)` and `INPUT_DTYPES[frame.modality]`; the frame's own array
        when nothing had to change.

    Raises:
        ValueError: the frame's type or shape is not that of its modality.
    """
    return _PREPARE[frame.modality](frame, size)
