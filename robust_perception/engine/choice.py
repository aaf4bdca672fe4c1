"""Which backend runs a model: the named one or, under `auto`, the first that works, with the others' reasons.

A named backend is never replaced by another: whoever asks for it wants it or an error.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

from robust_perception.engine.errors import BackendError, SelfCheckError
from robust_perception.engine.manifest import Manifest
from robust_perception.engine.onnxruntime import OnnxRuntimeBackend
from robust_perception.engine.protocol import Backend

BACKENDS: dict[str, Callable[[Path, Manifest, int | None], Backend]] = {"onnxruntime": OnnxRuntimeBackend}
"""Backends of this version by name, best first: the order `auto` tries them in."""

NOT_AVAILABLE = ("tensorrt", "tensorrt_rtx", "openvino")
"""Names that are known and that this version does not run."""

CHOICES = ("auto", *BACKENDS, *NOT_AVAILABLE)
"""Values the `backend` setting takes."""

Check = Callable[[Backend], None]


def probe(name: str) -> str | None:
    """Why a backend cannot be used here, or None when nothing speaks against it; loads no model.

    Raises:
        BackendError: not a backend's name.
    """
    if name in NOT_AVAILABLE:
        return f"{name}: not available in this version"
    if name not in BACKENDS:
        msg = f"backend: expected one of {', '.join(CHOICES)}, got {name!r}"
        raise BackendError(msg)
    if importlib.util.find_spec(name) is None:
        return f"{name}: the Python package is not installed; `pip install {name}`"
    return None


def choose(
    folder: Path, manifest: Manifest, backend: str, threads: int | None, check: Check
) -> tuple[Backend, tuple[str, ...]]:
    """Build a backend for a model.

    Args:
        folder: the model folder.
        manifest: its manifest.
        backend: one of `CHOICES`.
        threads: threads of one operator; None = the cores this process may use.
        check: raises SelfCheckError when the built backend does not give the model's reference outputs.

    Returns:
        The backend, and for every one that was passed over its name and the reason.

    Raises:
        BackendError: the named backend does not work, or none does; the message holds every reason.
        SelfCheckError: the named backend does not give the model's reference outputs.
        ModelFileError: a file of the model is missing or damaged.
    """
    if backend != "auto":
        reason = probe(backend)
        if reason is not None:
            msg = f"{reason}; expected one of auto, {', '.join(BACKENDS)}"
            raise BackendError(msg)
        return _build(backend, folder, manifest, threads, check), ()
    rejected = [reason for name in NOT_AVAILABLE if (reason := probe(name)) is not None]
    for name in BACKENDS:
        reason = probe(name)
        if reason is not None:
            rejected.append(reason)
            continue
        try:
            return _build(name, folder, manifest, threads, check), tuple(rejected)
        except (
            BackendError,
            SelfCheckError,
        ) as error:  # a damaged file is no backend's fault and ends the search
            rejected.append(f"{name}: {error}")
    msg = "no backend runs this model: " + "; ".join(rejected)
    raise BackendError(msg)


def _build(name: str, folder: Path, manifest: Manifest, threads: int | None, check: Check) -> Backend:
    built = BACKENDS[name](folder, manifest, threads)
    check(built)
    return built
