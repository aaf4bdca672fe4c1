"""From an ONNX graph to a TensorRT plan: parsed, told how to build, built, with progress.

Only a command builds; a node loads what is there. On a GPU it takes seconds to minutes, and what it measured
of kernels is kept as a timing cache, so that the next build of a like graph is quicker. TensorRT-RTX builds
for a named compute capability without any GPU.
"""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

from robust_perception.engine.errors import BackendError
from robust_perception.engine.tensorrt_library import Library, targets

BETWEEN_LINES = 5.0
"""Seconds between two lines of progress."""


@dataclass(frozen=True)
class BuildOptions:
    """How to build.

    Attributes:
        optimisation_level: 0 (quickest build) to 5 (quickest plan).
        workspace: most scratch memory of the plan, bytes; 0 = what the GPU has.
        target_sm: compute capability to build for without its GPU, e.g. 89; None = the GPU that is here.
        until: by `time.monotonic`; what is not built by then is cancelled.
    """

    optimisation_level: int = 3
    workspace: int = 0
    target_sm: int | None = None
    until: float = math.inf


@dataclass(frozen=True)
class Built:
    """A plan and what was measured on the way; the latter is empty where nothing is measured."""

    plan: bytes
    timing: bytes


def build(
    library: Library,
    onnx: bytes,
    source: str,
    options: BuildOptions,
    timing: bytes = b"",
    say: Callable[[str], None] = lambda _: None,
) -> Built:
    """Build one graph.

    Args:
        library: what builds.
        onnx: the graph; checked by the caller.
        source: its name for messages.
        options: how.
        timing: what an earlier build measured.
        say: told every few seconds what goes on and since when.

    Raises:
        BackendError: a node cannot be parsed (it is named), the target is not one of the library's, the time
            was up, or the library cannot build it; the message holds the library's words.
        KeyboardInterrupt: the user ended it; the library was told to stop and did.
    """
    trt, title, start = library.module, library.title, time.monotonic()
    builder = library.make("Builder")
    network = builder.create_network(_creation_flags(trt))
    parser = trt.OnnxParser(network, library.logger)
    library.logger.errors.clear()
    if not parser.parse(onnx):
        raise BackendError(_parser_words(parser, source, title))
    config = builder.create_builder_config()
    _configure(library, config, options)
    with Progress(source, say) as progress, _interruptible() as interrupted:
        late = threading.Event()

        def stop() -> bool:
            if time.monotonic() > options.until:
                late.set()
            return late.is_set() or interrupted.is_set()

        monitor = _monitor(trt, progress, stop)
        if monitor is not None:
            config.progress_monitor = monitor
        cache = _timing_cache(library, config, timing)
        serialised = builder.build_serialized_network(network, config)
        if interrupted.is_set():
            raise KeyboardInterrupt
    if serialised is None and late.is_set():
        spent = time.monotonic() - start
        msg = (
            f"{source}: expected {title} to build it in the time there was, got a build that was cancelled "
            f"after {spent:.0f} s; give it more time, or a lower optimisation level"
        )
        raise BackendError(msg)
    if serialised is None:
        msg = f"{source}: expected {title} to build it, got {library.said()}"
        raise BackendError(msg)
    return Built(bytes(serialised), b"" if cache is None else _content(config.get_timing_cache()))


def _creation_flags(trt: Any) -> int:
    # Needed by TensorRT 10; later versions know it and have no other way.
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _configure(library: Library, config: Any, options: BuildOptions) -> None:
    trt = library.module
    for name, on in library.flags().items():
        flag = getattr(trt.BuilderFlag, name)
        if on:
            config.set_flag(flag)
        else:
            config.clear_flag(flag)
    config.builder_optimization_level = options.optimisation_level
    if options.workspace:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace)
    if not library.family.ahead_of_time:
        if options.target_sm is not None:
            msg = f"{library.title} builds for the GPU that is here alone, not for sm_{options.target_sm}"
            raise BackendError(msg)
        return
    config.num_compute_capabilities = 1
    target = trt.ComputeCapability.CURRENT
    if options.target_sm is not None:
        target = getattr(trt.ComputeCapability, f"SM{options.target_sm}", None)
        if target is None:
            known = ", ".join(map(str, targets(library)))
            msg = f"{library.title}: expected a target out of {known}, got {options.target_sm}"
            raise BackendError(msg)
    if not config.set_compute_capability(target, 0):
        msg = f"{library.title}: expected to build for {target}, got {library.said()}"
        raise BackendError(msg)


def _timing_cache(library: Library, config: Any, timing: bytes) -> Any:
    """The cache the build uses and adds to; None where the library measures nothing."""
    if not library.family.times:
        return None
    # One of another GPU or version is refused by the library; the build begins with an empty one then.
    for content in dict.fromkeys((timing, b"")):
        cache = config.create_timing_cache(content)
        if cache is not None and config.set_timing_cache(cache, False):
            library.said()  # why another one was refused is no reason of a build that fails later
            return cache
    return None


def _content(cache: Any) -> bytes:
    """What was measured; nothing where the library gives none: a plan that is built is not lost for it."""
    memory = None if cache is None else cache.serialize()
    return b"" if memory is None else bytes(memory)


def _parser_words(parser: Any, source: str, title: str) -> str:
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    words = "; ".join(_error_words(error) for error in errors) or "no reason"
    return f"{source}: expected a graph that {title} takes, got {words}"


def _error_words(error: Any) -> str:
    # The first lines say what is wrong; what follows is where in the library it was noticed.
    reason = " ".join(error.desc().split())
    return f"node {error.node_name()!r} ({error.node_operator()}): {reason}"


class Progress:
    """Says every few seconds what is built, in which phase, and for how long: a context.

    Args:
        source: what is built.
        say: told.
        every: seconds between two words.
    """

    def __init__(self, source: str, say: Callable[[str], None], every: float = BETWEEN_LINES) -> None:
        self._source, self._say, self._every = source, say, every
        self._phases: list[tuple[str, int, int]] = []
        self._done = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._tell, name="build-progress", daemon=True)
        self._start = time.monotonic()

    def __enter__(self) -> Progress:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def begin(self, phase: str, steps: int) -> None:
        """A phase begins, within those that have."""
        with self._lock:
            self._phases.append((phase, 0, steps))

    def step(self, phase: str, step: int) -> None:
        """A step of it is done."""
        with self._lock:
            self._phases = [(p, step + 1, n) if p == phase else (p, k, n) for p, k, n in self._phases]

    def end(self, phase: str) -> None:
        """It is over."""
        with self._lock:
            self._phases = [known for known in self._phases if known[0] != phase]

    def words(self) -> str:
        """What is going on now."""
        seconds = time.monotonic() - self._start
        with self._lock:
            steps = [f"{phase.lower()} {step}/{steps}" for phase, step, steps in self._phases]
        return f"{self._source}, {seconds:.0f} s" + (f": {', '.join(steps[-2:])}" if steps else "")

    def _tell(self) -> None:
        while not self._done.wait(self._every):
            self._say(self.words())


def _monitor(trt: Any, progress: Progress, stop: Callable[[], bool]) -> Any:
    """Tells `progress` what the library does, and the library when to stop; None where it takes none."""
    if not hasattr(trt, "IProgressMonitor"):
        return None

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # the bindings have no types
        # Called from any of the library's threads.
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            progress.begin(phase_name, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            progress.step(phase_name, step)
            return not stop()

        def phase_finish(self, phase_name: str) -> None:
            progress.end(phase_name)

    return Monitor()


@contextlib.contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Ctrl-C sets a flag: an exception raised in a callback of the library would end the process."""
    flag = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        flag.set()

    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of what TensorRT-RTX does not do any more
            yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
