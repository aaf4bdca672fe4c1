"""Runs a model's graphs with ONNX Runtime, on the CPU or on an NVIDIA GPU.

A model is several sessions that run one after the other or side by side, and must not be in each other's way:

- Each has its own threads, and ONNX Runtime lets idle ones spin for long. On two cores that made the whole
  three times slower. Not at all is not best either: where the kernel takes long to wake a thread, as it does
  for a virtual machine, a second thread gains nothing. So they spin for a moment within a run, and never
  between two.
- Each has its own memory, which the others have pushed out of the processor's caches when its turn comes. So
  all sessions of a process share one: a frame takes a tenth less time, and a model a fifth less memory.

The package with the GPU in it runs on the CPU without a word where it finds no driver or no CUDA library, and
still lists the GPU among what it offers. Only what a session says of itself is the truth, so that is asked.
"""

from __future__ import annotations

import contextlib
import functools
import io
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robust_perception.engine.errors import BackendError
from robust_perception.engine.manifest import Manifest, encoder_name
from robust_perception.engine.model_files import FileSpec, GraphSpec, TensorSpec
from robust_perception.engine.precision import FP32
from robust_perception.engine.tensors import Feeds, Found, read_graph, require_described
from robust_perception.engine.threads import thread_count
from robust_perception.vocabulary import Array, Modality

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}

SOUND = encoder_name(Modality.AUDIO)
"""The graph whose layers are too small to be shared out: on two threads it takes half as long again."""

_SPIN_MICROSECONDS = 10
"""How long an idle thread of a run looks for work before it sleeps.

With one core of two taken by another process 20 cost 5 % of a frame, 200 a third; without one, 5 to 500 gain
the same.
"""

_BOUNDED_SPINNING = (1, 26)
"""Version of ONNX Runtime from which on that can be said; before, threads that spin do so for long."""


@dataclass(frozen=True)
class Provider:
    """Where ONNX Runtime runs.

    Attributes:
        backend: the name users choose it by.
        device: in words.
        provider: ONNX Runtime's name for it.
        options: of the provider.
        mend: what to do where a session does not get it.
    """

    backend: str
    device: str
    provider: str
    options: Mapping[str, str] = field(default_factory=dict)
    mend: str = "`pip install onnxruntime`"


CPU = Provider("onnxruntime", "cpu", "CPUExecutionProvider")
CUDA = Provider(
    "onnxruntime_cuda",
    "cuda",
    "CUDAExecutionProvider",
    # TensorFloat-32 keeps ten bits of a float32's fraction; kernels chosen by timing differ from one session
    # to the next, and so do their sums.
    {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"},
    "`pip install 'onnxruntime-gpu[cuda,cudnn]'` and no other onnxruntime beside it, for the driver's CUDA",
)


class OnnxRuntimeBackend:
    """ONNX Runtime sessions of one model, built once.

    Args:
        folder: the model folder.
        manifest: its manifest; files are checked against it before they are parsed.
        precision: which of the model's graphs.
        threads: threads of one operator, the sound's apart; None = the cores this process may use.
        provider: where it runs.
        graphs: which of the model's, parts of the fusion included; None = all but those.

    Raises:
        ModelFileError: a graph's file is missing or damaged.
        BackendError: ONNX Runtime is not installed, refuses a graph, finds other tensors than described, or
            does not run where it was told to, or the model has no graphs of this precision.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        precision: str = FP32,
        threads: int | None = None,
        provider: Provider = CPU,
        graphs: Collection[str] | None = None,
    ) -> None:
        self.name = provider.backend
        self.device = provider.device
        self.precision = precision
        specs = dict(manifest.graphs_of(precision))
        if graphs is not None:
            known = {**specs, **manifest.parts.get(precision, {})}
            specs = {name: spec for name, spec in known.items() if name in graphs}
        count = thread_count(threads)
        self._sessions = {}
        for name, spec in specs.items():
            path = folder / spec.file
            session = _open(path, read_graph(folder, spec), 1 if name == SOUND else count, provider)
            self._sessions[name] = session
            require_described(path, spec, _tensors(session.get_inputs()), _tensors(session.get_outputs()))
        self._feeds = Feeds(specs)
        self._outputs = {name: [tensor.name for tensor in spec.outputs] for name, spec in specs.items()}

    def run(self, graph: str, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run one graph; see `Backend.run`."""
        complete = self._feeds.complete(graph, feeds)
        names = self._outputs[graph]
        try:
            outputs = self._sessions[graph].run(names, complete)
        except Exception as error:  # ONNX Runtime's exceptions have no base class of their own
            msg = f"{self.name}: expected {graph} in {self.precision} to run, got: {error}"
            raise BackendError(msg) from None
        return dict(zip(names, outputs, strict=True))


def on_cuda(folder: Path, manifest: Manifest, precision: str, threads: int | None) -> OnnxRuntimeBackend:
    """The same on an NVIDIA GPU; BackendError where a session runs elsewhere."""
    return OnnxRuntimeBackend(folder, manifest, precision, threads, CUDA)


def describe(path: Path) -> GraphSpec:
    """The manifest's entry of a graph: hash, size and tensors, as ONNX Runtime reads them.

    Raises:
        BackendError: ONNX Runtime is not installed or refuses the graph, or a shape is not static.
    """
    session = _open(path, path.read_bytes(), 1, CPU)
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


def _open(path: Path, content: bytes, threads: int, where: Provider) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        msg = f"{where.backend}: expected the package, got {error}; {where.mend}"
        raise BackendError(msg) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    version = onnxruntime.__version__
    spins = threads > 1 and tuple(map(int, version.split(".")[:2])) >= _BOUNDED_SPINNING
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spins else "0")
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(_SPIN_MICROSECONDS))
    options.add_session_config_entry("session.force_spinning_stop", "1")
    _make_shared_memory()
    options.add_session_config_entry("session.use_env_allocators", "1")
    if where.provider != CPU.provider and hasattr(onnxruntime, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does not find
            onnxruntime.preload_dlls()
    providers = [(where.provider, dict(where.options))]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a provider it does not have is an error here, below
            # From memory: the bytes that were checked are the bytes that are parsed.
            session = onnxruntime.InferenceSession(content, options, providers=providers)
    except Exception as error:  # ONNX Runtime's exceptions have no base class of their own
        msg = f"{path}: expected a graph ONNX Runtime {version} can run, got: {error}"
        raise BackendError(msg) from None
    running = session.get_providers()
    if where.provider not in running:
        msg = (
            f"{where.backend}: expected {where.provider}, but ONNX Runtime {version} runs {path.name} with "
            f"{', '.join(running)}; {where.mend}"
        )
        raise BackendError(msg)
    return session


@functools.cache
def _make_shared_memory() -> None:
    """Make the memory on the CPU that sessions share, once a process.

    Where somebody else has made one, that serves as well; where there is none, each session makes its own.
    """
    import onnxruntime

    kind = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    place = onnxruntime.OrtMemoryInfo("Cpu", kind, 0, onnxruntime.OrtMemType.DEFAULT)
    # No limit, and ONNX Runtime's own way to grow.
    growth = onnxruntime.OrtArenaCfg(0, -1, -1, -1)
    with contextlib.suppress(Exception):  # ONNX Runtime's exceptions have no base class of their own
        onnxruntime.create_and_register_allocator(place, growth)


def _tensors(nodes: Any) -> list[Found]:
    return [(node.name, _DTYPES.get(node.type, node.type), tuple(node.shape)) for node in nodes]
