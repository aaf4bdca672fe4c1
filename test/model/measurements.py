"""Random measurements for the tests of this folder, and weights that use every path."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from robust_perception.vocabulary import Modality

SIZE = (72, 88)
"""No multiple of 32, so that levels do not halve exactly."""


def raw_inputs(size: tuple[int, int], batch: int = 1, seed: int = 0) -> dict[Modality, Tensor]:
    """Random measurements of all four sensors; some depths are missing."""
    generator = np.random.default_rng(seed)
    depth = generator.uniform(0.3, 6.0, (batch, *size)).astype(np.float32)
    depth[generator.random(depth.shape) < 0.1] = np.nan
    return {
        Modality.RGB: torch.from_numpy(generator.integers(0, 256, (batch, *size, 3), dtype=np.uint8)),
        Modality.DEPTH: torch.from_numpy(depth),
        Modality.THERMAL: torch.from_numpy(generator.normal(295, 6, (batch, *size)).astype(np.float32)),
        Modality.AUDIO: torch.from_numpy(generator.normal(0, 0.1, (batch, 16000)).astype(np.float32)),
    }


def shake(network: torch.nn.Module, seed: int = 1) -> None:
    """Random values where a fresh network has zeros, so that every path of it is really used."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.numel() and (parameter.abs().max() == 0 or "prior" in name):
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
