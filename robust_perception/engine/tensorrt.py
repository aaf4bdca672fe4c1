"""Runs a model's graphs with TensorRT or TensorRT-RTX, from plans that `robust-perception build-engine` made.

Nothing is built here. Each graph has its own plan, buffers, stream and captured CUDA graph; latents stay in
the GPU's memory from the encoder to every fusion that uses them. A call ends when its work is done: times
mean what they say, and an error is raised by the graph it happened in.
"""

from __future__ import annotations

import logging
import shlex
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import numpy as np

from robust_perception.engine import cuda, tensorrt_library
from robust_perception.engine.cuda import Device
from robust_perception.engine.cuda_runtime import CudaRuntime
from robust_perception.engine.device_memory import DeviceLatent, LatentPool, Layout
from robust_perception.engine.errors import BackendError, SelfCheckError
from robust_perception.engine.manifest import Manifest
from robust_perception.engine.model_files import GraphSpec, TensorSpec
from robust_perception.engine.plan_key import Target, key_of
from robust_perception.engine.plan_store import PlanError, PlanStore
from robust_perception.engine.precision import INT8, INT8_SYMMETRIC
from robust_perception.engine.tensorrt_graph import LoadedGraph
from robust_perception.engine.tensorrt_kernels import KernelCache
from robust_perception.engine.tensorrt_library import Library
from robust_perception.vocabulary import Array

LOG = logging.getLogger(__name__)
FUSION = "fusion"


class TensorRtBackend:
    """Plans of one model, loaded once.

    Args:
        manifest: the model's.
        precision: of the plans, one of the manifest's.
        plans: by graph; checked by the caller.
        library: what loads them.
        runtime: CUDA.
        where: the device.
        kernels: by graph, what an earlier load compiled; those that are left out keep nothing.

    Attributes:
        uncaptured: graphs that run without a captured CUDA graph, and why.

    Raises:
        PlanError: a plan does not load or has other tensors than the manifest says.
        BackendError: the device's memory does not suffice, or another call of CUDA fails.
    """

    def __init__(
        self,
        manifest: Manifest,
        precision: str,
        plans: Mapping[str, bytes],
        library: Library,
        runtime: CudaRuntime,
        where: Device,
        kernels: Mapping[str, KernelCache] = MappingProxyType({}),
    ) -> None:
        self.name = library.family.backend
        self.precision = precision
        self.device = str(where)
        self._cuda = runtime
        self._specs = dict(manifest.graphs_of(precision))
        # Encoders first: `blocks` are the fusion's inputs as their encoders lay them out.
        blocks = {n: Layout.of(s.outputs) for n, s in self._specs.items() if n != FUSION}
        self._encoder_of = {tensor: n for n, layout in blocks.items() for tensor in layout.tensors}
        self._graphs: dict[str, LoadedGraph] = {}
        self._pools: dict[str, LatentPool] = {}
        self._held: dict[str, int] = {}
        runtime.select()
        with ExitStack() as stack:
            loader = library.make("Runtime")
            for name, spec in self._specs.items():
                is_fusion = name == FUSION
                graph = LoadedGraph(
                    name,
                    spec,
                    plans[name],
                    library,
                    loader,
                    runtime,
                    fed=tuple(t.name for t in spec.inputs if not is_fusion or t.name not in self._encoder_of),
                    blocks=blocks if is_fusion else {},
                    land=is_fusion,
                    kernels=kernels.get(name),
                )
                stack.callback(graph.close)
                self._graphs[name] = graph
                if not is_fusion:
                    self._pools[name] = LatentPool(runtime, blocks[name])
                    stack.callback(self._pools[name].close)
            stack.callback(runtime.select)  # whoever closes may be another thread
            # Closed with the backend's last reference, or when the interpreter ends, while CUDA still works.
            self._closer = weakref.finalize(self, stack.pop_all().close)
        self.uncaptured = {n: g.uncaptured for n, g in self._graphs.items() if g.uncaptured is not None}

    def run(self, graph: str, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run one graph; see `Backend.run`. Latents are `DeviceLatent`s."""
        if not self._closer.alive:
            msg = f"{self.name}: expected a backend that is open, got one that is closed"
            raise BackendError(msg)
        loaded = self._graphs.get(graph)
        if loaded is None:
            msg = f"graph: expected one of {sorted(self._graphs)}, got {graph!r}"
            raise BackendError(msg)
        self._check(graph, self._specs[graph], feeds)
        self._cuda.select()
        for tensor in self._specs[graph].inputs:
            if graph != FUSION or tensor.name not in self._encoder_of:
                loaded.feed(tensor.name, feeds[tensor.name])
        if graph == FUSION:
            on_their_way = self._place_latents(loaded, feeds)
            loaded.run()
            loaded.wait()
            del on_their_way
            return loaded.landed()
        lease = self._pools[graph].lease()
        loaded.run()
        self._cuda.copy(lease.address, loaded.outbox, loaded.outputs.size, loaded.stream)
        loaded.wait()
        return {name: cast(Array, DeviceLatent(lease, name)) for name in loaded.outputs.tensors}

    def close(self) -> None:
        """Give the device everything back; nothing runs after that, and doing it twice does nothing."""
        self._closer()

    def memory(self) -> int:
        """Bytes of the device's memory in this backend's own buffers; what the plans hold comes on top."""
        return sum(graph.memory for graph in self._graphs.values())

    def _check(self, graph: str, spec: GraphSpec, feeds: Mapping[str, Array]) -> None:
        for tensor in spec.inputs:
            value = feeds.get(tensor.name)
            if value is None and graph == FUSION and tensor.name in self._encoder_of:
                continue  # an absent sensor's: the graph does not look at what is in the buffer
            if value is None or not _fits(value, tensor):
                got = "none" if value is None else f"{value.dtype}{list(value.shape)}"
                msg = f"{graph}: expected input {tensor}, got {got}"
                raise BackendError(msg)

    def _place_latents(self, fusion: LoadedGraph, feeds: Mapping[str, Array]) -> list[Array]:
        """Latents into the blocks the fusion reads: nothing where they are there already, one copy as a rule.

        Returns:
            Arrays that are being copied from, to be kept until the fusion's stream was waited for.
        """
        sources: list[Array] = []
        wanted: dict[str, dict[str, Any]] = {}
        for tensor in self._specs[FUSION].inputs:
            if tensor.name in feeds and tensor.name in self._encoder_of:
                wanted.setdefault(self._encoder_of[tensor.name], {})[tensor.name] = feeds[tensor.name]
        for encoder, given in wanted.items():
            pool, block = self._pools[encoder], fusion.latents[encoder]
            own = [v for v in given.values() if isinstance(v, DeviceLatent) and v.lease.pool is pool]
            serials = {value.lease.serial for value in own}
            if len(own) == len(given) and len(serials) == 1:
                if self._held.get(encoder) != own[0].lease.serial:
                    self._cuda.copy(block, own[0].lease.address, pool.layout.size, fusion.stream)
                    self._held[encoder] = own[0].lease.serial
                continue
            # Of several frames, of another backend, or arrays: one by one.
            self._held.pop(encoder, None)
            for name, value in given.items():
                source = np.ascontiguousarray(value)
                sources.append(source)
                target = block + pool.layout.offsets[name]
                self._cuda.upload(target, source.ctypes.data, source.nbytes, fusion.stream)
        return sources


def opener(name: str) -> Callable[..., TensorRtBackend]:
    """What `choice` builds this backend with."""

    def open_backend(
        folder: Path, manifest: Manifest, precision: str, threads: int | None, cache: Path | None = None
    ) -> TensorRtBackend:
        return load(name, folder, manifest, precision, cache)

    return open_backend


def load(
    name: str, folder: Path, manifest: Manifest, precision: str, cache: Path | None = None
) -> TensorRtBackend:
    """The plans of a model for the GPU that is here; nothing is built.

    Args:
        name: `tensorrt` or `tensorrt_rtx`.
        folder: of the model, for the command in messages.
        manifest: the model's.
        precision: one of the manifest's.
        cache: folder of plans; None = the user's own.

    Raises:
        PlanError: a graph has no plan that fits, or it does not load; the message says what differs and which
            command makes one.
        BackendError: there is no GPU, its driver is too old, or the library is missing.
    """
    reason = tensorrt_library.probe(name)
    if reason is not None:
        raise BackendError(f"{name}: {reason}")
    where, runtime, library = cuda.device(), CudaRuntime.load(), tensorrt_library.load(name)
    runtime.require_served_by(where)
    builder, target = library.builder(runtime.version()), Target.of(where)
    store = PlanStore(cache)
    mend = rebuild_words(name, folder, precision, cache)
    plans, kernels = {}, {}
    for graph in manifest.graphs_of(precision):
        key = key_of(manifest, graph, precision, builder, target)
        found = store.find(key, mend)
        plans[graph] = found.content
        kernels[graph] = KernelCache(found.path, key, where.driver, found.content)
        if found.driver not in ("", where.driver):
            LOG.warning(
                "%s was built under driver %s, this is %s: it is used if it gives the model's references. %s",
                found.path,
                found.driver,
                where.driver or "unknown",
                rebuild_words(name, folder, precision, cache, again=True),
            )
    # On a GPU beyond the library's list building anew mends nothing: other words come instead.
    with mend_told(name, folder, precision, cache), tensorrt_library.unlisted_told(library, where.sm):
        return TensorRtBackend(manifest, precision, plans, library, runtime, where, kernels)


@contextmanager
def mend_told(name: str, folder: Path, precision: str, cache: Path | None) -> Iterator[None]:
    """Within it, errors of plans that fit and do not do end with the command that builds them anew."""
    try:
        yield
    except (PlanError, SelfCheckError) as error:
        msg = f"{error}. {rebuild_words(name, folder, precision, cache, again=True)}"
        raise type(error)(msg) from None


def rebuild_words(name: str, folder: Path, precision: str, cache: Path | None, *, again: bool = False) -> str:
    """The sentence that says which command makes a plan; `again`: in place of one that fits, too."""
    words = ["robust-perception", "build-engine", "--model", str(folder), "--backend", name]
    words += ["--precision", named(precision)] + ([] if cache is None else ["--cache", str(cache)])
    words += ["--rebuild"] if again else []
    return f"Rebuild with `{shlex.join(words)}`. Not rebuilding inside the node."


def named(precision: str) -> str:
    """What users call a precision of plans: 8 bits are always the symmetric ones."""
    return INT8 if precision == INT8_SYMMETRIC else precision


def _fits(value: Array, tensor: TensorSpec) -> bool:
    return value.shape == tensor.shape and value.dtype == np.dtype(tensor.dtype)
