"""The composed network: what the papers' parts promise together (acceptance tests of the method's notes)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from measurements import SIZE, raw_inputs
from torch import nn
from variants import build

from robust_perception.model import graphs
from robust_perception.model.adapter_bank import AdapterConfig, attach
from robust_perception.model.network import Network, Noise
from robust_perception.model.network_config import NetworkConfig
from robust_perception.vocabulary import ALL_PATTERNS, MODALITIES, Modality, Pattern, patterns_of


def spoilt(inputs: dict[Modality, torch.Tensor], pattern: Pattern) -> dict[Modality, torch.Tensor]:
    """Other measurements of the sensors that the pattern leaves out."""
    return {
        m: x if m in pattern else 255 - x if x.dtype is torch.uint8 else torch.full_like(x, torch.nan)
        for m, x in inputs.items()
    }


@torch.no_grad()
def bits_of(network: Network, inputs: dict[Modality, torch.Tensor], pattern: Pattern) -> list[torch.Tensor]:
    found = network(inputs, torch.tensor([pattern.bits]))
    return [found.segmentation, *found.detections, found.scene]


@pytest.mark.parametrize("pattern", ALL_PATTERNS, ids=str)
def test_an_absent_sensors_raw_input_changes_no_bit(pattern: Pattern, variant: Network) -> None:
    inputs = raw_inputs(SIZE)
    before = bits_of(variant, inputs, pattern)
    for a, b in zip(before, bits_of(variant, spoilt(inputs, pattern), pattern), strict=True):
        assert bool(torch.isfinite(a).all())
        assert torch.equal(a.view(torch.int32), b.view(torch.int32))


def test_noise_moves_the_fused_latent_only_when_asked_for(joint: Network) -> None:
    pattern = torch.tensor([15])
    with torch.no_grad():
        latents = joint.encode(raw_inputs(SIZE))
        mean = joint.fusion.fuse(latents, pattern).levels[-1]
        samples = [
            joint.fusion.fuse(latents, pattern, noise=Noise(1.0, torch.Generator().manual_seed(s))).levels[-1]
            for s in (1, 1, 2)
        ]
    assert not torch.equal(samples[0], mean)
    assert torch.equal(samples[0], samples[1]) and not torch.equal(samples[0], samples[2])


def calls_of_translators(network: Network, pattern: Pattern) -> int:
    called: list[nn.Module] = []
    handles = [
        translator.register_forward_hook(lambda module, *_: called.append(module))
        for completion in network.fusion.completions.values()
        for translator in completion.translators.pairs.values()
    ]
    bits_of(network, raw_inputs(SIZE), pattern)
    for handle in handles:
        handle.remove()
    return len(called)


def test_the_full_pattern_calls_no_translator_and_sound_alone_calls_its_own(joint: Network) -> None:
    assert calls_of_translators(joint, Pattern.of(MODALITIES)) == 0
    assert calls_of_translators(joint, Pattern.of([Modality.AUDIO])) > 0


def test_pairs_that_training_never_saw_are_left_out() -> None:
    config = NetworkConfig(
        MODALITIES, ("background", "cup"), (), 8, 8, bottleneck=8, translation="mean", seen=("rgb-depth",)
    )
    network = Network(config).eval()
    assert calls_of_translators(network, Pattern.of([Modality.THERMAL])) == 0
    assert calls_of_translators(network, Pattern.of([Modality.RGB])) > 0
    assert NetworkConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    "modalities",
    [
        (Modality.RGB, Modality.THERMAL),
        pytest.param(MODALITIES, marks=[pytest.mark.slow, pytest.mark.timeout(900)]),
    ],
    ids=lambda sensors: f"{len(sensors)} sensors",
)
def test_graphs_answer_as_the_network_does_and_absent_latents_change_no_bit(
    modalities: tuple[Modality, ...], tmp_path: Path
) -> None:
    network = build("joint", modalities)
    files = graphs.write_graphs(network, (64, 96), tmp_path)
    source = str(Path(graphs.__file__).parent).encode()
    assert all(source not in file.read_bytes() for file in files.values()), "a path of the maker's machine"
    sessions = {name: onnxruntime.InferenceSession(file) for name, file in files.items()}
    inputs = {m: x for m, x in raw_inputs((64, 96)).items() if m in modalities}
    flat: dict[str, np.ndarray] = {}
    of: dict[Modality, list[str]] = {}
    for m in modalities:
        session = sessions[f"encoder_{m.value}"]
        of[m] = [output.name for output in session.get_outputs()]
        flat |= dict(zip(of[m], session.run(None, {m.value: inputs[m].numpy()}), strict=True))
    for pattern in patterns_of(modalities):
        bits = np.array([pattern.bits])
        found = sessions["fusion"].run(None, {**flat, "pattern": bits})
        absent = [name for m in modalities if m not in pattern for name in of[m]]
        garbage = {name: np.full_like(flat[name], np.nan) for name in absent}
        again = sessions["fusion"].run(None, {**flat, **garbage, "pattern": bits})
        assert all(a.tobytes() == b.tobytes() for a, b in zip(found, again, strict=True)), str(pattern)
        with torch.no_grad():
            expected = network(inputs, torch.tensor([pattern.bits]))
        values = dict(zip(graphs.OUTPUTS, found, strict=True))
        np.testing.assert_allclose(values["boxes"], expected.detections.boxes.numpy(), rtol=1e-3, atol=1e-2)
        np.testing.assert_allclose(values["scene"], torch.sigmoid(expected.scene).numpy(), atol=1e-4)


def adapted(places: tuple[str, ...]) -> Network:
    """A plain network with rows for every pattern but the full one, all changed."""
    torch.manual_seed(0)
    network = Network(NetworkConfig(MODALITIES, ("background", "cup"), ("quiet",), 16, 16)).eval()
    config = AdapterConfig(kind="ssf", budget=0.5, places=places)
    bank = attach(network, config, ALL_PATTERNS[1:], MODALITIES)
    with torch.no_grad():
        for pattern in bank.patterns:
            for row in bank.parameters_of(pattern):
                row.add_(0.1 * torch.randn_like(row))
    return network


def test_an_encoder_follows_the_pattern_where_it_has_adapters() -> None:
    assert not any(graphs.follows_pattern(adapted(("fusion",)), m) for m in MODALITIES)
    network = adapted(("encoders.rgb", "fusion"))
    assert [m for m in MODALITIES if graphs.follows_pattern(network, m)] == [Modality.RGB]


@pytest.mark.slow
@pytest.mark.parametrize("places", [("fusion",), ("encoders", "fusion")])
def test_adapted_parts_answer_as_their_graphs_do(places: tuple[str, ...], tmp_path: Path) -> None:
    network = adapted(places)
    files = graphs.write_graphs(network, (64, 96), tmp_path)
    sessions = {name: onnxruntime.InferenceSession(file) for name, file in files.items()}
    inputs = raw_inputs((64, 96))
    for pattern in ALL_PATTERNS:
        bits = np.array([pattern.bits])
        with torch.no_grad():
            expected = network(inputs, torch.tensor(bits))
        feed = {"pattern": bits}
        for m in MODALITIES:
            session = sessions[f"encoder_{m.value}"]
            known = {m.value: inputs[m].numpy(), "pattern": bits}
            given = {i.name: known[i.name] for i in session.get_inputs()}
            names = [output.name for output in session.get_outputs()]
            feed |= dict(zip(names, session.run(None, given), strict=True))
        found = sessions["fusion"].run(None, feed)
        np.testing.assert_allclose(found[3], expected.detections.boxes.numpy(), rtol=1e-3, atol=1e-2)
