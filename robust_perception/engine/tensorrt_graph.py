r"""One graph of a model on the GPU: a loaded plan with its buffers, its stream and its captured CUDA graph.

    pinned host memory --copy--> inbox --\
                        latents' blocks ---> plan --> outbox --copy--> pinned host memory

All addresses are fixed, so the copies and the plan's kernels are captured once and launched as one. The
pattern is eight of the bytes in the inbox: one captured graph serves every pattern, and a switch costs
nothing but writing them. Latents are copied into their blocks before the launch, by whoever launches.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from typing import Any

import numpy as np

from robust_perception.engine.cuda_runtime import Address, Bytes, CudaRuntime
from robust_perception.engine.device_memory import Layout
from robust_perception.engine.errors import BackendError
from robust_perception.engine.model_files import GraphSpec
from robust_perception.engine.plan_store import PlanError
from robust_perception.engine.tensorrt_kernels import KernelCache
from robust_perception.engine.tensorrt_library import Library
from robust_perception.vocabulary import Array

LOG = logging.getLogger(__name__)


class LoadedGraph:
    """See the head of this file.

    Args:
        name: of the graph.
        spec: its tensors.
        plan: what TensorRT loads; checked by the caller.
        library: what loads it.
        runtime: the library's runtime, of which there is one a backend.
        cuda: the device.
        fed: names of the inputs that come from the host at every run; the others are latents.
        blocks: layouts of the latents' blocks; every input that is not in `fed` is in one of them.
        land: whether outputs are copied to the host at every run.
        kernels: what an earlier load compiled, and where to keep what this one does.

    Attributes:
        stream: all work of this graph is given to it.
        outbox: where the plan writes; its tensors lie as in `outputs`.
        latents: address of each of `blocks`.
        uncaptured: why there is no captured CUDA graph, or None when there is one.

    Raises:
        PlanError: TensorRT does not load or run the plan, or it has other tensors than the manifest says.
        BackendError: a call of CUDA fails. All that was taken is given back, in either case.
    """

    def __init__(
        self,
        name: str,
        spec: GraphSpec,
        plan: bytes,
        library: Library,
        runtime: Any,
        cuda: CudaRuntime,
        fed: tuple[str, ...],
        blocks: Mapping[str, Layout],
        land: bool,
        kernels: KernelCache | None = None,
    ) -> None:
        self.name = name
        self.outputs = Layout.of(spec.outputs)
        self._inputs = Layout.of(tensor for tensor in spec.inputs if tensor.name in fed)
        self._cuda = cuda
        self._library = library
        self._land = land
        self._kernels = kernels
        self.uncaptured: str | None = None
        self._captured: Any = None
        self._memory = 0
        with ExitStack() as stack:
            self._open(spec, plan, runtime, blocks, stack)
            self._stack = stack.pop_all()

    @property
    def memory(self) -> int:
        """Bytes of the device's memory in buffers; what the plan holds comes on top."""
        return self._memory

    def feed(self, name: str, value: Array) -> None:
        """Put an input that comes from the host where the next run finds it."""
        np.copyto(self._inputs.view(self._pinned_in, name), value, casting="no")

    def run(self) -> None:
        """Give the stream one run; `wait` for it."""
        if self._captured is None:
            self._sequence()
        else:
            self._cuda.launch(self._captured, self.stream)

    def wait(self) -> None:
        """Until all that the stream was given is done."""
        self._cuda.synchronise(self.stream)

    def landed(self) -> dict[str, Array]:
        """Copies of the outputs of the last run that was waited for; only where outputs land."""
        return {name: self.outputs.view(self._pinned_out, name).copy() for name in self.outputs.tensors}

    def close(self) -> None:
        """Give everything back, last taken first."""
        self._stack.close()

    def _open(
        self, spec: GraphSpec, plan: bytes, runtime: Any, blocks: Mapping[str, Layout], stack: ExitStack
    ) -> None:
        cuda = self._cuda
        self.stream = cuda.create_stream()
        stack.callback(cuda.destroy_stream, self.stream)
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise PlanError(self._failed("deserialize_cuda_engine"))
        _compare(self.name, spec, engine, self._library.module)
        self._inbox = self._block(self._inputs.size, stack)
        self.outbox = self._block(self.outputs.size, stack)
        self.latents = {key: self._block(layout.size, stack) for key, layout in blocks.items()}
        self._pinned_in = self._pinned(self._inputs.size, stack)
        self._pinned_out = self._pinned(self.outputs.size if self._land else 1, stack)
        # TensorRT's objects are freed with their last reference: the context before the engine.
        stack.callback(self._forget)
        stack.callback(self._settle)
        self._engine = engine
        kernels = self._kernels
        self._context = (
            engine.create_execution_context() if kernels is None else kernels.context(engine, self._library)
        )
        if self._context is None:
            raise PlanError(self._failed("create_execution_context"))
        addresses = {n: self._inbox + offset for n, offset in self._inputs.offsets.items()}
        addresses |= {n: self.outbox + offset for n, offset in self.outputs.offsets.items()}
        for key, layout in blocks.items():
            addresses |= {n: self.latents[key] + offset for n, offset in layout.offsets.items()}
        for tensor in (*spec.inputs, *spec.outputs):
            if not self._context.set_tensor_address(tensor.name, addresses[tensor.name]):
                raise PlanError(self._failed(f"set_tensor_address of {tensor.name}"))
        # What is done once, at the first run, cannot be captured.
        self._sequence()
        self.wait()
        self._capture(stack)
        if kernels is not None:
            kernels.keep()

    def _capture(self, stack: ExitStack) -> None:
        # Only TensorRT-RTX can tell beforehand.
        capturable = getattr(self._context, "is_stream_capturable", None)
        try:
            if capturable is not None and not capturable(int(self.stream)):
                msg = f"{self._library.title} cannot run this plan under stream capture"
                raise BackendError(msg)
            self._captured = self._cuda.capture(self.stream, self._sequence)
        except BackendError as error:
            self.uncaptured = str(error)
            LOG.warning("%s runs without a captured CUDA graph, slower: %s", self.name, error)
            return
        stack.callback(self._cuda.destroy_captured, self._captured)
        self.run()
        self.wait()

    def _sequence(self) -> None:
        """What a run gives the stream; the same calls are captured."""
        cuda, stream = self._cuda, self.stream
        if self._inputs.tensors:
            cuda.upload(self._inbox, _address(self._pinned_in), self._inputs.size, stream)
        if not self._context.execute_async_v3(int(stream)):
            raise PlanError(self._failed("execute_async_v3"))
        if self._land:
            cuda.download(_address(self._pinned_out), self.outbox, self.outputs.size, stream)

    def _block(self, size: int, stack: ExitStack) -> Address:
        address = self._cuda.allocate(size)
        stack.callback(self._cuda.free, address)
        self._memory += size
        return address

    def _pinned(self, size: int, stack: ExitStack) -> Bytes:
        address, view = self._cuda.allocate_pinned(size)
        stack.callback(self._cuda.free_pinned, address)
        return view

    def _settle(self) -> None:
        """Nothing is freed while work on it is on its way; if that fails, it was told before."""
        with suppress(BackendError):
            self.wait()

    def _forget(self) -> None:
        self._context = None
        if self._kernels is not None:
            self._kernels.release()
        self._engine = None

    def _failed(self, call: str) -> str:
        return f"{self.name}: {call}: expected success, got {self._library.said()}"


def _compare(name: str, spec: GraphSpec, engine: Any, trt: Any) -> None:
    """PlanError unless the plan has the manifest's tensors, all of them in the device's memory."""
    expected = {(t.name, "in", t.dtype, t.shape) for t in spec.inputs}
    expected |= {(t.name, "out", t.dtype, t.shape) for t in spec.outputs}
    found = set()
    for index in range(engine.num_io_tensors):
        tensor = engine.get_tensor_name(index)
        side = "in" if engine.get_tensor_mode(tensor) == trt.TensorIOMode.INPUT else "out"
        kind = np.dtype(trt.nptype(engine.get_tensor_dtype(tensor))).name
        found.add((tensor, side, kind, tuple(engine.get_tensor_shape(tensor))))
        if engine.get_tensor_location(tensor) != trt.TensorLocation.DEVICE:
            msg = f"{name}: expected {tensor} in the device's memory, the plan wants it in the host's"
            raise PlanError(msg)
    if expected != found:
        msg = f"{name}: expected the tensors {sorted(expected)} of the manifest, got {sorted(found)}"
        raise PlanError(msg)


def _address(view: Bytes) -> Address:
    return int(view.ctypes.data)
