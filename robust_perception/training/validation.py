"""How good a network is under each pattern: what chooses the checkpoint.

    score = mean over patterns of the foreground mIoU, percent

Frames are encoded once, or once a pattern where there are adapters, and fused under every pattern. A class
that a frame's data folder does not label is background there: a pixel said to be of it is neither right nor
wrong about that class. Over several folders, pixels of all of them are counted together, each pattern's over
the frames that can show it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from robust_perception.datasets import FolderDataset
from robust_perception.evaluation.segmentation import ConfusionMatrix
from robust_perception.model.adapter_bank import adapters_of
from robust_perception.model.network import Network
from robust_perception.preprocess import INPUT_DTYPES, input_shape, prepare
from robust_perception.training.mixture import MixedDataset
from robust_perception.training.ranks import ALONE, Ranks
from robust_perception.vocabulary import Modality, Pattern, SensorFrame


def spread(count: int, limit: int) -> list[int]:
    """At most `limit` positions (0 = all) out of `count`, evenly spaced, always the same."""
    if not limit or limit >= count:
        return list(range(count))
    return [i * count // limit for i in range(limit)]


def measured_frames(dataset: MixedDataset, limit: int = 0) -> list[int]:
    """What a validation looks at: at most `limit` (0 = all) of the frames with label maps, evenly spread."""
    labelled = [index for index in range(len(dataset)) if dataset.has_label(index)]
    return [labelled[position] for position in spread(len(labelled), limit)]


@torch.no_grad()
def validate(
    network: Network,
    dataset: FolderDataset | MixedDataset,
    patterns: Sequence[Pattern],
    size: tuple[int, int],
    limit: int = 0,
    ranks: Ranks = ALONE,
) -> dict[Pattern, float]:
    """Foreground mIoU in percent by pattern; a pattern that no frame can show has NaN.

    Args:
        network: in evaluation mode, on the process's device.
        dataset: the validation split; frames without a label map are left out.
        patterns: those to measure.
        size: the model's (H, W).
        limit: frames with label maps to look at, 0 = all.
        ranks: share the frames; all get the same answer.
    """
    device = ranks.device
    classes = len(network.config.class_names)
    dataset = MixedDataset.of(dataset)
    adapted = bool(adapters_of(network))  # then latents depend on the pattern
    counts = {pattern: ConfusionMatrix(classes) for pattern in patterns}
    for index in measured_frames(dataset, limit)[ranks.index :: ranks.count]:
        sample = dataset[index]
        assert sample.label is not None
        label = cv2.resize(sample.label, size[::-1], interpolation=cv2.INTER_NEAREST).astype(np.uint8)
        modalities = network.config.modalities
        known = dataset.known_classes(index)
        inputs = {m: network_input(m, sample.frames.get(m), size).to(device) for m in modalities}
        latents = None if adapted else network.encode(inputs)
        for pattern, matrix in counts.items():
            if all(m in sample.frames for m in pattern):
                bits = torch.tensor([pattern.bits], device=device)
                with network.selection.of(bits):
                    seen = network.encode(inputs, pattern) if latents is None else latents
                    logits = network.fusion(seen, bits, size).segmentation
                found = logits.argmax(1)[0].cpu().numpy()
                matrix.add(label, np.where(known[found], found, 0).astype(np.uint8))
    ranks.sum_([torch.from_numpy(matrix.counts) for matrix in counts.values()])
    return {pattern: matrix.foreground_miou() for pattern, matrix in counts.items()}


def mean_over(scores: Mapping[Pattern, float]) -> float:
    """Mean over the patterns that some frame could show, percent; NaN where there is none."""
    known = [score for score in scores.values() if not math.isnan(score)]
    return sum(known) / len(known) if known else math.nan


def network_input(modality: Modality, frame: SensorFrame | None, size: tuple[int, int]) -> Tensor:
    """Batch of one; zeros for a sensor that the frame lacks, whose latents no pattern looks at then."""
    if frame is None:
        return torch.from_numpy(np.zeros((1, *input_shape(modality, size)), INPUT_DTYPES[modality]))
    return torch.from_numpy(prepare(frame, size).copy())[None]
