"""Network inputs that show nothing: what they cost does not depend on what they show."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robust_perception.vocabulary import Array, Modality


def noise_inputs(modalities: Sequence[Modality], size: tuple[int, int], seed: int) -> dict[Modality, Array]:
    """Network inputs of noise in each sensor's range, without batch axis."""
    generator = np.random.default_rng(seed)
    made: dict[Modality, Array] = {}
    for modality in modalities:
        if modality is Modality.RGB:
            made[modality] = generator.integers(0, 256, (*size, 3), np.uint8)
        elif modality is Modality.AUDIO:
            made[modality] = generator.uniform(-0.5, 0.5, 16000).astype(np.float32)
        else:
            low, high = (0.5, 5.0) if modality is Modality.DEPTH else (285.0, 310.0)
            made[modality] = generator.uniform(low, high, size).astype(np.float32)
    return made
