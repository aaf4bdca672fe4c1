"""The network in torch as one more backend, to compare exported graphs with: eager, or through torch.compile.

It runs the very modules that were exported, from the weights of a run, so that engine, cache and frames are
the same as for every other variant. All that a frame needs is computed in torch, the label map too, which the
engine makes of a CPU graph's class scores by a shorter way. Only this file of the room imports torch.

torch takes memory from the C library and gives it back within a frame. What others of the process hold
decides whether the library hands it on to the system, to be taken and zeroed anew: 13000 pages a frame beside
a compiled network, a fifth of eager's time, and none beside ONNX Runtime alone. Here it keeps what it has.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from robust_perception.benchmarking.errors import BenchmarkError
from robust_perception.benchmarking.variants import Variant
from robust_perception.engine.engine import Engine, warm_up
from robust_perception.engine.manifest import Manifest, encoder_name
from robust_perception.engine.precision import FP32
from robust_perception.engine.tensors import Feeds
from robust_perception.model.graphs import EncoderGraph, FusionGraph, encoder_outputs, output_names
from robust_perception.training import graph_weights
from robust_perception.training.errors import TrainingError
from robust_perception.vocabulary import Array

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""glibc's names for mallopt: bytes that it keeps at most, and from which on a block is the system's."""

_LARGEST_KEPT = 1 << 25
"""What it takes as the latter at most."""


class TorchBackend:
    """Encoders and fusion of a network in torch, on the CPU.

    Args:
        weights: `best.safetensors` of the run that the model was exported from, or the model itself.
        manifest: of that model.
        compiled: through torch.compile, which needs a C++ compiler and compiles at the first call.

    Raises:
        TrainingError: the file holds no network's weights.
        BenchmarkError: it is the network of another model.
    """

    device = "cpu"
    precision = FP32

    def __init__(self, weights: Path, manifest: Manifest, compiled: bool) -> None:
        self.name = "torch.compile" if compiled else "torch"
        network, _ = graph_weights.load(weights)
        found = (network.config.modalities, network.config.class_names, network.config.scene_names)
        expected = (manifest.modalities, manifest.class_names, manifest.scene_names)
        if found != expected:
            msg = f"{weights}: expected the network of model {manifest.name}, {expected}, got {found}"
            raise BenchmarkError(msg)
        network.fusion.propose_ahead()
        for modality in manifest.modalities:
            made = encoder_outputs(network.fusion, modality)
            described = tuple(t.name for t in manifest.graphs[encoder_name(modality)].outputs)
            if made != described:
                msg = f"model {manifest.name}: expected an encoder of {modality} that gives {made}, got one "
                msg += f"that gives {described}; another version exported it, export it again"
                raise BenchmarkError(msg)
        temperatures = {bits: one.temperature for bits, one in manifest.calibration.items()}
        modules: dict[str, Any] = {encoder_name(m): EncoderGraph(network, m) for m in manifest.modalities}
        modules["fusion"] = FusionGraph(network.fusion, manifest.size, temperatures)
        self._modules = {
            name: torch.compile(module.eval(), dynamic=False) if compiled else module.eval()
            for name, module in modules.items()
        }
        self._outputs = {
            name: tuple(tensor.name for tensor in spec.outputs) for name, spec in manifest.graphs.items()
        }
        self._outputs["fusion"] = output_names(bool(manifest.scene_names), mapped=True)
        self._feeds = Feeds(manifest.graphs)

    @torch.inference_mode()
    def run(self, graph: str, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run one graph; see `Backend.run`."""
        given = [torch.from_numpy(value) for value in self._feeds.complete(graph, feeds).values()]
        results = self._modules[graph](*given)
        return {name: r.numpy() for name, r in zip(self._outputs[graph], results, strict=True)}


def prepare(threads: int) -> None:
    """Have torch use so many threads in this process, and the C library keep what is given back to it.

    A C library that knows no such thing has ways of its own.
    """
    torch.set_num_threads(threads)
    with contextlib.suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_TRIM_THRESHOLD, 1 << 30)
        mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT)


def torch_variants(
    weights: Path, folder: Path, manifest: Manifest, threads: int
) -> tuple[list[Variant], list[str]]:
    """Eager and compiled; a compiled one that cannot be made here is named with the reason.

    Raises:
        BenchmarkError: the file does not hold the model's network.
    """
    prepare(threads)
    variants, left_out = [], []
    for compiled in (False, True):
        try:
            engine = Engine.of(TorchBackend(weights, manifest, compiled), manifest, folder)
            warm_up(engine)
        except TrainingError as error:
            raise BenchmarkError(str(error)) from None
        except Exception as error:  # the compiler's errors have no base class of their own
            if not compiled:
                raise
            left_out.append(f"torch.compile {FP32}: {error}")
            continue
        variants.append(Variant(engine))
    return variants, left_out
