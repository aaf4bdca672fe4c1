"""What follows from one sensor alone may be made ahead: the fusion's outputs stay what they are."""

from __future__ import annotations

import copy

import pytest
import torch
from measurements import SIZE, raw_inputs
from torch import Tensor
from variants import VARIANTS, build

from robust_perception.model import alone
from robust_perception.model.adapter_bank import AdapterConfig, attach
from robust_perception.model.availability import flags, pick_map
from robust_perception.vocabulary import ALL_PATTERNS, MODALITIES, Modality, Pattern


@pytest.mark.parametrize("name", VARIANTS)
@torch.no_grad()
def test_outputs_are_those_of_a_fusion_that_makes_all_itself(name: str) -> None:
    network = build(name)
    ahead = copy.deepcopy(network.fusion)
    ahead.propose_ahead()
    latents = network.encode(raw_inputs(SIZE))
    for pattern in ALL_PATTERNS:
        bits = torch.tensor([pattern.bits])
        given = {m: x if m in pattern else nothing(x) for m, x in latents.items()}
        made = {m: ahead.alone(m, given[m]) for m in MODALITIES}
        found, expected = ahead(given, bits, SIZE, made), network.fusion(latents, bits, SIZE)
        torch.testing.assert_close(found.segmentation, expected.segmentation, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.detections, expected.detections, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(found.scene, expected.scene, rtol=1e-4, atol=1e-5)


def nothing(latents: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(torch.full_like(x, float("nan")) for x in latents)


def test_fine_levels_propose_where_coarse_ones_are_completed() -> None:
    fusion = copy.deepcopy(build("joint").fusion)
    assert fusion.alone_keys(Modality.RGB).proposals == (), "training makes them where they are needed"
    fusion.propose_ahead()
    assert fusion.alone_keys(Modality.RGB).proposals == ("p2", "p3")
    assert fusion.alone_keys(Modality.AUDIO).proposals == ()


def test_layers_that_follow_the_pattern_propose_nothing() -> None:
    network = copy.deepcopy(build("plain"))
    config = AdapterConfig(kind="ssf", places=("fusion",), finest_stride=16, budget=1.0)
    attach(network, config, ALL_PATTERNS[1:], MODALITIES)
    network.fusion.propose_ahead()
    assert network.fusion.proposed == ("p2", "p3"), "p4 and p5 have adapters"


def test_a_mixture_with_a_bias_counts_for_absent_sensors_and_is_not_made_ahead() -> None:
    fusion = copy.deepcopy(build("plain").fusion)
    layer = fusion.level(1).mix["rgb"]
    layer.bias = torch.nn.Parameter(torch.ones(layer.out_channels))  # as a merged adapter leaves it
    fusion.propose_ahead()
    assert fusion.proposed == ("p2", "p4", "p5")
    seen = {m: torch.zeros(1, 16, 4, 4) for m in fusion.config.image_modalities}
    bits = torch.tensor([Pattern.parse("depth").bits])
    with torch.no_grad():
        biased = fusion.level(1)(seen, None, bits)
        layer.bias.zero_()
        torch.testing.assert_close(biased - fusion.level(1)(seen, None, bits), torch.ones_like(biased))


def test_names_and_tensors_are_in_one_order() -> None:
    fusion = copy.deepcopy(build("joint").fusion)
    fusion.propose_ahead()
    keys = fusion.alone_keys(Modality.DEPTH)
    names = keys.names(Modality.DEPTH)
    assert names[:2] == ["depth_p4_as_rgb", "depth_p4_as_thermal"]
    assert names[-4:] == ["depth_p2_gate", "depth_p2_mixed", "depth_p3_gate", "depth_p3_mixed"]
    numbered = [torch.tensor(float(i)) for i in range(len(names))]
    assert alone.flat(keys.unflatten(iter(numbered))) == tuple(numbered)


class Looks(torch.nn.Module):
    """A flag as a graph looks it up."""

    def forward(self, pattern: Tensor) -> Tensor:
        found, row = flags(pattern, MODALITIES)
        return pick_map(found[Modality.DEPTH], row)


def test_a_graph_looks_flags_up() -> None:
    looks = Looks()
    program = torch.export.export(looks, (torch.tensor([1]),))
    assert any("index_select" in str(node.target) for node in program.graph.nodes)
    for bits in range(16):
        pattern = torch.tensor([bits])
        assert program.module()(pattern).tolist() == looks(pattern).tolist()
        assert bool(looks(pattern)) == (Modality.DEPTH in Pattern(bits) if bits else False)
