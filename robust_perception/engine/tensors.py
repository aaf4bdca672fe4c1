"""What backends that take arrays have in common: a graph's bytes, its described tensors, what is fed to it.

A runtime's own message for a wrong input names neither the graph nor the sensor, and one that was handed a
graph's bytes still opens the files the graph names as its weights, from the working folder (ONNX Runtime 1.32
and OpenVINO 2026.4 do). Both are looked at here, before the runtime sees anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from robust_perception.engine.errors import BackendError
from robust_perception.engine.manifest import PARTS
from robust_perception.engine.model_files import GraphSpec
from robust_perception.vocabulary import Array

Found = tuple[str, str, tuple[Any, ...]]
"""A tensor as a runtime describes it: name, numpy's name of the element type, shape."""

_EXTERNAL = re.compile(rb"(?:\x08|\x88\x80*\x00)location")
"""The key of an ONNX tensor whose data is in another file: eight bytes, `location`.

Not looked for is the field's number before it: protobuf takes it in more forms than can be listed.
"""


def read_graph(folder: Path, spec: GraphSpec) -> bytes:
    """A graph's file, checked against the manifest; its weights are inside.

    Raises:
        ModelFileError: missing, or not the file that is described.
        BackendError: it names another file.
    """
    content = spec.read(folder)
    if _EXTERNAL.search(content):
        msg = (
            f"{folder / spec.file}: expected a graph with its weights inside, got one that names another file"
        )
        raise BackendError(msg)
    return content


def require_described(path: Path, spec: GraphSpec, inputs: Iterable[Found], outputs: Iterable[Found]) -> None:
    """BackendError unless a graph's tensors are those of the manifest."""
    for what, described, found in (("inputs", spec.inputs, inputs), ("outputs", spec.outputs, outputs)):
        expected, got = sorted((t.name, t.dtype, t.shape) for t in described), sorted(found)
        if expected != got:
            msg = f"{path}: expected the {what} {expected} of the manifest, got {got}"
            raise BackendError(msg)


class Feeds:
    """What is fed to the graphs of one precision.

    Args:
        specs: the graphs by name; where the fusion is among them, whole or in parts, its latents may be left
            out.
    """

    def __init__(self, specs: Mapping[str, GraphSpec]) -> None:
        self._specs = specs
        fusions = [specs[name] for name in ("fusion", *PARTS) if name in specs]
        others = {"pattern"} | {t.name for name in PARTS if name in specs for t in specs[name].outputs}
        latents = (t for fusion in fusions for t in fusion.inputs if t.name not in others)
        self._absent: dict[str, Array] = {t.name: np.zeros(t.shape, np.dtype(t.dtype)) for t in latents}

    def complete(self, graph: str, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Every input of a graph, in its order; zeros for the latents of absent sensors.

        Raises:
            BackendError: the graph is unknown, an input is not as described, or one is missing that is no
                latent.
        """
        spec = self._specs.get(graph)
        if spec is None:
            msg = f"graph: expected one of {sorted(self._specs)}, got {graph!r}"
            raise BackendError(msg)
        given = {**self._absent, **feeds}
        complete = {}
        for tensor in spec.inputs:
            value = given.get(tensor.name)
            if value is None or value.shape != tensor.shape or value.dtype != np.dtype(tensor.dtype):
                got = "none" if value is None else f"{value.dtype}{list(value.shape)}"
                msg = f"{graph}: expected input {tensor}, got {got}"
                raise BackendError(msg)
            complete[tensor.name] = value
        return complete
