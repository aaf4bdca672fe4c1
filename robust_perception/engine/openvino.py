"""Runs a model's graphs with OpenVINO on the CPU.

Each graph is compiled for latency: one request at a time, with all threads. On CPUs with units for bfloat16
OpenVINO computes float32 graphs in that by itself; a model's thresholds and references are those of float32,
so it is told to stay with it. Eight-bit graphs say in the graph what is an integer; the rest of them is
float32 too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from robust_perception import extras
from robust_perception.engine.errors import BackendError
from robust_perception.engine.manifest import Manifest
from robust_perception.engine.model_files import TensorSpec
from robust_perception.engine.precision import FP32
from robust_perception.engine.tensors import Feeds, Found, read_graph, require_described
from robust_perception.engine.threads import thread_count
from robust_perception.vocabulary import Array

DEVICE = "CPU"


def mend() -> str:
    """How to get it, in words."""
    return extras.install("openvino")


class OpenVinoBackend:
    """Compiled models of one model folder, made once.

    Args:
        folder: the model folder.
        manifest: its manifest; files are checked against it before they are parsed.
        precision: which of the model's graphs.
        threads: threads of one operator; None = the cores this process may use.

    Raises:
        ModelFileError: a graph's file is missing or damaged.
        BackendError: OpenVINO is not installed, refuses a graph or finds other tensors than described, or the
            model has no graphs of this precision.
    """

    name = "openvino"
    device = "cpu"

    def __init__(
        self, folder: Path, manifest: Manifest, precision: str = FP32, threads: int | None = None
    ) -> None:
        self.precision = precision
        specs = dict(manifest.graphs_of(precision))
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": thread_count(threads),
            "INFERENCE_PRECISION_HINT": "f32",
        }
        try:
            import openvino
        except ImportError as error:
            msg = f"openvino: expected the package, got {error}; {mend()}"
            raise BackendError(msg) from None
        core = openvino.Core()
        self._requests: dict[str, Any] = {}
        self._taken: dict[str, set[str]] = {}
        for name, spec in specs.items():
            path, content = folder / spec.file, read_graph(folder, spec)
            try:
                # From memory: the bytes that were checked are the bytes that are parsed.
                compiled = core.compile_model(core.read_model(content), DEVICE, settings)
            except RuntimeError as error:
                msg = f"{path}: expected a graph OpenVINO {openvino.__version__} can run, got: {error}"
                raise BackendError(msg) from None
            inputs, outputs = _found(compiled.inputs, spec.inputs), _found(compiled.outputs, spec.outputs)
            # An input that no node takes is not there any more.
            taken = {found[0] for found in inputs}
            unused = [(t.name, t.dtype, t.shape) for t in spec.inputs if t.name not in taken]
            require_described(path, spec, [*inputs, *unused], outputs)
            self._requests[name] = compiled.create_infer_request()
            self._taken[name] = taken
        self._feeds = Feeds(specs)
        self._outputs = {name: [tensor.name for tensor in spec.outputs] for name, spec in specs.items()}

    def run(self, graph: str, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run one graph; see `Backend.run`."""
        complete = self._feeds.complete(graph, feeds)
        taken = {name: value for name, value in complete.items() if name in self._taken[graph]}
        # The inputs are read where they lie: nobody writes to them while this call lasts. The outputs are
        # copied, because the request's own are overwritten by its next run.
        try:
            results = self._requests[graph].infer(taken, share_inputs=True, share_outputs=False)
        except RuntimeError as error:
            msg = f"{self.name}: expected {graph} in {self.precision} to run, got: {error}"
            raise BackendError(msg) from None
        return {name: results[name] for name in self._outputs[graph]}


def _found(ports: Any, described: Iterable[TensorSpec]) -> list[Found]:
    """A port has a name for every value that was merged into it; the manifest's where it is among them."""
    known = {tensor.name for tensor in described}
    found = []
    for port in ports:
        names = port.get_names()
        name = min(names & known or names, default="")
        shape = port.get_partial_shape()
        sides = tuple(shape.to_shape()) if shape.is_static else (str(shape),)
        found.append((name, np.dtype(port.get_element_type().to_dtype()).name, sides))
    return found
