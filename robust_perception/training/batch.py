"""Crops stacked to a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from robust_perception.preprocess import INPUT_DTYPES
from robust_perception.training.augmentation import Crop
from robust_perception.vocabulary import Modality, Pattern


@dataclass(frozen=True)
class Batch:
    """What one step learns from.

    Attributes:
        inputs: raw network inputs, batch first; zeros where a sample lacks the sensor.
        available: per sample what it really has.
        label: int64 (B, h, w), 255 = unlabelled.
        boxes: per sample float32 (n, 4), xyxy.
        class_ids: per sample int64 (n,), 1..K.
        boxes_known: bool (B,).
        scene: float32 (B, S).
        scene_known: bool (B,).
    """

    inputs: dict[Modality, Tensor]
    available: tuple[Pattern, ...]
    label: Tensor
    boxes: list[Tensor]
    class_ids: list[Tensor]
    boxes_known: Tensor
    scene: Tensor
    scene_known: Tensor


def stack(crops: Sequence[Crop], modalities: Sequence[Modality], scenes: int) -> Batch:
    """Stack crops of one size.

    Args:
        crops: at least one; together they have every modality.
        modalities: of the network.
        scenes: number of scene classes S.
    """
    inputs = {}
    for modality in modalities:
        shape = next(c.inputs[modality].shape for c in crops if modality in c.inputs)
        empty = np.zeros(shape, INPUT_DTYPES[modality])
        inputs[modality] = torch.from_numpy(np.stack([c.inputs.get(modality, empty) for c in crops]))
    unknown = np.zeros(scenes, np.float32)
    return Batch(
        inputs=inputs,
        available=tuple(Pattern.of(m for m in modalities if m in c.inputs) for c in crops),
        label=torch.from_numpy(np.stack([c.label for c in crops]).astype(np.int64)),
        boxes=[torch.from_numpy(c.boxes) for c in crops],
        class_ids=[torch.from_numpy(c.class_ids) for c in crops],
        boxes_known=torch.tensor([c.boxes_known for c in crops]),
        scene=torch.from_numpy(np.stack([unknown if c.scene is None else c.scene for c in crops])),
        scene_known=torch.tensor([c.scene is not None for c in crops]),
    )
