"""Names tell the strides that a running network shows."""

from __future__ import annotations

import copy

import pytest
import torch
from measurements import raw_inputs
from torch import Tensor, nn

from robust_perception.model.adapter_bank import AdapterConfig, attach
from robust_perception.model.network import Network
from robust_perception.model.resolution import is_wide, stride_of
from robust_perception.vocabulary import ALL_PATTERNS, MODALITIES

SIZE = (128, 64)


@pytest.mark.parametrize("which", ["plain", "joint"])
def test_the_stride_is_that_of_the_map_that_a_layer_gives(which: str, request: pytest.FixtureRequest) -> None:
    network: Network = request.getfixturevalue(which)
    seen: dict[str, int] = {}

    def watch(name: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def note(_: nn.Module, __: object, out: Tensor) -> None:
            if out.ndim == 4 and out.shape[2] == 2 * out.shape[3]:
                seen[name] = SIZE[1] // out.shape[3]

        return module.register_forward_hook(note)

    handles = [watch(n, m) for n, m in network.named_modules() if isinstance(m, (nn.Conv2d, nn.BatchNorm2d))]
    with torch.no_grad():
        for pattern in ALL_PATTERNS[-4:]:
            network(raw_inputs(SIZE), torch.tensor([pattern.bits]))
    for handle in handles:
        handle.remove()
    assert len(seen) > 150
    for name, stride in seen.items():
        told = stride_of(name)
        if "encoders.audio" in name or "segmentation" in name or "detection" in name:
            continue
        # What widens at a block's beginning still has the cells of the block before.
        first = is_wide(name) and stride != told
        assert told == stride or (first and told == 2 * stride), name


def test_coarse_narrow_layers_alone_are_adapted(joint: Network) -> None:
    network = copy.deepcopy(joint)
    config = AdapterConfig("ssf", finest_stride=16, wide=False)
    names = set(attach(network, config, ALL_PATTERNS[1:], MODALITIES).adapters)
    assert not [name for name in names if is_wide(name) or (stride_of(name) or 16) < 16]
    backbone = "encoders.rgb.backbone._blocks"
    adapted = {
        f"{backbone}.5._bn2", f"{backbone}.15._bn2", "encoders.depth.necks.p4.0", "encoders.audio.project",
        "fusion.levels.2.smooth.2", "fusion.decoder.convs.1.1", "fusion.levels.0.sound",
    }  # fmt: skip
    left_out = {
        f"{backbone}.4._bn2", f"{backbone}.5._bn1", "encoders.rgb.necks.p3.0", "fusion.decoder.convs.2.1",
        "fusion.levels.1.smooth.2",
    }  # fmt: skip
    assert adapted <= names
    assert names.isdisjoint(left_out)
