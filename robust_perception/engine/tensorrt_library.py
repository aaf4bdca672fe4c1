"""TensorRT and TensorRT-RTX as one library: they have the same Python API under two names.

Types are always those of the graph (a strongly typed network): what is float32 in a half precision file stays
float32, and scales are the file's own. From TensorRT 11 on there is nothing else; in 10 it is a flag, and the
older way - flags that let the builder choose a lower precision - would compute boxes in float16, which knows
pixels beyond 256 in steps of a quarter alone. TF32 is switched off: what is called fp32 is computed in it.

Import it only after `cuda.probe`, or to build ahead of time (TensorRT-RTX needs no driver for that).
"""

from __future__ import annotations

import importlib
import importlib.util
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from robust_perception import extras
from robust_perception.engine import cuda
from robust_perception.engine.cuda_runtime import PACKAGE
from robust_perception.engine.errors import BackendError
from robust_perception.engine.plan_key import Builder

OLDEST = 10
"""First version of TensorRT with int64 tensors, `execute_async_v3` and strong typing throughout."""

KEPT_WORDS = 8
"""Of what the library said last, for the message of the call that failed."""


@dataclass(frozen=True)
class Family:
    """One of the two.

    Attributes:
        backend: the name users choose it by.
        title: as its maker writes it.
        modules: names its Python module has, in the order they are tried: a metapackage may be absent where
            the bindings are there.
        install: gives how to get it, in words.
        ahead_of_time: whether it builds for a named compute capability without a GPU.
        times: whether it measures kernels while it builds, so that a timing cache is of use.
    """

    backend: str
    title: str
    modules: tuple[str, ...]
    install: Callable[[], str]
    ahead_of_time: bool
    times: bool


FAMILIES = {
    "tensorrt": Family(
        "tensorrt",
        "TensorRT",
        ("tensorrt", "tensorrt_bindings"),
        lambda: (
            "on a Jetson it comes with JetPack, else `pip install tensorrt` (needs NVIDIA's package index)"
        ),
        ahead_of_time=False,
        times=True,
    ),
    "tensorrt_rtx": Family(
        "tensorrt_rtx",
        "TensorRT-RTX",
        ("tensorrt_rtx", "tensorrt_rtx_bindings"),
        lambda: extras.install("tensorrt-rtx"),
        ahead_of_time=True,
        times=False,
    ),
}
"""By backend, in the order `auto` tries them."""


@dataclass(frozen=True)
class Library:
    """The module, imported.

    Attributes:
        family: which of the two.
        module: the Python module.
        version: its full version.
        logger: what every object of it is made with; outlives them all.
    """

    family: Family
    module: Any
    version: str
    logger: Any

    @property
    def title(self) -> str:
        """Name and version in words."""
        return f"{self.family.title} {self.version}"

    def said(self) -> str:
        """What the library last said of errors, and forget it."""
        words = "; ".join(self.logger.errors)
        self.logger.errors.clear()
        return words or "no reason"

    def make(self, kind: str) -> Any:
        """The library's `Runtime` or `Builder`.

        Raises:
            BackendError: it gives none: the driver is too old for it, or there is no memory.
        """
        try:
            return getattr(self.module, kind)(self.logger)
        except TypeError as error:  # how its bindings say that there is none
            msg = f"{self.title}: expected a {kind.lower()}, got none: {self.said()} ({error})"
            raise BackendError(msg) from None

    def flags(self) -> dict[str, bool]:
        """Builder flags that are not the builder's defaults, where the library has them: name -> on."""
        wanted = {
            "TF32": False,
            # TensorRT-RTX: no allocation while it runs, or it could not be captured in a CUDA graph.
            "REQUIRE_USER_ALLOCATION": True,
        }
        return {name: on for name, on in wanted.items() if hasattr(self.module.BuilderFlag, name)}

    def builder(self, runtime_version: str) -> Builder:
        """What plans of this library are built by."""
        flags = " ".join(f"{'+' if on else '-'}{name}" for name, on in self.flags().items())
        return Builder(self.family.backend, self.version, runtime_version, "strong", flags)


def targets(library: Library) -> tuple[int, ...]:
    """Compute capabilities it builds for ahead of time, e.g. 75, 80, 86, 89; empty when it does not."""
    if not library.family.ahead_of_time or not hasattr(library.module, "ComputeCapability"):
        return ()
    names = library.module.ComputeCapability.__members__
    return tuple(sorted(int(name[2:]) for name in names if name.startswith("SM") and name[2:].isdigit()))


@contextmanager
def unlisted_told(library: Library, sm: str) -> Iterator[None]:
    """Within it, errors on a GPU that the library does not name among its targets say so, and what to use.

    It may do there all the same: nothing is refused beforehand.

    Args:
        library: what builds or loads.
        sm: compute capability of the GPU that is here, e.g. "sm_90".
    """
    try:
        yield
    except BackendError as error:
        known = [f"sm_{target}" for target in targets(library)]
        if not known or sm in known:
            raise
        msg = (
            f"{error}. {library.title} names {', '.join(known)} as its targets, and this GPU is {sm}, which "
            "may be why: use the backend tensorrt"
        )
        raise BackendError(msg) from None


def missing(family: Family) -> str | None:
    """Which Python package is not installed, "; " and the mend; None when all are. Imports none."""
    if module_of(family) is None:
        return f"the Python package of {family.title} is not installed; {family.install()}"
    if not installed("cuda.bindings"):
        return f"the Python package {PACKAGE} is not installed; `pip install {PACKAGE}`"
    return None


def probe(name: str) -> str | None:
    """Why a backend of this family cannot run here, "; " and the mend, or None when it may.

    Asks the driver first; imports nothing of TensorRT.
    """
    return cuda.probe() or missing(FAMILIES[name])


def module_of(family: Family) -> str | None:
    """Name of its module that is installed, or None."""
    return next((module for module in family.modules if installed(module)), None)


def installed(module: str) -> bool:
    """Whether a module would be found; it is not imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def load(name: str) -> Library:
    """Import a library; probe the driver first, unless plans are only built ahead of time.

    Raises:
        BackendError: it is not installed, does not load, or is too old.
    """
    family = FAMILIES[name]
    reason = missing(family)
    if reason is not None:
        raise BackendError(f"{name}: {reason}")
    module_name = module_of(family)
    assert module_name is not None
    try:
        module = importlib.import_module(module_name)
        version = str(module.__version__)
        logger = make_logger(module)
    except (ImportError, AttributeError, OSError, RuntimeError) as error:
        msg = f"{name}: expected the Python module {module_name} to load, got {error}; {family.install()}"
        raise BackendError(msg) from None
    if family.backend == "tensorrt" and int(version.split(".")[0]) < OLDEST:
        msg = f"{name}: expected {family.title} {OLDEST} or newer, got {version}; {family.install()}"
        raise BackendError(msg)
    return Library(family, module, version, logger)


def make_logger(module: Any) -> Any:
    """A logger of the library that keeps its last errors for messages and is silent otherwise."""
    worst = (module.ILogger.Severity.INTERNAL_ERROR, module.ILogger.Severity.ERROR)

    class Logger(module.ILogger):  # type: ignore[misc]  # the bindings have no types
        def __init__(self) -> None:
            module.ILogger.__init__(self)
            self.errors: deque[str] = deque(maxlen=KEPT_WORDS)

        def log(self, severity: Any, words: str) -> None:
            # Called from any of the library's threads; appending is safe, and nothing may be raised here.
            if severity in worst:
                self.errors.append(" ".join(words.split()))

    return Logger()
