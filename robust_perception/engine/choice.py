"""Which backend runs a model, and in which precision: the named ones or, under `auto`, the first that work.

    backend   precision   what may run
    auto      auto        every automatic backend in the order of `BACKENDS`, each in its precisions, quickest
                          first
    auto      named       the same, in that precision alone
    named     auto        that backend, in its precisions, quickest first
    named     named       that or an error

Every option that was passed over is kept with its reason. A named backend is never replaced by another, nor a
named precision: whoever asks for it wants it or an error.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from robust_perception.engine import cuda, onnxruntime, openvino, tensorrt, tensorrt_library
from robust_perception.engine.errors import BackendError, EngineError, SelfCheckError
from robust_perception.engine.manifest import Manifest
from robust_perception.engine.precision import FP16, FP32, INT8, INT8_SYMMETRIC
from robust_perception.engine.protocol import Backend
from robust_perception.engine.threads import thread_count

Build = Callable[..., Backend]
Check = Callable[[Backend], None]


@dataclass(frozen=True)
class Kind:
    """One backend as the choice sees it.

    Attributes:
        build: makes it for a model; takes folder, manifest, precision and threads, `cache` where `planned`,
            and where `abreast` also `graphs`, those that are wanted.
        probe: why it cannot be used here, "; " and the mend, or None when nothing speaks against it; imports
            nothing heavy.
        precisions: what `precision` names -> the graphs it means here, quickest first.
        automatic: whether `auto` tries it; the others want to be named.
        planned: whether it loads plans that a command built.
        abreast: whether several threads may run it at once.
    """

    build: Build
    probe: Callable[[], str | None]
    precisions: Mapping[str, str]
    automatic: bool = True
    planned: bool = False
    abreast: bool = False


def _installed(module: str, mend: Callable[[], str]) -> Callable[[], str | None]:
    def missing() -> str | None:
        if importlib.util.find_spec(module) is None:
            return f"the Python package is not installed; {mend()}"
        return None

    return missing


def _cuda_missing() -> str | None:
    # Both packages are imported as `onnxruntime`: only what is installed says which of them it is.
    try:
        importlib.metadata.version("onnxruntime-gpu")
    except importlib.metadata.PackageNotFoundError:
        return f"the Python package onnxruntime-gpu is not installed; {onnxruntime.CUDA.mend}"
    return cuda.probe()


ON_CPU = {INT8: INT8, FP32: FP32}
"""No fp16: a CPU without units for it computes those graphs in float32, and gains nothing by them."""

ON_TENSORRT = {INT8: INT8_SYMMETRIC, FP16: FP16, FP32: FP32}
"""What users name -> the graphs it means, quickest first."""

BACKENDS: dict[str, Kind] = {
    **{
        name: Kind(tensorrt.opener(name), partial(tensorrt_library.probe, name), ON_TENSORRT, planned=True)
        for name in tensorrt_library.FAMILIES
    },
    "onnxruntime_cuda": Kind(onnxruntime.on_cuda, _cuda_missing, {FP16: FP16, FP32: FP32}, automatic=False),
    "onnxruntime": Kind(
        onnxruntime.OnnxRuntimeBackend,
        _installed("onnxruntime", lambda: onnxruntime.CPU.mend),
        ON_CPU,
        abreast=True,
    ),
    "openvino": Kind(
        openvino.OpenVinoBackend, _installed("openvino", openvino.mend), ON_CPU, automatic=False
    ),
}
"""Backends by name, best first: the order `auto` tries them in."""

EVERYWHERE = "onnxruntime"
"""The one that needs no more than the package itself installs."""

CHOICES = ("auto", *BACKENDS)
"""Values the `backend` setting takes."""

PRECISION_CHOICES = ("auto", FP32, FP16, INT8)
"""Values the `precision` setting takes."""


def probe(name: str) -> str | None:
    """Why a backend cannot be used here, or None when nothing speaks against it; loads no model.

    Raises:
        BackendError: not a backend's name.
    """
    if name not in BACKENDS:
        msg = f"backend: expected one of {', '.join(CHOICES)}, got {name!r}"
        raise BackendError(msg)
    reason = BACKENDS[name].probe()
    return None if reason is None else f"{name}: {reason}"


def runs_abreast(name: str) -> bool:
    """Whether several threads may run a backend at once; False for one that is not among `BACKENDS`."""
    return name in BACKENDS and BACKENDS[name].abreast


def on_shares(
    chosen: Backend,
    manifest: Manifest,
    folder: Path,
    threads: int | None,
    ways: int,
    graphs: Collection[str],
) -> Backend | None:
    """A chosen backend once more, for calls side by side on a share of the cores each.

    Args:
        chosen: what runs the model.
        manifest: of the model.
        folder: of the model.
        threads: at work at a time; None = the cores this process may use.
        ways: calls at a time.
        graphs: that it is to run, parts of the fusion included.

    Returns:
        None where several threads may not run it at once, or there are fewer cores than calls.

    Raises:
        BackendError: see `OnnxRuntimeBackend`.
        ModelFileError: a graph's file has changed since `chosen` read it.
    """
    count = thread_count(threads)
    if not 2 <= ways <= count or not runs_abreast(chosen.name):
        return None
    build = BACKENDS[chosen.name].build
    return build(folder, manifest, chosen.precision, count // ways, graphs=graphs)


def choose(
    folder: Path,
    manifest: Manifest,
    backend: str,
    precision: str,
    threads: int | None,
    check: Check,
    cache: Path | None = None,
    abreast: bool = False,
) -> tuple[Backend, tuple[str, ...]]:
    """Build a backend for a model.

    Args:
        folder: the model folder.
        manifest: its manifest.
        backend: one of `CHOICES`.
        precision: one of `PRECISION_CHOICES`.
        threads: threads of one operator on a CPU; None = the cores this process may use.
        check: raises SelfCheckError when the built backend does not give the model's reference outputs.
        cache: folder of plans; None = the user's own.
        abreast: whether several threads will run it at once: where it can, each call is on one thread then.

    Returns:
        The backend, and for every option that was passed over its name and the reason.

    Raises:
        BackendError: nothing that was asked for works; the message holds every reason.
        SelfCheckError: the only option of a named backend does not give the model's reference outputs.
        ModelFileError: a file of the model is missing or damaged.
    """
    if precision not in PRECISION_CHOICES:
        msg = f"precision: expected one of {', '.join(PRECISION_CHOICES)}, got {precision!r}"
        raise BackendError(msg)
    names = [name for name, kind in BACKENDS.items() if kind.automatic] if backend == "auto" else [backend]
    rejected: list[str] = []
    failed: list[EngineError] = []
    for name in names:
        reason = probe(name)
        if reason is not None:
            rejected.append(reason)
            continue
        kind = BACKENDS[name]
        wanted = {p: g for p, g in kind.precisions.items() if precision in ("auto", p)}
        if not wanted:
            rejected.append(f"{name}: runs {', '.join(kind.precisions)}, not {precision}")
        for named, graphs in wanted.items():
            if graphs not in manifest.precisions:
                rejected.append(f"{name} {named}: model {manifest.name} has no {graphs} graphs")
                continue
            each = 1 if abreast and kind.abreast else threads
            try:
                return _checked(name, folder, manifest, graphs, each, check, cache), tuple(rejected)
            except (BackendError, SelfCheckError) as error:  # a damaged file is no backend's fault
                rejected.append(f"{name} {named}: {error}")
                failed.append(type(error)(str(error)))  # its traceback would keep what was built
    if backend != "auto" and len(failed) == 1:
        raise failed.pop()
    what = "no backend runs this model" if backend == "auto" else f"backend {backend} does not run this model"
    msg = f"{what}: " + "; ".join(rejected)
    raise BackendError(msg)


def _checked(
    name: str,
    folder: Path,
    manifest: Manifest,
    graphs: str,
    threads: int | None,
    check: Check,
    cache: Path | None,
) -> Backend:
    """Build a backend and check it; one that fails is closed, for the next may need its memory."""
    kind = BACKENDS[name]
    plans = {"cache": cache} if kind.planned else {}
    built = kind.build(folder, manifest, graphs, threads, **plans)
    try:
        with tensorrt.mend_told(name, folder, graphs, cache) if kind.planned else nullcontext():
            check(built)
    except BaseException:
        close = getattr(built, "close", None)
        if close is not None:
            with suppress(BackendError):  # the check's error is the one to tell
                close()
        raise
    return built
