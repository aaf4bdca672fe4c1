# ruff: noqa: N802 - the names are those of TensorRT
"""TensorRT on a GPU made of host memory (`fake_cuda`), as far as it is used.

`FakeTensorRt` answers like the Python module: its plans are ONNX files, which ONNX Runtime runs on the
addresses it was told. It says nothing about the real library's arithmetic or speed.
"""

from __future__ import annotations

import ctypes
import enum
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from fake_cuda import OK, FakeCuda

from robust_perception.engine.manifest import Manifest
from robust_perception.engine.tensorrt_library import FAMILIES, Library, make_logger


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


def plans_of(folder: Path, manifest: Manifest) -> dict[str, bytes]:
    """A model's plans for the fake module: its graphs."""
    return {name: (folder / graph.file).read_bytes() for name, graph in manifest.graphs.items()}
