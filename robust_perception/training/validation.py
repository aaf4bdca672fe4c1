"""How good a network is under each pattern: what chooses the checkpoint.

    score = mean over patterns of the foreground mIoU, percent

Frames are encoded once and fused under every pattern.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch

from robust_perception.datasets import FolderDataset
from robust_perception.evaluation.segmentation import ConfusionMatrix
from robust_perception.model.network import Network
from robust_perception.preprocess import prepare
from robust_perception.vocabulary import Pattern


def spread(count: int, limit: int) -> list[int]:
    """At most `limit` positions (0 = all) out of `count`, evenly spaced, always the same."""
    if not limit or limit >= count:
        return list(range(count))
    return [i * count // limit for i in range(limit)]


@torch.no_grad()
def validate(
    network: Network,
    dataset: FolderDataset,
    patterns: Sequence[Pattern],
    size: tuple[int, int],
    limit: int = 0,
) -> dict[Pattern, float]:
    """Foreground mIoU in percent by pattern; a pattern that no frame can show has NaN.

    Args:
        network: in evaluation mode.
        dataset: the validation split; frames without a label map are left out.
        patterns: those to measure.
        size: the model's (H, W).
        limit: frames to look at, 0 = all.
    """
    classes = len(network.config.class_names)
    counts = {pattern: ConfusionMatrix(classes) for pattern in patterns}
    for index in spread(len(dataset), limit):
        sample = dataset[index]
        if sample.label is None:
            continue
        label = cv2.resize(sample.label, size[::-1], interpolation=cv2.INTER_NEAREST).astype(np.uint8)
        modalities = network.config.modalities
        there = Pattern.of(m for m in modalities if m in sample.frames)
        inputs = {m: torch.from_numpy(prepare(sample.frames[m], size).copy())[None] for m in there}
        latents = network.encode(inputs)
        for pattern, matrix in counts.items():
            if set(pattern) <= set(there):
                bits = torch.tensor([pattern.bits])
                logits = network.fusion(latents, bits, size).segmentation
                matrix.add(label, logits.argmax(1)[0].numpy().astype(np.uint8))
    return {pattern: matrix.foreground_miou() for pattern, matrix in counts.items()}
