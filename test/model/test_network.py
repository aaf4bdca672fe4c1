"""The network under every pattern: what is absent leaves no trace, what is present counts."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from measurements import SIZE, raw_inputs, shake
from torch import Tensor

from robust_perception.model.availability import is_present
from robust_perception.model.errors import ModelError
from robust_perception.model.fusion import LevelFusion, SumFusion
from robust_perception.model.heads import DETECTION_STRIDES
from robust_perception.model.network import Network, Outputs
from robust_perception.model.network_config import NetworkConfig
from robust_perception.vocabulary import ALL_PATTERNS, MODALITIES, Modality, Pattern

Latents = Mapping[Modality, tuple[Tensor, ...]]


def flat(outputs: Outputs) -> tuple[Tensor, ...]:
    assert outputs.scene is not None
    return (outputs.segmentation, *outputs.detections, outputs.scene)


def run(network: Network, latents: Latents, pattern: Pattern) -> tuple[Tensor, ...]:
    with torch.no_grad():
        return flat(network.fusion(dict(latents), torch.tensor([pattern.bits]), SIZE))


def filled(latents: Latents, pattern: Pattern, value: float) -> Latents:
    """The latents with `value` everywhere in those that the pattern leaves out."""
    return {
        m: tuple(x if m in pattern else torch.full_like(x, value) for x in levels)
        for m, levels in latents.items()
    }


@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), -float("inf"), 1e30, 0.0])
@pytest.mark.parametrize("pattern", ALL_PATTERNS, ids=str)
def test_absent_latents_change_no_bit(
    pattern: Pattern, garbage: float, network: Network, latents: Latents
) -> None:
    expected = run(network, latents, pattern)
    found = run(network, filled(latents, pattern, garbage), pattern)
    for a, b in zip(expected, found, strict=True):
        assert bool(torch.isfinite(a).all())
        assert torch.equal(a.view(torch.int32), b.view(torch.int32))


def test_every_pattern_gives_an_output_of_its_own(network: Network, latents: Latents) -> None:
    outputs = {p: run(network, latents, p) for p in ALL_PATTERNS}
    for first in ALL_PATTERNS:
        for second in ALL_PATTERNS:
            if first < second:
                for a, b in zip(outputs[first], outputs[second], strict=True):
                    assert not torch.equal(a, b), f"{first} and {second} cannot be told apart"


@pytest.mark.parametrize("modality", MODALITIES)
def test_present_latents_count(modality: Modality, network: Network, latents: Latents) -> None:
    changed = {m: tuple(x.flip(-1) if m is modality else x for x in v) for m, v in latents.items()}
    for pattern in ALL_PATTERNS:
        before, after = run(network, latents, pattern), run(network, changed, pattern)
        same = all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
        assert same is (modality not in pattern), str(pattern)


def test_samples_of_a_batch_have_patterns_of_their_own(network: Network, latents: Latents) -> None:
    bits = torch.tensor([p.bits for p in ALL_PATTERNS])
    repeated = {m: tuple(x.expand(len(bits), *x.shape[1:]) for x in v) for m, v in latents.items()}
    with torch.no_grad():
        together = flat(network.fusion(repeated, bits, SIZE))
    for index, pattern in enumerate(ALL_PATTERNS):
        for batch, alone in zip(together, run(network, latents, pattern), strict=True):
            torch.testing.assert_close(batch[index], alone[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("modality", MODALITIES)
def test_blank_frames_beside_those_of_a_sensor_teach_its_encoder_nothing(modality: Modality) -> None:
    config = NetworkConfig(
        MODALITIES, ("background", "a"), width=16, fine_width=16, audio_width=24, bottleneck=16, shared=True,
        translation="poe",
    )  # fmt: skip
    torch.manual_seed(0)
    alone = Network(config).train()
    beside = copy.deepcopy(alone)
    raw = raw_inputs(SIZE, batch=2)[modality]
    blank = torch.zeros_like(raw)
    there = torch.tensor([False, True, False, True])
    expected = alone.represent(modality, raw, torch.tensor([True, True]))
    found = beside.represent(modality, torch.stack([blank[0], raw[0], blank[1], raw[1]]), there)
    for one, many in zip(alone.latents(modality, expected), beside.latents(modality, found), strict=True):
        torch.testing.assert_close(many[there], one)
    nobody = beside.represent(modality, torch.cat([blank, blank]), torch.zeros(4, dtype=torch.bool))
    assert [x.shape for x in nobody.tokens] == [x.shape for x in found.tokens]
    state = beside.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in alone.state_dict().items())


def test_gradients_stay_finite_beside_garbage(network: Network, latents: Latents) -> None:
    for pattern in ALL_PATTERNS:
        network.zero_grad()
        fed = {
            m: tuple(x.detach().clone().requires_grad_() for x in v)
            for m, v in filled(latents, pattern, float("nan")).items()
        }
        outputs = flat(network.fusion(fed, torch.tensor([pattern.bits]), SIZE))
        torch.stack([o.pow(2).mean() for o in outputs]).sum().backward()
        for name, parameter in network.fusion.named_parameters():
            assert parameter.grad is None or bool(torch.isfinite(parameter.grad).all()), f"{pattern}: {name}"
        for modality, levels in fed.items():
            for level in levels:
                assert level.grad is not None
                assert bool((level.grad != 0).any()) is (modality in pattern), f"{pattern}: {modality}"
    network.zero_grad()


def test_every_parameter_learns() -> None:
    torch.manual_seed(0)
    trained = Network(NetworkConfig(MODALITIES, ("background", "cup"), ("quiet",), 8, 8)).train()
    shake(trained.fusion)
    bits = torch.tensor([p.bits for p in ALL_PATTERNS])
    outputs = flat(trained(raw_inputs((64, 64), batch=len(bits)), bits))
    torch.stack([(o * torch.randn(o.shape)).mean() for o in outputs]).sum().backward()
    idle = [n for n, p in trained.named_parameters() if p.grad is None or not bool((p.grad != 0).any())]
    assert idle == []


@pytest.mark.parametrize("size", [(64, 96), SIZE, (65, 129)])
def test_shapes(size: tuple[int, int], network: Network) -> None:
    cells = sum(-(-size[0] // s) * -(-size[1] // s) for s in DETECTION_STRIDES)
    with torch.no_grad():
        outputs = network(raw_inputs(size, batch=2), torch.tensor([15, 4]))
    assert outputs.segmentation.shape == (2, 3, *size)
    assert outputs.detections.class_logits.shape == (2, cells, 2)
    assert outputs.detections.log_distances.shape == outputs.detections.boxes.shape == (2, cells, 4)
    assert outputs.detections.centre_logits.shape == (2, cells)
    assert outputs.scene.shape == (2, 2)


def test_boxes_are_decoded_as_the_formula_says(network: Network, latents: Latents) -> None:
    with torch.no_grad():
        found = network.fusion(dict(latents), torch.tensor([15]), SIZE).detections
    cell = 0
    for stride in DETECTION_STRIDES:
        for i in range(-(-SIZE[0] // stride)):
            for j in range(-(-SIZE[1] // stride)):
                u, v = (j + 0.5) * stride, (i + 0.5) * stride
                left, top, right, bottom = (stride * found.log_distances[0, cell].exp()).tolist()
                expected = torch.tensor([u - left, v - top, u + right, v + bottom])
                torch.testing.assert_close(found.boxes[0, cell], expected)
                cell += 1
    assert cell == found.boxes.shape[1]


def test_without_scene_classes_and_without_sound() -> None:
    small = Network(NetworkConfig((Modality.RGB, Modality.THERMAL), ("background", "cup"), (), 8)).eval()
    assert set(small.encoders) == {"rgb", "thermal"}
    with torch.no_grad():
        outputs = small(raw_inputs((64, 64)), torch.tensor([Pattern.parse("thermal").bits]))
    assert outputs.scene is None


IMAGES = MODALITIES[:3]


@pytest.mark.parametrize("coarse", [True, False])
@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("pattern", ["rgb+thermal+audio", "depth", "audio"])
@torch.no_grad()
def test_a_level_is_fused_as_the_formula_says(pattern: str, complete: bool, coarse: bool) -> None:
    torch.manual_seed(0)
    level = LevelFusion(IMAGES, 4, 3, complete, coarse)
    shake(level)
    latents = {m: torch.randn(1, 4, 2, 3) for m in IMAGES}
    sound, bits = torch.randn(1, 3), Pattern.parse(pattern).bits
    counting = [m for m in IMAGES if complete or m in Pattern.parse(pattern)]
    trust = level.gate_prior.weight[bits].reshape(3, -1, 1, 1)
    raised = {m: (level.gates[m.value](latents[m]) + trust[IMAGES.index(m)]).exp() for m in counting}
    expected = (level.prior.weight[bits] + level.sound(sound)[0])[None, :, None, None].expand(1, 4, 2, 3)
    for m in counting:
        share = raised[m] / torch.stack(list(raised.values())).sum(dim=0)
        expected = expected + share * latents[m] + level.mix[m.value](latents[m])
    if coarse:
        expected = expected + level.smooth(expected)
    torch.testing.assert_close(level(latents, sound, torch.tensor([bits])), expected)


@pytest.mark.parametrize("complete", [True, False])
@torch.no_grad()
def test_sums_are_fused_as_the_formula_says(complete: bool) -> None:
    torch.manual_seed(0)
    level = SumFusion(IMAGES, 4, 3, complete)
    latents, sound = {m: torch.randn(1, 4, 2, 3) for m in IMAGES}, torch.randn(1, 3)
    fused = level.sound(sound)[:, :, None, None] + latents[Modality.RGB] + latents[Modality.THERMAL]
    if complete:
        fused = fused + latents[Modality.DEPTH]
    bits = torch.tensor([Pattern.parse("rgb+thermal").bits])
    torch.testing.assert_close(level(latents, sound, bits), fused + level.smooth(fused))


@pytest.mark.parametrize("coarse", [True, False])
@torch.no_grad()
def test_training_starts_from_the_mean_over_what_is_there_and_hardly_from_guesses(coarse: bool) -> None:
    latents = {m: torch.full((1, 4, 2, 2), value) for m, value in zip(IMAGES, (1.0, 3.0, 100.0), strict=True)}
    bits = torch.tensor([Pattern.parse("rgb+depth").bits])
    guess = math.exp(-4.0)
    for complete, expected in ((False, 2.0), (True, (1.0 + 100.0 * guess + 3.0) / (2.0 + guess))):
        level = LevelFusion(IMAGES, 4, 0, complete, coarse)
        for layer in level.mix.values():
            torch.nn.init.zeros_(layer.weight)
        for gate in level.gates.values():
            torch.nn.init.zeros_(gate.bias)  # small, and all that tells sensors apart at first
        level.smooth = None
        torch.testing.assert_close(level(latents, None, bits), torch.full((1, 4, 2, 2), expected))


def test_is_present_reads_the_bits() -> None:
    bits = torch.arange(1, 16)
    for modality in MODALITIES:
        assert is_present(bits, modality).tolist() == [modality in Pattern(b) for b in range(1, 16)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"modalities": (Modality.AUDIO,)}, "at least one of rgb, depth, thermal; got .*audio"),
        ({"modalities": ()}, r"got modalities \[\]"),
        ({"class_names": ("background",)}, r"at least one class, got \['background'\]"),
        ({"width": 12}, "width is a positive multiple of 8 .*got 12"),
        ({"width": 0}, "width .*got 0"),
        ({"audio_width": -8}, "audio_width .*got -8"),
    ],
)
def test_wrong_configuration_is_refused(change: dict[str, Any], words: str) -> None:
    values: dict[str, Any] = {"modalities": MODALITIES, "class_names": ("background", "cup")}
    with pytest.raises(ModelError, match=words):
        NetworkConfig(**(values | change))


def test_configuration_survives_json() -> None:
    config = NetworkConfig(
        (Modality.DEPTH, Modality.AUDIO), ("background", "cup"), ("loud",), 24, 16, 40, 1.1, 0.7, 290.5, 3.5
    )
    assert NetworkConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_imagenet_start_reaches_every_image_encoder() -> None:
    built = Network(NetworkConfig(MODALITIES, ("background", "cup"), (), 8, 8))
    built.load_imagenet()
    blocks = [built.encoders[m.value].backbone._blocks[5]._project_conv.weight for m in MODALITIES[:3]]
    assert torch.equal(blocks[0], blocks[1])
    assert torch.equal(blocks[0], blocks[2])
