"""TensorRT-RTX builds what torch's exporter writes of a real network, in every precision, without a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from robust_perception.engine import tensorrt_library
from robust_perception.engine.errors import BackendError
from robust_perception.engine.manifest import Manifest
from robust_perception.engine.precision import FP16, FP32, INT8, INT8_SYMMETRIC
from robust_perception.engine.tensorrt_builder import BuildOptions, build
from robust_perception.engine.tensorrt_library import FAMILIES
from robust_perception.vocabulary import Modality

MISSING = tensorrt_library.missing(FAMILIES["tensorrt_rtx"])
ADA = BuildOptions(optimisation_level=0, target_sm=89)

pytestmark = [
    pytest.mark.slow,  # torch's exporter and the builder, each half a minute or more
    pytest.mark.timeout(1800),
    pytest.mark.skipif(MISSING is not None, reason=f"{MISSING}: nothing is built"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    torch = pytest.importorskip("torch")
    from benchmarks.network_model import write_model
    from robust_perception.model.network import Network
    from robust_perception.model.network_config import NetworkConfig

    torch.manual_seed(0)
    config = NetworkConfig(
        (Modality.RGB, Modality.DEPTH, Modality.AUDIO),
        ("background", "warm", "cold"),
        ("tone", "noise"),
        width=8,
        fine_width=8,
        audio_width=8,
        bottleneck=8,
        translation="mean",
        shared=True,
        probabilistic=True,
    )
    folder = tmp_path_factory.mktemp("network")
    return folder, write_model(Network(config), (64, 96), folder, (FP16, INT8, INT8_SYMMETRIC))


@pytest.mark.parametrize("precision", [FP32, FP16, INT8_SYMMETRIC])
def test_every_graph_builds(model: tuple[Path, Manifest], precision: str) -> None:
    folder, manifest = model
    library = tensorrt_library.load("tensorrt_rtx")
    for name, graph in manifest.graphs_of(precision).items():
        assert len(build(library, graph.read(folder), name, ADA).plan) > 0, name


def test_the_cpus_eight_bits_are_refused_by_node(model: tuple[Path, Manifest]) -> None:
    folder, manifest = model
    library = tensorrt_library.load("tensorrt_rtx")
    refused = []
    for name, graph in manifest.graphs_of(INT8).items():
        if graph == manifest.graphs[name]:
            continue  # sound is fp32 in every precision
        with pytest.raises(BackendError, match=rf"{name}: .* node '[^']+' \((Deq|Q)uantizeLinear\)"):
            build(library, graph.read(folder), name, ADA)
        refused.append(name)
    assert set(refused) == {"encoder_rgb", "encoder_depth", "fusion"}
