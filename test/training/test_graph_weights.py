"""Weights out of a model's graphs and what lies beside them: the same network, or a clear refusal."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.network_model import write_model
from robust_perception.engine.manifest import Manifest
from robust_perception.engine.models import find_model
from robust_perception.engine.onnxruntime import OnnxRuntimeBackend
from robust_perception.engine.pipeline import Pipeline
from robust_perception.engine.selfcheck import read_input, read_references
from robust_perception.model.network import Network
from robust_perception.model.network_config import NetworkConfig
from robust_perception.training import checkpoint, graph_weights
from robust_perception.training.errors import CheckpointError
from robust_perception.training.warm_start import Start, take_over
from robust_perception.vocabulary import Modality, Pattern

CONFIG = NetworkConfig(
    (Modality.RGB, Modality.AUDIO), ("background", "thing"), ("loud",), 8, 8, 8,
    bottleneck=8, translation="mean", shared=True, probabilistic=True, auxiliary=True,
)  # fmt: skip
SIZE = (64, 96)
BLOCK = "encoders.rgb.backbone._blocks.3"
SILENT = f"{BLOCK}._depthwise_conv.weight"
"""Its norm silences a channel, so nothing of that is in a graph."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Network]:
    torch.manual_seed(0)
    network = Network(CONFIG)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if "running" in name or "_bn" in name:  # a norm that does something
                tensor.copy_(torch.rand_like(tensor.float()) + 0.5)
        network.state_dict()[f"{BLOCK}._bn1.weight"][0] = 0.0
    folder = tmp_path_factory.mktemp("model")
    manifest = write_model(network, SIZE, folder / "model", [])
    checkpoint.save_weights(folder / "best.safetensors", network, {"seed": 3})
    graph_weights.write(*graph_weights.read(folder / "best.safetensors"), folder / "model", manifest.graphs)
    return folder / "model", network


def test_a_model_gives_back_the_network_it_was_made_of(model: tuple[Path, Network]) -> None:
    folder, network = model
    found, training = graph_weights.load(folder)
    assert training == {"seed": 3} and found.config == network.config and not found.training
    wanted = network.state_dict()
    assert found.state_dict().keys() == wanted.keys()
    for name, tensor in found.state_dict().items():
        largest = wanted[name].abs().max() if wanted[name].is_floating_point() else 0
        difference = (tensor - wanted[name]).abs().max()
        assert difference <= graph_weights.TOLERANCE * largest, name


def test_little_lies_beside_the_graphs(model: tuple[Path, Network]) -> None:
    folder, network = model
    _, lacking = checkpoint.read_weights(folder / graph_weights.FILE)
    kernels = [name for name in network.state_dict() if "backbone" in name and "conv" in name]
    assert [name for name in kernels if name in lacking] == [SILENT], "the others stand in the graphs"
    assert sum(t.numel() for t in lacking.values()) < 0.1 * sum(p.numel() for p in network.parameters())


def test_a_run_begins_with_a_model(model: tuple[Path, Network]) -> None:
    folder, network = model
    torch.manual_seed(1)
    other = Network(CONFIG)
    start = Start.open(folder)
    assert take_over(other, start).anew == ()
    assert str(start).startswith("model of ?, epoch ?, seed 3")
    convolution = f"{BLOCK}._expand_conv.weight"
    torch.testing.assert_close(other.state_dict()[convolution], network.state_dict()[convolution])


def test_the_shipped_model_gives_the_network_of_its_references() -> None:
    network, _ = graph_weights.load(Path("default"))
    folder = find_model("default")
    pipeline = Pipeline(Manifest.load(folder), OnnxRuntimeBackend(folder, Manifest.load(folder)))
    stored = read_references(folder, pipeline)
    assert stored is not None
    sensors = network.config.modalities
    inputs = {m: torch.from_numpy(read_input(stored, m, pipeline).copy())[None] for m in sensors}
    with torch.no_grad():
        found = network(inputs, torch.tensor([Pattern.of(sensors).bits]))
    expected = pipeline.run({m: x[0].numpy() for m, x in inputs.items()}, Pattern.of(sensors))
    assert torch.allclose(found.detections.boxes[0], torch.from_numpy(expected.boxes), rtol=1e-3, atol=1e-2)


def test_a_model_without_it_is_named(model: tuple[Path, Network], tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for file in model[0].iterdir():
        if file.name != graph_weights.FILE:
            (bare / file.name).symlink_to(file)
    with pytest.raises(CheckpointError, match=r"bare/training\.safetensors: expected .* got no such file"):
        graph_weights.load(bare)
    with pytest.raises(CheckpointError, match="nowhere"):
        graph_weights.load(Path("nowhere"))


def test_that_of_another_export_is_refused(model: tuple[Path, Network], tmp_path: Path) -> None:
    for file in model[0].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    content, lacking = checkpoint.read_weights(tmp_path / graph_weights.FILE)
    content["graphs"]["fusion"] = "0" * 64
    checkpoint.save(tmp_path / graph_weights.FILE, lacking, content)
    with pytest.raises(CheckpointError, match="got one of others"):
        graph_weights.load(tmp_path)


def test_a_damaged_graph_is_refused(model: tuple[Path, Network], tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    folder.mkdir()
    for file in model[0].iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    graph = folder / Manifest.load(folder).graphs["fusion"].file
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)
    with pytest.raises(CheckpointError, match="expected sha256"):
        graph_weights.load(folder)
