"""Crops stacked to a batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from robust_perception.preprocess import INPUT_DTYPES, input_shape
from robust_perception.training.augmentation import Crop
from robust_perception.vocabulary import UNLABELLED, Modality, Pattern


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
        boxes_from_label: bool (B,), whether boxes are known only where the label is.
        crowded: bool (B, h, w), pixels in a crowd, of whose things nobody said where each is.
        scene: float32 (B, S); 0 where unknown.
        scene_known: bool (B, S).
        known_classes: bool (B, C), the classes that the sample's data folder labels; the background always.
    """

    inputs: dict[Modality, Tensor]
    available: tuple[Pattern, ...]
    label: Tensor
    boxes: list[Tensor]
    class_ids: list[Tensor]
    boxes_known: Tensor
    boxes_from_label: Tensor
    crowded: Tensor
    scene: Tensor
    scene_known: Tensor
    known_classes: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same on a device; boxes stay on the host, where targets are made of them."""
        return dataclasses.replace(
            self,
            inputs={modality: values.to(device) for modality, values in self.inputs.items()},
            label=self.label.to(device),
            boxes_known=self.boxes_known.to(device),
            boxes_from_label=self.boxes_from_label.to(device),
            crowded=self.crowded.to(device),
            scene=self.scene.to(device),
            scene_known=self.scene_known.to(device),
            known_classes=self.known_classes.to(device),
        )

    @property
    def unsearched(self) -> Tensor:
        """Bool (B, h, w), the pixels of which nobody said whether there is an object."""
        return (self.label == UNLABELLED) & self.boxes_from_label[:, None, None] | self.crowded

    @property
    def labelled(self) -> Tensor:
        """Bool (B,), whether any pixel has a label."""
        return (self.label != UNLABELLED).flatten(1).any(dim=1)


def stack(
    crops: Sequence[Crop],
    modalities: Sequence[Modality],
    scenes: int,
    known_classes: Sequence[npt.NDArray[np.bool_]],
) -> Batch:
    """Stack crops of one size.

    Args:
        crops: at least one; a sensor that none of them has is all zeros.
        modalities: of the network.
        scenes: number of scene classes S.
        known_classes: per crop bool (C,).
    """
    size = (crops[0].label.shape[0], crops[0].label.shape[1])
    inputs = {}
    for modality in modalities:
        empty = np.zeros(input_shape(modality, size), INPUT_DTYPES[modality])
        inputs[modality] = torch.from_numpy(np.stack([c.inputs.get(modality, empty) for c in crops]))
    unknown = np.full(scenes, np.nan, np.float32)
    scene = np.stack([unknown if c.scene is None else c.scene for c in crops])
    return Batch(
        inputs=inputs,
        available=tuple(Pattern.of(m for m in modalities if m in c.inputs) for c in crops),
        label=torch.from_numpy(np.stack([c.label for c in crops]).astype(np.int64)),
        boxes=[torch.from_numpy(c.boxes) for c in crops],
        class_ids=[torch.from_numpy(c.class_ids) for c in crops],
        boxes_known=torch.tensor([c.boxes_known for c in crops]),
        boxes_from_label=torch.tensor([c.boxes_from_label for c in crops]),
        crowded=torch.from_numpy(np.stack([c.crowded for c in crops])),
        scene=torch.from_numpy(np.nan_to_num(scene, nan=0.0)),
        scene_known=torch.from_numpy(np.isfinite(scene)),
        known_classes=torch.from_numpy(np.stack(known_classes)),
    )
