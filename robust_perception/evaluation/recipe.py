"""What a result depends on, so that others get the same: hashes of the inputs, versions of the tools."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
from collections.abc import Iterable
from pathlib import Path

import cv2

from robust_perception import __version__
from robust_perception.bags.view import storage_files
from robust_perception.evaluation.errors import EvaluationError

_PACKAGES = ("numpy", "onnxruntime", "faster-coco-eval")
_BLOCK = 1 << 20


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    found = {"robust_perception": __version__, "python": platform.python_version(), "opencv": cv2.__version__}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def data_sha256(root: Path, split: str) -> str:
    """SHA-256 over the names and the content of a split's files and of `classes.json`.

    Raises:
        EvaluationError: a file cannot be read.
    """
    # As deep as they are read, and as there through folders that are links.
    below = (root / split).glob
    files = [path for path in (*below("*"), *below("*/*")) if path.is_file()]
    classes = root / "classes.json"
    return _sha256(root, [*files, *([classes] if classes.is_file() else [])])


def bag_sha256(path: Path) -> str:
    """SHA-256 over the content of a bag's storage files; their names do not matter, but their order.

    Raises:
        EvaluationError: there is no such file, or one cannot be read.
    """
    files = storage_files(path)
    if not files:
        msg = f"{path}: expected a bag's .mcap or .db3 files, plain or with zstd, got none"
        raise EvaluationError(msg)
    return _sha256(None, files)


def _sha256(root: Path | None, files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(files):
        try:
            if root is not None:
                digest.update(f"{path.relative_to(root).as_posix()} {path.stat().st_size}\n".encode())
            with path.open("rb") as file:
                while block := file.read(_BLOCK):
                    digest.update(block)
        except OSError as error:
            msg = f"{path}: expected a readable file, got {error}"
            raise EvaluationError(msg) from None
    return digest.hexdigest()
