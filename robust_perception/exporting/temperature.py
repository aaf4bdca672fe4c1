"""One temperature a pattern, so that confidence means what it says (after Guo et al., arXiv 1706.04599).

With l the logits of a pixel of stride 4 and y its class,

    T_c  = argmin_T  mean of -log softmax( l / T )[y]     over labelled pixels of validation frames under c
    ECE  = sum_b n_b / n | accuracy_b - confidence_b |    b: 15 bins of the largest probability, equally wide

The label map does not change: the largest logit stays the largest. A poorer pattern is as a rule more sure of
itself than it should be, and each by a measure of its own [X].
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from robust_perception.engine.manifest import Calibration
from robust_perception.model.graphs import STRIDE
from robust_perception.model.network import Network
from robust_perception.training.mixture import MixedDataset
from robust_perception.training.validation import measured_frames, network_input
from robust_perception.vocabulary import UNLABELLED, Pattern

BINS = 15
PIXELS_A_FRAME = 1000
RANGE = (0.1, 10.0)
"""Of temperatures: beyond it the fit has found no answer."""


@torch.no_grad()
def fit_temperatures(
    network: Network, dataset: MixedDataset, patterns: Sequence[Pattern], size: tuple[int, int], limit: int
) -> dict[int, Calibration]:
    """Fit every pattern on its own.

    Args:
        network: in evaluation mode.
        dataset: validation frames; those that do not label every class are left out.
        patterns: to fit.
        size: (H, W) of the model.
        limit: frames to look at.

    Returns:
        By pattern's bits; a pattern that no labelled frame can show is left out.
    """
    logits: dict[Pattern, list[Tensor]] = {pattern: [] for pattern in patterns}
    labels: dict[Pattern, list[Tensor]] = {pattern: [] for pattern in patterns}
    generator = np.random.default_rng(0)
    for index in measured_frames(dataset, limit):
        sample = dataset[index]
        if sample.label is None or not dataset.known_classes(index).all():
            continue
        inputs = {m: network_input(m, sample.frames.get(m), size) for m in network.config.modalities}
        label = label_of_cells(sample.label, size).ravel()
        known = np.flatnonzero(label != UNLABELLED)
        if known.size == 0:
            continue
        chosen = generator.permutation(known)[:PIXELS_A_FRAME]
        for pattern in patterns:
            if not all(m in sample.frames for m in pattern):
                continue
            bits = torch.tensor([pattern.bits])
            with network.selection.of(bits):
                coarse = network.fusion(network.encode(inputs, pattern), bits, size).coarse
            logits[pattern].append(coarse[0].flatten(1).T[chosen])
            labels[pattern].append(torch.from_numpy(label[chosen].astype(np.int64)))
    return {p.bits: fit(torch.cat(logits[p]), torch.cat(labels[p])) for p in patterns if logits[p]}


def label_of_cells(label: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """The class at the centre of every cell of stride 4, uint8, of a label map (H, W) of any size.

    A corner instead is another class in a cell of a hundred, which looks as if the network were too sure.
    """
    cells = (-(-size[0] // STRIDE), -(-size[1] // STRIDE))
    found = cv2.resize(label, cells[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    return found.astype(np.uint8, copy=False)


def fit(logits: Tensor, labels: Tensor) -> Calibration:
    """The temperature of logits (N, classes) with classes int64 (N,), and the error that is left."""

    def loss(log_temperature: float) -> float:
        return float(torch.nn.functional.cross_entropy(logits / math.exp(log_temperature), labels))

    found = minimize_scalar(loss, bounds=tuple(map(math.log, RANGE)), method="bounded")
    temperature = math.exp(float(found.x))
    return Calibration(
        temperature, calibration_error(logits, labels), calibration_error(logits / temperature, labels)
    )


def calibration_error(logits: Tensor, labels: Tensor) -> float:
    """ECE of logits (N, classes), 0 to 1."""
    probability, predicted = torch.softmax(logits, dim=1).max(dim=1)
    bins = (probability * BINS).long().clamp(max=BINS - 1)
    gap = torch.zeros(BINS, dtype=torch.float64)
    gap.index_add_(0, bins, (predicted == labels).double() - probability.double())
    return float(gap.abs().sum() / len(labels))


def temperatures_of(calibration: Mapping[int, Calibration]) -> dict[int, float]:
    """By pattern's bits."""
    return {bits: one.temperature for bits, one in calibration.items()}
