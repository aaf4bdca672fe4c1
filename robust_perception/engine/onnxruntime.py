"""Runs a model's graphs with ONNX Runtime on the CPU.

A model is several sessions that run one after the other. Each session has its own threads, and ONNX Runtime
lets idle ones spin: on two cores that made the whole three times slower, so spinning is switched off.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from robust_perception.engine.errors import BackendError
from robust_perception.engine.manifest import FileSpec, GraphSpec, Manifest, TensorSpec
from robust_perception.engine.precision import FP32
from robust_perception.vocabulary import Array

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}


class OnnxRuntimeBackend:
    """ONNX Runtime sessions of one model, built once.

    Args:
        folder: the model folder.
        manifest: its manifest; files are checked against it before they are parsed.
        precision: which of the model's graphs.
        threads: threads of one operator; None = the cores this process may use.

    Raises:
        ModelFileError: a graph's file is missing or damaged.
        BackendError: ONNX Runtime is not installed, refuses a graph, or finds other tensors than described,
            or the model has no graphs of this precision.
    """

    name = "onnxruntime"
    device = "cpu"

    def __init__(
        self, folder: Path, manifest: Manifest, precision: str = FP32, threads: int | None = None
    ) -> None:
        self.precision = precision
        self._specs = dict(manifest.graphs_of(precision))
        count = usable_cores() if threads is None else threads
        if count < 1:
            msg = f"threads: expected a positive number or none, got {threads}"
            raise BackendError(msg)
        self._sessions = {}
        for name, spec in self._specs.items():
            path = folder / spec.file
            session = _open(path, spec.read(folder), count)
            self._sessions[name] = session
            _compare(path, spec, _tensors(session.get_inputs()), _tensors(session.get_outputs()))
        latents = self._specs["fusion"].inputs
        self._absent = {t.name: np.zeros(t.shape, np.dtype(t.dtype)) for t in latents if t.name != "pattern"}

    def run(self, graph: str, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run one graph; see `Backend.run`."""
        spec = self._specs.get(graph)
        if spec is None:
            msg = f"graph: expected one of {sorted(self._specs)}, got {graph!r}"
            raise BackendError(msg)
        # ONNX Runtime's own message for a wrong input names neither the graph nor the sensor.
        given = {**self._absent, **feeds}
        for tensor in spec.inputs:
            value = given.get(tensor.name)
            if value is None or value.shape != tensor.shape or value.dtype != np.dtype(tensor.dtype):
                got = "none" if value is None else f"{value.dtype}{list(value.shape)}"
                msg = f"{graph}: expected input {tensor}, got {got}"
                raise BackendError(msg)
        names = [tensor.name for tensor in spec.outputs]
        values = self._sessions[graph].run(names, {t.name: given[t.name] for t in spec.inputs})
        return dict(zip(names, values, strict=True))


def describe(path: Path) -> GraphSpec:
    """The manifest's entry of a graph: hash, size and tensors, as ONNX Runtime reads them.

    Raises:
        BackendError: ONNX Runtime is not installed or refuses the graph, or a shape is not static.
    """
    session = _open(path, path.read_bytes(), 1)
    inputs, outputs = _tensors(session.get_inputs()), _tensors(session.get_outputs())
    for name, dtype, shape in (*inputs, *outputs):
        if not all(isinstance(side, int) for side in shape):
            msg = f"{path}: expected static shapes, got {name} {dtype}{list(shape)}"
            raise BackendError(msg)
    file = FileSpec.of(path)
    return GraphSpec(
        file.file,
        file.sha256,
        file.bytes,
        tuple(TensorSpec(*tensor) for tensor in inputs),
        tuple(TensorSpec(*tensor) for tensor in outputs),
    )


def usable_cores() -> int:
    """Cores this process may run on, at least one."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def _open(path: Path, content: bytes, threads: int) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        msg = f"onnxruntime: expected the package, got {error}; `pip install onnxruntime`"
        raise BackendError(msg) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        # From memory: the bytes that were checked are the bytes that are parsed, and a graph cannot point at
        # files outside its folder.
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no base class of their own
        msg = f"{path}: expected a graph ONNX Runtime {onnxruntime.__version__} can run, got: {error}"
        raise BackendError(msg) from None


def _tensors(nodes: Any) -> list[tuple[str, str, tuple[Any, ...]]]:
    return [(node.name, _DTYPES.get(node.type, node.type), tuple(node.shape)) for node in nodes]


def _compare(path: Path, spec: GraphSpec, inputs: list[Any], outputs: list[Any]) -> None:
    for what, described, found in (("inputs", spec.inputs, inputs), ("outputs", spec.outputs, outputs)):
        expected = sorted((t.name, t.dtype, t.shape) for t in described)
        if expected != sorted(found):
            msg = f"{path}: expected the {what} {expected} of the manifest, got {sorted(found)}"
            raise BackendError(msg)
