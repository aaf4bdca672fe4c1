"""What a TensorRT plan depends on: it is used only where all of it is as it was when it was built.

A plan is machine code for one graph, made by one version of TensorRT for one kind of GPU. Loaded anywhere
else it fails at best and is wrong at worst. The key names every such thing, so that a plan that does not fit
is told apart before it is loaded, and the message can say what differs:

    what runs      model, graph, precision, SHA-256 of the ONNX file (adapter bank and quantisation scales are
                   in it), its tensors, what exported it
    how            typing and flags; optimisation level and workspace, which whoever built it chose
    by and for     TensorRT and CUDA; GPU, compute capability, multiprocessors, memory; system

The driver is not in it: plans outlive drivers as a rule. It is stored beside the key; another one is warned
of, and the model's references are run in any case.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from robust_perception.engine.cuda import Device, jetson_release
from robust_perception.engine.manifest import SCHEMA, Manifest
from robust_perception.engine.model_files import GraphSpec

ANY = "any"
"""GPU of a plan that was built ahead of time for every GPU of one compute capability."""

CHOSEN = ("optimisation_level", "workspace")
"""Fields that whoever builds a plan chooses; whoever loads one takes them as they are."""

OF_ONE_GPU = ("gpu", "multiprocessors", "memory")
"""Fields that a plan built ahead of time leaves open."""


GIB = 1 << 30


@dataclass(frozen=True)
class PlanKey:
    """See the head of this file; the values are words and numbers to be compared and shown, nothing else.

    Attributes:
        model: the model's name.
        graph: name of the graph in the manifest.
        precision: of the graph, one of `precision.PRECISIONS`.
        onnx_sha256: of the graph's file.
        tensors: inputs and outputs with types and shapes.
        exporter: versions of what wrote the graph, and the manifest's schema.
        typing: how TensorRT finds the types, "strong" = they are those of the graph.
        flags: builder flags that are not the builder's defaults.
        optimisation_level: of the builder.
        workspace: most scratch memory, bytes; 0 = what the GPU has.
        backend: `tensorrt` or `tensorrt_rtx`.
        version: its full version.
        cuda: version of CUDA's runtime.
        gpu: its name, or `ANY`.
        compute_capability: e.g. "sm_89".
        multiprocessors: of the GPU; 0 for `ANY`.
        memory: of the GPU, bytes, to the nearest GiB: cards of one kind differ by some MiB; 0 for `ANY`.
        system: operating system and architecture.
        l4t: release of a Jetson's system; empty elsewhere.
    """

    model: str
    graph: str
    precision: str
    onnx_sha256: str
    tensors: str
    exporter: str
    typing: str
    flags: str
    optimisation_level: int
    workspace: int
    backend: str
    version: str
    cuda: str
    gpu: str
    compute_capability: str
    multiprocessors: int
    memory: int
    system: str
    l4t: str

    @property
    def ahead_of_time(self) -> bool:
        """Whether it is for every GPU of its compute capability."""
        return self.gpu == ANY

    def differences(self, here: PlanKey) -> tuple[str, ...]:
        """Why a plan with this key cannot be used where `here` is wanted; empty when it can."""
        open_fields = CHOSEN + (OF_ONE_GPU if self.ahead_of_time else ())
        mine, wanted = asdict(self), asdict(here)
        return tuple(
            f"{name.replace('_', ' ')}: built for {mine[name]!r}, here {wanted[name]!r}"
            for name in mine
            if name not in open_fields and mine[name] != wanted[name]
        )

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> PlanKey:
        """The key that `dataclasses.asdict` made plain.

        Raises:
            ValueError: other fields, or a value of another type.
        """
        names = {field.name: field.type for field in fields(cls)}
        if set(content) != set(names):
            msg = f"expected the fields {sorted(names)}, got {sorted(content)}"
            raise ValueError(msg)
        for name, kind in names.items():
            value = content[name]
            if type(value).__name__ != kind:
                msg = f"{name}: expected {kind}, got {value!r}"
                raise ValueError(msg)
        return cls(**content)


@dataclass(frozen=True)
class Target:
    """What a plan is for: a GPU that is here, or every one of a compute capability."""

    gpu: str
    compute_capability: str
    multiprocessors: int
    memory: int

    @classmethod
    def of(cls, device: Device) -> Target:
        """This very GPU."""
        return cls(device.name, device.sm, device.multiprocessors, round(device.memory / GIB) * GIB)

    @classmethod
    def any_of(cls, sm: int) -> Target:
        """Every GPU of compute capability `sm`, e.g. 89."""
        return cls(ANY, f"sm_{sm}", 0, 0)


@dataclass(frozen=True)
class Builder:
    """What builds: backend, its version, CUDA's, and how it is told to build.

    Attributes:
        backend, version, cuda, typing, flags: as in `PlanKey`.
    """

    backend: str
    version: str
    cuda: str
    typing: str
    flags: str


def key_of(
    manifest: Manifest,
    graph: str,
    precision: str,
    builder: Builder,
    target: Target,
    optimisation_level: int = 0,
    workspace: int = 0,
) -> PlanKey:
    """The key of one graph of a model.

    Args:
        manifest: the model's.
        graph: the graph's name.
        precision: its precision, one of the manifest's.
        builder: what builds it, or wants to run it.
        target: what it is for.
        optimisation_level: as chosen; of no meaning to whoever loads.
        workspace: likewise.
    """
    spec = manifest.graphs_of(precision)[graph]
    return PlanKey(
        model=manifest.name,
        graph=graph,
        precision=precision,
        onnx_sha256=spec.sha256,
        tensors=_tensors(spec),
        exporter=json.dumps({**manifest.exporter, "schema": SCHEMA}, sort_keys=True),
        typing=builder.typing,
        flags=builder.flags,
        optimisation_level=optimisation_level,
        workspace=workspace,
        backend=builder.backend,
        version=builder.version,
        cuda=builder.cuda,
        gpu=target.gpu,
        compute_capability=target.compute_capability,
        multiprocessors=target.multiprocessors,
        memory=target.memory,
        system=f"{platform.system()} {platform.machine()}",
        l4t=jetson_release(),
    )


def _tensors(spec: GraphSpec) -> str:
    sides = (", ".join(str(tensor) for tensor in side) for side in (spec.inputs, spec.outputs))
    return " -> ".join(sides)
