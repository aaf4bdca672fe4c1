"""CUDA's runtime as TensorRT needs it: memory, copies, a stream, a captured graph.

Each call is NVIDIA's own (`cuda.bindings.runtime`); what is added here is that an answer that is no success
becomes a BackendError with the call's name and CUDA's words for it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from robust_perception.engine.cuda import Device, dotted
from robust_perception.engine.errors import BackendError

PACKAGE = "cuda-bindings"

DEFAULT_STREAM = 0

Address = int
Bytes = npt.NDArray[np.uint8]


class CudaRuntime:
    """The calls, on one device.

    Args:
        api: `cuda.bindings.runtime`, or what answers like it.
        device: index among those CUDA shows this process.
    """

    def __init__(self, api: Any, device: int = 0) -> None:
        self._api = api
        self._device = device
        self._success = api.cudaError_t.cudaSuccess

    @classmethod
    def load(cls) -> CudaRuntime:
        """NVIDIA's bindings; probe the driver first.

        Raises:
            BackendError: they are not installed or do not load.
        """
        try:
            from cuda.bindings import runtime
        except (ImportError, RuntimeError) as error:
            msg = f"expected the Python package {PACKAGE}, got {error}; `pip install {PACKAGE}`"
            raise BackendError(msg) from None
        return cls(runtime)

    def call(self, name: str, *arguments: Any) -> Any:
        """One call by its name; its value, or None where it has none.

        Raises:
            BackendError: it did not succeed, or the driver has no such call.
        """
        values = self._values(name, *arguments)
        return values[0] if values else None

    def version(self) -> str:
        """Of the runtime, e.g. "13.0"; needs no driver."""
        return dotted(int(self.call("cudaRuntimeGetVersion")))

    def require_served_by(self, device: Device) -> None:
        """BackendError where the driver is of an older CUDA than this runtime, and would refuse every call.

        Within one major version a driver serves newer runtimes too.
        """
        has, wanted = (int(version.split(".")[0]) for version in (device.driver_cuda, self.version()))
        if has < wanted:
            msg = (
                f"{PACKAGE}: expected one for CUDA {device.driver_cuda}, which the driver has, got CUDA "
                f"{self.version()}; `pip install '{PACKAGE}<{has + 1}'`, or a newer driver"
            )
            raise BackendError(msg)

    def select(self) -> None:
        """Make the device this thread's; every thread starts with the first one."""
        self.call("cudaSetDevice", self._device)

    def memory(self) -> tuple[int, int]:
        """(free, whole) memory of the device, bytes; other processes' use counts as not free."""
        free, whole = self._values("cudaMemGetInfo")
        return int(free), int(whole)

    def allocate(self, size: int) -> Address:
        """Device memory of `size` bytes, all zero."""
        address = int(self.call("cudaMalloc", size))
        # Streams that do not wait for the default one must find it done. That one alone is waited for: the
        # device as a whole cannot be while another thread captures.
        self.call("cudaMemset", address, 0, size)
        self.call("cudaStreamSynchronize", DEFAULT_STREAM)
        return address

    def free(self, address: Address) -> None:
        """Give device memory back."""
        self.call("cudaFree", address)

    def allocate_pinned(self, size: int) -> tuple[Address, Bytes]:
        """Host memory of `size` bytes that the device copies from and to directly, and a view of it."""
        address = int(self.call("cudaHostAlloc", size, self._api.cudaHostAllocDefault))
        view = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))
        view[:] = 0
        return address, view

    def free_pinned(self, address: Address) -> None:
        """Give pinned host memory back; its view must not be used any more."""
        self.call("cudaFreeHost", address)

    def upload(self, target: Address, source: Address, size: int, stream: Any) -> None:
        """Copy from host to device, in the stream's order; the source must stay until that is done."""
        self._copy(target, source, size, "cudaMemcpyHostToDevice", stream)

    def download(self, target: Address, source: Address, size: int, stream: Any) -> None:
        """Copy from device to host, in the stream's order."""
        self._copy(target, source, size, "cudaMemcpyDeviceToHost", stream)

    def copy(self, target: Address, source: Address, size: int, stream: Any) -> None:
        """Copy within the device, in the stream's order."""
        self._copy(target, source, size, "cudaMemcpyDeviceToDevice", stream)

    def read(self, target: Bytes, source: Address) -> None:
        """Fill host memory from the device, now; pinned or not."""
        direction = self._api.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self.call("cudaMemcpy", target.ctypes.data, source, target.nbytes, direction)

    def create_stream(self) -> Any:
        """A stream that does not wait for the default one."""
        return self.call("cudaStreamCreateWithFlags", self._api.cudaStreamNonBlocking)

    def destroy_stream(self, stream: Any) -> None:
        """End a stream."""
        self.call("cudaStreamDestroy", stream)

    def synchronise(self, stream: Any) -> None:
        """Wait for all that the stream was given; an error of any of it is raised here."""
        self.call("cudaStreamSynchronize", stream)

    def capture(self, stream: Any, work: Callable[[], None]) -> Any:
        """What `work` gives the stream, as a graph that is launched as one; nothing of it runs now.

        Raises:
            BackendError: something in it cannot be captured; the stream is usable again.
        """
        # Thread-local: another thread's allocation must not break this one's capture.
        mode = self._api.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self.call("cudaStreamBeginCapture", stream, mode)
        try:
            work()
        except BaseException:
            # Ended in any case: a stream that captures runs nothing. The first error is the one to tell.
            code, *values = self._api.cudaStreamEndCapture(stream)
            if code == self._success and values and int(values[0]):
                self._api.cudaGraphDestroy(values[0])
            self._forget_error()
            raise
        graph = self.call("cudaStreamEndCapture", stream)
        try:
            return self.call("cudaGraphInstantiate", graph, 0)
        finally:
            self.call("cudaGraphDestroy", graph)

    def launch(self, captured: Any, stream: Any) -> None:
        """Give the stream a captured graph."""
        self.call("cudaGraphLaunch", captured, stream)

    def destroy_captured(self, captured: Any) -> None:
        """End a captured graph."""
        self.call("cudaGraphExecDestroy", captured)

    def _values(self, name: str, *arguments: Any) -> list[Any]:
        try:
            code, *values = getattr(self._api, name)(*arguments)
        except RuntimeError as error:  # what the bindings have and this driver has not
            msg = f"{name}: expected the NVIDIA driver to have it, got {error}"
            raise BackendError(msg) from None
        if code != self._success:
            self._forget_error()
            msg = f"{name}: expected success, got {self._words(code)}"
            raise BackendError(msg)
        return list(values)

    def _forget_error(self) -> None:
        """CUDA gives a thread's last error to whoever asks next, and TensorRT asks after its kernels."""
        self._api.cudaGetLastError()

    def _copy(self, target: Address, source: Address, size: int, kind: str, stream: Any) -> None:
        direction = getattr(self._api.cudaMemcpyKind, kind)
        self.call("cudaMemcpyAsync", target, source, size, direction, stream)

    def _words(self, code: Any) -> str:
        _, name = self._api.cudaGetErrorName(code)
        _, text = self._api.cudaGetErrorString(code)
        return f"{_text(name)} ({_text(text)})"


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
