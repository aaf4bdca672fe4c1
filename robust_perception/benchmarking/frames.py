"""Input for measurements: noise at the model's size, the same for every variant and on every machine.

What a frame shows costs nothing, its size does. A handful of contents a sensor is made ahead and used in turn
under new stamps, so that each counts as a new measurement and making it is not measured.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import numpy as np

from robust_perception.preprocess import INPUT_DTYPES, input_shape
from robust_perception.vocabulary import Array, FrameSet, Modality, Pattern, SensorFrame

SCALES = {Modality.RGB: 255.0, Modality.DEPTH: 5.0, Modality.THERMAL: 310.0, Modality.AUDIO: 0.1}
"""Largest value, in canonical units."""

CONTENTS = 4


class Frames:
    """Frames of some sensors.

    Args:
        modalities: the sensors.
        size: (H, W) of the images.
        seed: of the noise.
    """

    def __init__(self, modalities: Iterable[Modality], size: tuple[int, int], seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        self._contents: Mapping[Modality, list[Array]] = {
            m: [
                (generator.random(input_shape(m, size)) * SCALES[m]).astype(INPUT_DTYPES[m])
                for _ in range(CONTENTS)
            ]
            for m in modalities
        }
        self._stamp = 0

    @property
    def sha256(self) -> str:
        """Of the bytes of all contents, sensor by sensor."""
        total = hashlib.sha256()
        for contents in self._contents.values():
            for content in contents:
                total.update(content.tobytes())
        return total.hexdigest()

    def frame(self, modality: Modality, content: int | None = None) -> SensorFrame:
        """A new frame; of this content, or of the next one."""
        self._stamp += 1
        contents = self._contents[modality]
        chosen = self._stamp if content is None else content
        return SensorFrame(modality, contents[chosen % len(contents)], self._stamp)

    def frame_set(self, pattern: Pattern, content: int | None = None) -> FrameSet:
        """A new frame of each of its sensors."""
        return FrameSet(pattern, {m: self.frame(m, content) for m in pattern}, next(iter(pattern)))
