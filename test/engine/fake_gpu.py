# ruff: noqa: N801, N802, N815 - the names are those of CUDA and TensorRT
"""A GPU made of host memory, for tests on machines without one: CUDA's runtime and TensorRT as far as used.

`FakeCuda` answers like `cuda.bindings.runtime`. What a stream is given is done when it is waited for, not
before, so that a missing wait shows; every copy is held to live allocations of the right kind; what is not
given back is counted. `FakeTensorRt` answers like the Python module: its plans are ONNX files, which ONNX
Runtime runs on the addresses it was told. Neither says anything about a real GPU's arithmetic or speed.
"""

from __future__ import annotations

import ctypes
import enum
import types
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from robust_perception.engine.cuda import Device
from robust_perception.engine.cuda_runtime import CudaRuntime
from robust_perception.engine.manifest import Manifest
from robust_perception.engine.tensorrt_library import FAMILIES, Library, make_logger

DEVICE = Device("Test GPU", (8, 9), 46, 8 << 30, "580.1", "13.0")


class cudaError_t(enum.IntEnum):
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorLaunchFailure = 719
    cudaErrorStreamCaptureUnsupported = 900


class cudaMemcpyKind(enum.IntEnum):
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2
    cudaMemcpyDeviceToDevice = 3


class cudaStreamCaptureMode(enum.IntEnum):
    cudaStreamCaptureModeThreadLocal = 1


OK = (cudaError_t.cudaSuccess,)
Work = Callable[[], None]


class Stream:
    """Work that waits, or is captured."""

    def __init__(self, handle: int) -> None:
        self.handle = handle
        self.waiting: list[Work] = []
        self.captured: list[Work] | None = None

    def __int__(self) -> int:
        return self.handle

    def give(self, work: Work) -> None:
        (self.waiting if self.captured is None else self.captured).append(work)


class FakeCuda:
    """See the head of this file.

    Attributes:
        calls: how often each was made.
        fails: call -> the error it answers with.
        last: the error that is given to whoever asks for the last one.
        device, pinned: live memory by address.
        streams: by handle.
    """

    cudaError_t, cudaMemcpyKind = cudaError_t, cudaMemcpyKind
    cudaStreamCaptureMode = cudaStreamCaptureMode
    cudaHostAllocDefault, cudaStreamNonBlocking = 0, 1

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.fails: dict[str, cudaError_t] = {}
        self.last = cudaError_t.cudaSuccess
        self.device: dict[int, Any] = {}
        self.pinned: dict[int, Any] = {}
        self.streams: dict[int, Stream] = {}
        self.graphs: dict[int, list[Work]] = {}

    def __getattribute__(self, name: str) -> Any:
        found = object.__getattribute__(self, name)
        if not name.startswith("cuda") or not isinstance(found, types.MethodType):
            return found

        def counted(*arguments: Any) -> Any:
            self.calls[name] += 1
            if name in self.fails:
                self.last = self.fails[name]
                for argument in arguments:
                    if isinstance(argument, Stream):  # a failed stream has no work left, and captures nothing
                        argument.waiting.clear()
                        argument.captured = None
                return (self.fails[name], None)
            return found(*arguments)

        return counted

    @property
    def left(self) -> int:
        """What was taken and not given back."""
        return sum(map(len, (self.device, self.pinned, self.streams, self.graphs)))

    def cudaRuntimeGetVersion(self) -> Any:
        return (*OK, 13000)

    def cudaGetErrorName(self, code: cudaError_t) -> Any:
        return (*OK, code.name.encode())

    def cudaGetErrorString(self, code: cudaError_t) -> Any:
        return (*OK, f"words for {int(code)}".encode())

    def cudaGetLastError(self) -> Any:
        last, self.last = self.last, cudaError_t.cudaSuccess
        return (last,)

    def cudaSetDevice(self, device: int) -> Any:
        return OK

    def cudaMemGetInfo(self) -> Any:
        return (*OK, 1 << 30, 8 << 30)

    def cudaMalloc(self, size: int) -> Any:
        memory = (ctypes.c_uint8 * size).from_buffer_copy(b"\xa5" * size)
        self.device[ctypes.addressof(memory)] = memory
        return (*OK, ctypes.addressof(memory))

    def cudaFree(self, address: int) -> Any:
        assert not any(stream.waiting for stream in self.streams.values()), "freed while work is on its way"
        del self.device[address]
        return OK

    def cudaHostAlloc(self, size: int, flags: int) -> Any:
        memory = (ctypes.c_uint8 * size)()
        self.pinned[ctypes.addressof(memory)] = memory
        return (*OK, ctypes.addressof(memory))

    def cudaFreeHost(self, address: int) -> Any:
        del self.pinned[address]
        return OK

    def cudaMemset(self, address: int, value: int, size: int) -> Any:
        assert self._within(self.device, address, size)
        ctypes.memset(address, value, size)
        return OK

    def cudaMemcpy(self, target: int, source: int, size: int, kind: cudaMemcpyKind) -> Any:
        if not self._sound(target, source, size, kind):
            return (cudaError_t.cudaErrorInvalidValue,)
        ctypes.memmove(target, source, size)
        return OK

    def cudaMemcpyAsync(
        self, target: int, source: int, size: int, kind: cudaMemcpyKind, stream: Stream
    ) -> Any:
        if not self._sound(target, source, size, kind):
            return (cudaError_t.cudaErrorInvalidValue,)
        stream.give(lambda: ctypes.memmove(target, source, size) and None)
        return OK

    def cudaStreamCreateWithFlags(self, flags: int) -> Any:
        assert flags == self.cudaStreamNonBlocking
        stream = Stream(1000 + len(self.streams) + self.calls["cudaStreamCreateWithFlags"])
        self.streams[stream.handle] = stream
        return (*OK, stream)

    def cudaStreamDestroy(self, stream: Stream) -> Any:
        del self.streams[int(stream)]
        return OK

    def cudaStreamSynchronize(self, stream: Stream | int) -> Any:
        if isinstance(stream, int):  # the default one: what it is given here is done at once
            return OK
        assert stream.captured is None, "waited for while it captures"
        while stream.waiting:
            stream.waiting.pop(0)()
        return OK

    def cudaStreamBeginCapture(self, stream: Stream, mode: int) -> Any:
        assert not stream.waiting
        stream.captured = []
        return OK

    def cudaStreamEndCapture(self, stream: Stream) -> Any:
        work, stream.captured = stream.captured, None
        assert work is not None
        handle = 5000 + self.calls["cudaStreamEndCapture"]
        self.graphs[handle] = work
        return (*OK, handle)

    def cudaGraphInstantiate(self, graph: int, flags: int) -> Any:
        handle = 9000 + graph
        self.graphs[handle] = self.graphs[graph]
        return (*OK, handle)

    def cudaGraphDestroy(self, graph: int) -> Any:
        del self.graphs[graph]
        return OK

    def cudaGraphExecDestroy(self, graph: int) -> Any:
        del self.graphs[graph]
        return OK

    def cudaGraphLaunch(self, graph: int, stream: Stream) -> Any:
        for work in self.graphs[graph]:
            stream.give(work)
        return OK

    def _sound(self, target: int, source: int, size: int, kind: cudaMemcpyKind) -> bool:
        from_device = self._within(self.device, source, size)
        to_device = self._within(self.device, target, size)
        return (from_device, to_device) == {
            cudaMemcpyKind.cudaMemcpyHostToDevice: (False, True),
            cudaMemcpyKind.cudaMemcpyDeviceToHost: (True, False),
            cudaMemcpyKind.cudaMemcpyDeviceToDevice: (True, True),
        }[kind]

    def _within(self, memories: dict[int, Any], address: int, size: int) -> bool:
        return any(start <= address and address + size <= start + len(m) for start, m in memories.items())


class FakeTensorRt:
    """Stands for the module; see the head of this file.

    Args:
        cuda: whose streams it works on.
        capturable: what `is_stream_capturable` says; None = there is no such call, as in TensorRT.
    """

    class ILogger:
        class Severity(enum.IntEnum):
            INTERNAL_ERROR = 0
            ERROR = 1
            WARNING = 2

    class TensorIOMode(enum.Enum):
        INPUT = 1
        OUTPUT = 2

    class TensorLocation(enum.Enum):
        DEVICE = 1
        HOST = 2

    class IRuntimeCache:
        pass

    class BuilderFlag(enum.Enum):
        TF32 = 1

    class ComputeCapability(enum.Enum):
        CURRENT = 1
        SM89 = 89
        SM120 = 120

    def __init__(self, cuda: FakeCuda, capturable: bool | None = None) -> None:
        self.cuda = cuda
        self.capturable = capturable
        self.executes = True
        self.engines: Counter[str] = Counter()

    def Runtime(self, logger: Any) -> Runtime:
        return Runtime(self, logger)

    def nptype(self, kind: np.dtype[Any]) -> type:
        return kind.type


class Runtime:
    def __init__(self, trt: FakeTensorRt, logger: Any) -> None:
        self.trt, self.logger = trt, logger

    def deserialize_cuda_engine(self, plan: bytes) -> EngineOfOnnx | None:
        try:
            return EngineOfOnnx(self.trt, self.logger, plan)
        except Exception as error:  # as TensorRT: told to the logger, None returned
            self.logger.log(self.trt.ILogger.Severity.ERROR, f"Serialization: {type(error).__name__}")
            return None


class EngineOfOnnx:
    def __init__(self, trt: FakeTensorRt, logger: Any, plan: bytes) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        self.trt, self.logger = trt, logger
        self.session = onnxruntime.InferenceSession(plan, options, providers=["CPUExecutionProvider"])
        self.io = {node.name: node for node in (*self.session.get_inputs(), *self.session.get_outputs())}
        self.inputs = [node.name for node in self.session.get_inputs()]
        self.host: set[str] = set()
        trt.engines["live"] += 1

    def __del__(self) -> None:
        if hasattr(self, "io"):
            self.trt.engines["live"] -= 1

    @property
    def num_io_tensors(self) -> int:
        return len(self.io)

    def get_tensor_name(self, index: int) -> str:
        return list(self.io)[index]

    def get_tensor_mode(self, name: str) -> Any:
        return self.trt.TensorIOMode.INPUT if name in self.inputs else self.trt.TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> np.dtype[Any]:
        known = {"float": "float32", "float16": "float16"}
        kind = self.io[name].type.removeprefix("tensor(").removesuffix(")")
        return np.dtype(known.get(kind, kind))

    def get_tensor_shape(self, name: str) -> list[int]:
        return list(self.io[name].shape)

    def get_tensor_location(self, name: str) -> Any:
        return self.trt.TensorLocation.HOST if name in self.host else self.trt.TensorLocation.DEVICE

    def create_runtime_config(self) -> RuntimeConfig:
        return RuntimeConfig()

    def create_execution_context(self, config: RuntimeConfig | None = None) -> Context:
        context = Context(self)
        if config is None or config.cache is None or not config.cache.content:
            self.trt.cuda.calls["compile"] += 1
        if config is not None and config.cache is not None:
            config.cache.content = KERNELS
        if self.trt.capturable is not None:
            context.is_stream_capturable = lambda stream: bool(self.trt.capturable)  # type: ignore[attr-defined]
        return context


KERNELS = b"compiled for the test GPU"


class RuntimeCache:
    content = b""

    def serialize(self) -> memoryview:
        return memoryview(self.content)

    def deserialize(self, blob: bytes) -> bool:
        assert blob in (KERNELS, OTHER_KERNELS), "what is damaged is not given to the library"
        self.content = blob if blob == KERNELS else b""
        return blob == KERNELS


OTHER_KERNELS = b"compiled in an environment that the library tells apart"


class RuntimeConfig:
    cache: RuntimeCache | None = None

    def create_runtime_cache(self) -> RuntimeCache:
        return RuntimeCache()

    def set_runtime_cache(self, cache: RuntimeCache) -> bool:
        self.cache = cache
        return True


class Context:
    def __init__(self, engine: EngineOfOnnx) -> None:
        self.engine = engine
        self.addresses: dict[str, int] = {}

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return name in self.engine.io

    def execute_async_v3(self, stream: int) -> bool:
        trt = self.engine.trt
        if trt.cuda.cudaGetLastError() != OK:  # asked for after its kernels, whoever's it is
            self.engine.logger.log(trt.ILogger.Severity.ERROR, "enqueueV3: an error of CUDA")
            return False
        if not trt.executes:
            self.engine.logger.log(trt.ILogger.Severity.ERROR, "enqueueV3: no luck")
            return False
        trt.cuda.streams[stream].give(self._execute)
        return True

    def _execute(self) -> None:
        names = [node.name for node in self.engine.session.get_outputs()]
        feeds = {name: self._read(name) for name in self.engine.inputs}
        for name, value in zip(names, self.engine.session.run(names, feeds), strict=True):
            content = np.ascontiguousarray(value).tobytes()
            ctypes.memmove(self.addresses[name], content, len(content))

    def _read(self, name: str) -> np.ndarray[Any, Any]:
        shape, kind = self.engine.get_tensor_shape(name), self.engine.get_tensor_dtype(name)
        size = int(np.prod(shape)) * kind.itemsize
        return np.frombuffer(ctypes.string_at(self.addresses[name], size), kind).reshape(shape)


def library(trt: FakeTensorRt, name: str = "tensorrt_rtx", version: str = "1.7.1.116") -> Library:
    """A `Library` of the fake module."""
    return Library(FAMILIES[name], trt, version, make_logger(trt))


def runtime(cuda: FakeCuda) -> CudaRuntime:
    return CudaRuntime(cuda)


def plans_of(folder: Path, manifest: Manifest) -> dict[str, bytes]:
    """A model's plans for the fake module: its graphs."""
    return {name: (folder / graph.file).read_bytes() for name, graph in manifest.graphs.items()}
