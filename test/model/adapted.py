"""Networks with adapters for tests: a small one of every kind of layer, and copies of the real one."""

from __future__ import annotations

import copy

import pytest
import torch
from measurements import SIZE, raw_inputs
from torch import Tensor, nn

from robust_perception.model.adapter_bank import (
    AdapterBank,
    AdapterConfig,
    adapter_state,
    attach,
)
from robust_perception.model.adapters import KINDS
from robust_perception.model.efficientnet import SameConv2d
from robust_perception.model.encoders import ChannelNorm
from robust_perception.model.network import Network, Outputs
from robust_perception.model.pattern_selection import PatternSelection
from robust_perception.vocabulary import ALL_PATTERNS, MODALITIES, Modality, Pattern, patterns_of

FULL = Pattern.of(MODALITIES)
TRAINED = tuple(p for p in ALL_PATTERNS if p != FULL)
TWO = (Modality.RGB, Modality.AUDIO)
SOME = (*(Pattern.parse(text) for text in ("audio", "thermal", "rgb+audio", "rgb+depth+thermal")), FULL)
"""Of each number of sensors, where a run of the network for all 15 takes too long."""

kinds = pytest.mark.parametrize("kind", sorted(KINDS))


class Small(nn.Module):
    """Every kind of layer that takes an adapter, of a sensor or of all; (B, 3, 9, 11) -> (B, 5)."""

    def __init__(self) -> None:
        super().__init__()
        self.selection = PatternSelection()
        rgb = nn.Sequential(
            SameConv2d(3, 8, 3, 2, bias=False), nn.BatchNorm2d(8), nn.ReLU6(),
            SameConv2d(8, 8, 5, groups=8, bias=False), nn.BatchNorm2d(8),
            nn.Conv2d(8, 8, 1), ChannelNorm(8),
        )  # fmt: skip
        self.encoders = nn.ModuleDict({"rgb": rgb, "audio": nn.Linear(4, 8)})
        self.representers = nn.ModuleDict()
        self.fusion = nn.ModuleDict(
            {
                "mix": nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1, bias=False), nn.GroupNorm(2, 8), nn.ReLU()),
                "deep": nn.Sequential(nn.Linear(8, 6), nn.LayerNorm(6)),
                "segmentation": nn.Linear(6, 5),
            }
        )

    def forward(self, x: Tensor, pattern: Tensor) -> Tensor:
        with self.selection.of(pattern):
            seen, heard = self.encoders["rgb"](x), self.encoders["audio"](x[:, 0, 0, :4])
            here = [((pattern // bit) % 2 == 1) for bit in (1, 8)]
            seen = torch.where(here[0][:, None, None, None], seen, 0.0)
            heard = torch.where(here[1][:, None], heard, 0.0)
            mixed = self.fusion["mix"](seen + heard[:, :, None, None]).mean(dim=(2, 3))
            out: Tensor = self.fusion["segmentation"](self.fusion["deep"](mixed))
            return out


def small() -> Small:
    torch.manual_seed(0)
    built = Small()
    for module in built.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.normal_(module.running_mean)
    return built.eval()


def pictures(batch: int) -> Tensor:
    return torch.randn(batch, 3, 9, 11, generator=torch.Generator().manual_seed(5))


def bits(*patterns: Pattern) -> Tensor:
    return torch.tensor([p.bits for p in patterns])


def perturb(network: nn.Module, by: float) -> None:
    """Rows as training might leave them: none alike."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for row in adapter_state(network).values():
            row.add_(torch.randn(row.shape, generator=generator) * by)


def adapted_small(kind: str, by: float = 0.3) -> tuple[Small, AdapterBank]:
    network = small()
    bank = attach(network, AdapterConfig(kind, budget=1.0, rank=2), patterns_of(TWO)[1:], TWO)
    perturb(network, by)
    return network, bank


def flat(outputs: Outputs) -> tuple[Tensor, ...]:
    assert outputs.scene is not None
    return (outputs.segmentation, *outputs.detections, outputs.scene)


def run(network: Network, pattern: Pattern) -> tuple[Tensor, ...]:
    with torch.no_grad():
        return flat(network(raw_inputs(SIZE), bits(pattern)))


def adapted(
    network: Network, kind: str, patterns: tuple[Pattern, ...] = TRAINED
) -> tuple[Network, AdapterBank]:
    own = copy.deepcopy(network)
    return own, attach(own, AdapterConfig(kind, budget=1.0, rank=2), patterns, MODALITIES)
