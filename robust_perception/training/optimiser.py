"""AdamW, its learning rate over time, and the running average of the weights.

    rate(k) = peak * (k + 1) / warm                                  k < warm steps
    rate(k) = peak * (1 + cos(pi (k - warm) / (steps - warm))) / 2   afterwards
    average <- d average + (1 - d) weights,   d = min(decay, (1 + k) / (10 + k))

Weight decay acts on matrices and kernels; norms, biases and tables of patterns are left alone.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import nn

from robust_perception.model.network import Network
from robust_perception.training.config import OptimiserConfig
from robust_perception.training.method_config import StageConfig
from robust_perception.training.stages import check_focus, learning_scale


def build(
    network: nn.Module, config: OptimiserConfig, stages: Sequence[StageConfig] = ()
) -> torch.optim.AdamW:
    """AdamW over what learns, in groups of one rate.

    A group's rate is the peak times `scale` (ImageNet backbones learn slower) times the factor in `stages` of
    the stage that the run is in; matrices and kernels decay.

    Raises:
        ConfigError: the focus of a stage is the beginning of no parameter's name.
    """
    check_focus(stages, (name for name, _ in network.named_parameters()))
    groups: dict[tuple[bool, bool, tuple[float, ...]], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad and parameter.numel():
            decays = parameter.ndim > 1 and "prior" not in name
            factors = tuple(learning_scale(stage, name) for stage in stages)
            groups.setdefault((".backbone." in name, decays, factors), []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "weight_decay": config.weight_decay if decays else 0.0,
                "scale": config.backbone_scale if backbone else 1.0,
                "stages": factors,
            }
            for (backbone, decays, factors), parameters in sorted(groups.items(), key=lambda item: item[0])
        ],
        lr=config.learning_rate,
    )


def rate(step: int, steps: int, config: OptimiserConfig) -> float:
    """Learning rate of step `step` (from 0) out of `steps`, before the groups' factors."""
    return config.learning_rate * half_cosine(step, steps, config.warmup)


def half_cosine(step: int, steps: int, warmup: float) -> float:
    """Factor in [0, 1] of step `step` (from 0) out of `steps`, of which the part `warmup` rises."""
    warm = round(warmup * steps)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1.0 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


class WeightAverage:
    """Running average of a network's weights and statistics.

    Args:
        network: whose; it starts there.
        decay: 0 = always the newest weights.
    """

    def __init__(self, network: Network, decay: float) -> None:
        self.decay = decay
        self.network = copy.deepcopy(network).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, network: Network, step: int) -> None:
        """Take in the weights after step `step`, counted from 0."""
        keep = min(self.decay, (1 + step) / (10 + step))
        for mine, new in zip(self.network.state_dict().values(), network.state_dict().values(), strict=True):
            if mine.is_floating_point():
                mine.lerp_(new, 1.0 - keep)
            else:
                mine.copy_(new)
