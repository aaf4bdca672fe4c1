"""Mean and spread of what the depth and thermal cameras saw in training, for the encoders' normalisation."""

from __future__ import annotations

import numpy as np

from robust_perception.datasets import FolderDataset
from robust_perception.preprocess import prepare
from robust_perception.training.mixture import MixedDataset
from robust_perception.training.validation import spread
from robust_perception.vocabulary import Modality

FRAMES = 64
LEAST_SPREAD = 1e-3


def measure(dataset: FolderDataset | MixedDataset, modality: Modality) -> tuple[float, float] | None:
    """Mean and standard deviation (metres or kelvin) over valid pixels of some frames; None without any.

    Pixels are those that the encoder gets: a picture that is not radiometric has its nominal temperatures.
    """
    count, total, squares = 0, 0.0, 0.0
    there = [i for i, name in enumerate(dataset.names) if dataset.path(modality, name) is not None]
    for index in spread(len(there), FRAMES):
        frame = dataset[there[index]].frames[modality]
        seen = prepare(frame, (frame.data.shape[0], frame.data.shape[1]))
        values = seen[np.isfinite(seen)].astype(np.float64)
        count, total, squares = count + values.size, total + values.sum(), squares + (values**2).sum()
    if not count:
        return None
    mean = total / count
    return float(mean), float(max(np.sqrt(max(squares / count - mean**2, 0.0)), LEAST_SPREAD))
