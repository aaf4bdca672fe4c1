"""The losses put together: what one pass over a batch is worth.

L = w_full L(outputs under everything the sample has) + w_drop L(outputs under a random pattern)
    + w_dist KL(full || random)
L(outputs) = sum of the weighted losses of `losses`
"""

from __future__ import annotations

import torch
from torch import Tensor

from robust_perception.model.heads import Detections
from robust_perception.model.network import FusionNetwork, Latents, Outputs
from robust_perception.training import losses
from robust_perception.training.batch import Batch
from robust_perception.training.config import LossConfig, PatternConfig
from robust_perception.training.errors import NonFiniteLossError
from robust_perception.training.targets import Targets, assign
from robust_perception.vocabulary import Pattern


def pattern_tensor(patterns: tuple[Pattern, ...]) -> Tensor:
    """Bitmasks of a batch, int64 (B,)."""
    return torch.tensor([p.bits for p in patterns], dtype=torch.int64)


def task_losses(outputs: Outputs, batch: Batch, targets: Targets, config: LossConfig) -> dict[str, Tensor]:
    """The weighted loss of every head by name."""
    found = {
        "cross_entropy": losses.cross_entropy(outputs.segmentation, batch.label, config.background_weight),
        "dice": losses.dice(outputs.segmentation, batch.label),
    }
    known = batch.boxes_known
    if bool(known.any()):
        detections = Detections(*(column[known] for column in outputs.detections))
        found |= losses.detection(detections, Targets(*(column[known] for column in targets)))
    if outputs.scene is not None:
        found["scene"] = losses.scene(outputs.scene, batch.scene, batch.scene_known)
    return {name: value * getattr(config, name) for name, value in found.items()}


def objective(
    fusion: FusionNetwork,
    latents: Latents,
    batch: Batch,
    drawn: tuple[Pattern, ...],
    losses_config: LossConfig,
    patterns: PatternConfig,
) -> tuple[Tensor, dict[str, float]]:
    """Total loss of a batch and its parts, for the log.

    Args:
        fusion: the half of the network that takes patterns.
        latents: of every modality of the network.
        batch: what was encoded.
        drawn: a random pattern per sample.
        losses_config: weights of the losses.
        patterns: weights of the passes.

    Raises:
        NonFiniteLossError: names the loss, the pass and the patterns.
    """
    size = (batch.label.shape[1], batch.label.shape[2])
    targets = assign(batch.boxes, batch.class_ids, size)
    total = batch.label.new_zeros((), dtype=torch.float32)
    parts: dict[str, float] = {}
    logits: dict[str, Tensor] = {}
    passes = (
        ("full", batch.available, patterns.full_weight),
        ("random", drawn, patterns.dropout_weight),
    )
    for name, shown, weight in passes:
        if weight == 0.0:
            continue
        outputs = fusion(latents, pattern_tensor(shown), size)
        logits[name] = outputs.segmentation
        for loss, value in task_losses(outputs, batch, targets, losses_config).items():
            if not bool(torch.isfinite(value)):
                raise NonFiniteLossError(loss, name, sorted({str(p) for p in shown}), float(value.detach()))
            total = total + weight * value
            parts[f"{name}/{loss}"] = float(value.detach())
    if patterns.distillation:
        value = losses.distillation(logits["random"], logits["full"], batch.label)
        total = total + patterns.distillation * value
        parts["distillation"] = float(value.detach())
    return total, parts
