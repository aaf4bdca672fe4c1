"""What is kept of one bag: its report, and the counts from which many bags are joined without rounding.

A file is a `.npz` of plain arrays: `report`, JSON in UTF-8, and `<pattern>/<name>`, the arrays of each
pattern's tally. It comes into being under its name at once: a run that is cut off leaves whole results.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robust_perception.evaluation.on_bag import BagReport
from robust_perception.evaluation.tally import Tally
from robust_perception.fleet.errors import ResultError
from robust_perception.vocabulary import Array, Pattern

DIGITS = 16
"""Of the key in a file's name; the whole key is in the file."""
BYTES = 80
"""Of a bag's name in a file's name, at its end; a file system has room for 255 in all."""


@dataclass(frozen=True)
class BagResult:
    """What a bag gave.

    Attributes:
        key: see `job`.
        report: of `evaluate --bag`, plain values; `bag_sha256` and the passes among them.
        tallies: pattern -> the arrays of its tally.
    """

    key: str
    report: Mapping[str, Any]
    tallies: Mapping[Pattern, Mapping[str, Array]]

    @classmethod
    def of(cls, key: str, measured: BagReport) -> BagResult:
        """What was measured, with the tallies of all passes."""
        tallies: dict[Pattern, Mapping[str, Array]] = {}
        for course in measured.courses.values():
            for pattern, tally in course.tallies.items():
                tallies[pattern] = joined(tallies[pattern], tally) if pattern in tallies else tally.arrays()
        return cls(key, measured.to_json(), tallies)

    def to_bytes(self) -> bytes:
        """The content of its file."""
        text = json.dumps({"key": self.key, **self.report}, ensure_ascii=False, allow_nan=False)
        arrays: dict[str, Array] = {"report": np.frombuffer(text.encode(), np.uint8)}
        for pattern, tally in self.tallies.items():
            arrays |= {f"{pattern}/{name}": values for name, values in tally.items()}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **arrays)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes, source: str) -> BagResult:
        """Read what `to_bytes` gave; ResultError, naming `source`, when it is something else."""
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            report = json.loads(arrays.pop("report").tobytes())
            tallies: dict[Pattern, dict[str, Array]] = {}
            for name, values in arrays.items():
                pattern, _, inner = name.partition("/")
                tallies.setdefault(Pattern.parse(pattern), {})[inner] = values
            return cls(report.pop("key"), report, tallies)
        except Exception as error:  # parsers of damaged bytes raise whatever they run into
            msg = f"{source}: expected the result of a bag, got {error!r}; it is made anew"
            raise ResultError(msg) from None


def joined(arrays: Mapping[str, Array], tally: Tally) -> dict[str, Array]:
    """The arrays of a tally after those of another one."""
    both = Tally.of(tally.segmentation.classes, tally.scene.names)
    both.join(arrays)
    both.join(tally.arrays())
    return both.arrays()


class Store:
    """A folder of results.

    Args:
        folder: made where it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def known(self) -> dict[str, Path]:
        """Beginning of the key -> file."""
        return {path.stem.rpartition("-")[2]: path for path in sorted(self.folder.glob("*.npz"))}

    def load(self, path: Path) -> BagResult:
        """Read a result; ResultError when it is none."""
        try:
            data = path.read_bytes()
        except OSError as error:
            msg = f"{path}: expected a readable file, got {error}"
            raise ResultError(msg) from None
        return BagResult.from_bytes(data, str(path))

    def save(self, name: str, key: str, data: bytes) -> Path:
        """Write a result under its name at once; OSError on a full disk."""
        safe = "".join(c if c.isalnum() or c in "._" else "_" for c in name)
        safe = safe.encode()[-BYTES:].decode(errors="ignore")  # letters take up to four bytes each
        path = self.folder / f"{safe}-{key[:DIGITS]}.npz"
        part = path.with_suffix(f".{os.getpid()}.part")
        try:
            with part.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        return path
