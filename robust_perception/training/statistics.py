"""Mean and spread of what the depth and thermal cameras saw in training, for the encoders' normalisation."""

from __future__ import annotations

import numpy as np

from robust_perception.datasets import FolderDataset
from robust_perception.training.validation import spread
from robust_perception.vocabulary import Modality

FRAMES = 64
LEAST_SPREAD = 1e-3


def measure(dataset: FolderDataset, modality: Modality) -> tuple[float, float] | None:
    """Mean and standard deviation (metres or kelvin) over valid pixels of some frames; None without any."""
    count, total, squares = 0, 0.0, 0.0
    for index in spread(len(dataset), FRAMES):
        frame = dataset[index].frames.get(modality)
        if frame is None:
            continue
        values = frame.data[np.isfinite(frame.data)].astype(np.float64)
        count, total, squares = count + values.size, total + values.sum(), squares + (values**2).sum()
    if not count:
        return None
    mean = total / count
    return float(mean), float(max(np.sqrt(max(squares / count - mean**2, 0.0)), LEAST_SPREAD))
