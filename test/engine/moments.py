"""Frames of all sensors at a moment, and what of a perception is compared."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from robust_perception.vocabulary import FrameSet, Modality, Pattern, Perception, SensorFrame

SIZE = (64, 96)


def moment(seed: int) -> dict[Modality, SensorFrame]:
    """A frame of every sensor."""
    generator = np.random.default_rng(seed)
    arrays = {
        Modality.RGB: generator.integers(0, 256, (*SIZE, 3), dtype=np.uint8),
        Modality.DEPTH: generator.uniform(0, 10, SIZE).astype(np.float32),
        Modality.THERMAL: generator.uniform(250, 400, SIZE).astype(np.float32),
        Modality.AUDIO: generator.uniform(-1, 1, 16000).astype(np.float32),
    }
    return {m: SensorFrame(m, array, 1_000_000_000 + seed) for m, array in arrays.items()}


def under(frames: Mapping[Modality, SensorFrame], pattern: Pattern) -> FrameSet:
    return FrameSet(pattern, {m: frames[m] for m in pattern}, next(iter(pattern)))


def bits(perception: Perception) -> tuple[bytes, ...]:
    values = (
        perception.label_map,
        perception.boxes,
        perception.scores,
        perception.class_ids,
        perception.scene,
    )
    return (*(value.tobytes() for value in values), np.float64(perception.confidence).tobytes())
