# ruff: noqa: N801, N802, N815 - the names are those of CUDA
"""A GPU made of host memory, for tests on machines without one: CUDA's runtime as far as it is used.

`FakeCuda` answers like `cuda.bindings.runtime`. What a stream is given is done when it is waited for, not
before, so that a missing wait shows; every copy is held to live allocations of the right kind; what is not
given back is counted. It says nothing about a real GPU's arithmetic or speed.
"""

from __future__ import annotations

import ctypes
import enum
import types
from collections import Counter
from collections.abc import Callable
from typing import Any

from robust_perception.engine.cuda import Device
from robust_perception.engine.cuda_runtime import CudaRuntime

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


def runtime(cuda: FakeCuda) -> CudaRuntime:
    return CudaRuntime(cuda)
