"""Files of a model folder: graphs, what goes in and comes out, and how each is known to be the one meant.

A file is opened only after its size was compared with the described one, and parsed only after its SHA-256
was. Names of files are plain names inside the folder.
"""

from __future__ import annotations

import builtins
import hashlib
from dataclasses import dataclass
from pathlib import Path

from robust_perception.engine.errors import ManifestError, ModelFileError

MAXIMUM_FILE_BYTES = 1 << 31
"""No file of a model may claim more: ONNX's own limit for one graph."""

LONGEST_NAME = 255
"""Bytes of a file's name that Linux's file systems take."""

MEND = "restore the model folder, or export it again with `robust-perception export`"


@dataclass(frozen=True)
class TensorSpec:
    """Name, element type (numpy's name) and static shape of a graph's input or output."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.name or any(side < 1 for side in self.shape):
            msg = f"tensor {self.name!r}: expected a name and a shape of positive integers, got {self.shape}"
            raise ManifestError(msg)

    def __str__(self) -> str:
        return f"{self.name} {self.dtype}{list(self.shape)}"


@dataclass(frozen=True)
class FileSpec:
    """A file of the model folder, its SHA-256 (hexadecimal) and its size in bytes."""

    file: str
    sha256: str
    bytes: int

    def __post_init__(self) -> None:
        plain = self.file == Path(self.file).name and self.file not in ("", ".", "..")
        if not plain or {"\\", "\0"} & set(self.file) or len(self.file.encode()) > LONGEST_NAME:
            msg = (
                f"expected a plain file name inside the model folder, of at most {LONGEST_NAME} bytes, got "
                f"{self.file!r}"
            )
            raise ManifestError(msg)
        if len(self.sha256) != 64 or not set(self.sha256) <= set("0123456789abcdef"):
            msg = f"{self.file}: expected a SHA-256 of 64 hexadecimal digits, got {self.sha256!r}"
            raise ManifestError(msg)
        if not 0 < self.bytes <= MAXIMUM_FILE_BYTES:
            msg = f"{self.file}: expected a size from 1 to {MAXIMUM_FILE_BYTES} bytes, got {self.bytes}"
            raise ManifestError(msg)

    @classmethod
    def of(cls, path: Path) -> FileSpec:
        """Describe a file that exists."""
        return cls(path.name, hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size)

    def read(self, folder: Path) -> builtins.bytes:
        """The file's content.

        Raises:
            ModelFileError: missing, not to be read, of another size (nothing is read then) or SHA-256.
        """
        path = folder / self.file
        self.check_size(folder)
        try:
            content = path.read_bytes()
        except OSError as error:
            msg = f"{path}: expected a file that can be read, got {error}: {MEND}"
            raise ModelFileError(msg) from None
        digest = hashlib.sha256(content).hexdigest()
        if digest != self.sha256:
            msg = f"{path}: expected sha256 {self.sha256}, got {digest}; damaged or foreign: {MEND}"
            raise ModelFileError(msg)
        return content

    def check_size(self, folder: Path) -> None:
        """Compare the file's size with the manifest's without opening it; ModelFileError when it differs."""
        path = folder / self.file
        if not path.is_file():
            msg = f"{path}: expected a file of {self.bytes} bytes (sha256 {self.sha256}), got none: {MEND}"
            raise ModelFileError(msg)
        size = path.stat().st_size
        if size != self.bytes:
            msg = (
                f"{path}: expected {self.bytes} bytes (sha256 {self.sha256}), got {size} bytes; "
                f"cut short, a placeholder, or foreign: {MEND}"
            )
            raise ModelFileError(msg)


@dataclass(frozen=True)
class GraphSpec(FileSpec):
    """An ONNX file and the tensors that go in and come out, in the graph's order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
