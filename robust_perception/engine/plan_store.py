r"""Plans on disk: written whole or not at all, checked before they are used.

    <folder>/<model>/<backend>/<precision>/<graph>.<sm>.plan
                                           <graph>.<sm>.kernels     of TensorRT-RTX, see tensorrt_kernels.py

One place a graph and kind of GPU: what is built anew takes the place of what was there. A file is

    robust_perception plan 1\n
    {"key": {...}, "driver": "...", "built": "...", "sha256": "...", "bytes": n}\n
    the plan

A writer writes to a file of another name, has it on the disk (fsync), and gives it its name, under a lock. A
reader takes nothing for granted: mark, header, key, size and SHA-256 are compared before TensorRT sees a
byte. The checksum finds damage, not malice, and a plan is machine code: a file that others may write is
refused, and one that is neither this user's nor root's.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import hashlib
import json
import os
import re
import stat
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from robust_perception.engine.errors import BackendError
from robust_perception.engine.plan_key import PlanKey

MARK = b"robust_perception plan 1\n"
MAXIMUM_HEADER_BYTES = 1 << 20
MAXIMUM_PLAN_BYTES = 1 << 33

SUFFIX = ".plan"


class PlanError(BackendError):
    """A plan is missing or of no use; what `tensorrt.load` raises ends with the command that makes one."""


@dataclass(frozen=True)
class StoredPlan:
    """A plan as it was found.

    Attributes:
        path: its file.
        key: what it was built for.
        driver: version of the driver it was built under; empty when there was none.
        built: when, ISO 8601.
        content: what TensorRT loads.
    """

    path: Path
    key: PlanKey
    driver: str
    built: str
    content: bytes


def default_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where plans are when nothing else is said: robust_perception/plans in the user's cache folder (XDG).

    Raises:
        BackendError: there is no such folder, as for a service without a home.
    """
    said = environ.get("XDG_CACHE_HOME", "")
    if Path(said).is_absolute():
        return Path(said) / "robust_perception" / "plans"
    try:
        return Path.home() / ".cache" / "robust_perception" / "plans"
    except RuntimeError:
        msg = "folder of plans: expected HOME or XDG_CACHE_HOME to be set, got neither; name a folder"
        raise BackendError(msg) from None


class PlanStore:
    """Plans below one folder.

    Args:
        folder: made when something is stored; None = `default_folder`.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = default_folder() if folder is None else folder

    def path(self, key: PlanKey) -> Path:
        """Where the plan of a key is, or would be."""
        parts = [_plain(part) for part in (key.model, key.backend, key.precision)]
        return self.folder.joinpath(*parts) / f"{_plain(key.graph)}.{_plain(key.compute_capability)}{SUFFIX}"

    def save(self, key: PlanKey, plan: bytes, driver: str) -> Path:
        """Store a plan and return its path; what was there before is there until the new one is whole."""
        header = {
            "key": asdict(key),
            "driver": driver,
            "built": datetime.datetime.now(tz=datetime.timezone.utc).isoformat(timespec="seconds"),
        }
        path = self.path(key)
        write(path, header, plan)
        return path

    def find(self, here: PlanKey, mend: str) -> StoredPlan:
        """The plan that can be used where `here` is wanted.

        Args:
            here: the key as this process would have it.
            mend: what to do without one: a sentence that names the command.

        Raises:
            PlanError: there is none, it cannot be read, was built for something else, or is damaged.
        """
        path = self.path(here)
        try:
            if not path.is_file():
                msg = f"no plan of {here.graph} at {path}{_others(path, here)}. {mend}"
                raise PlanError(msg)
            found = _stored(path)
        except (ValueError, OSError) as error:
            msg = f"{path}: expected a whole plan, got {error}. {mend}"
            raise PlanError(msg) from None
        different = found.key.differences(here)
        if different:
            msg = f"{path} does not fit: {'; '.join(different)}. {mend}"
            raise PlanError(msg)
        return found

    def key_at(self, key: PlanKey) -> PlanKey | None:
        """Key of the whole plan that is where this key's would be; None where `find` would take none."""
        try:
            return _stored(self.path(key)).key
        except (ValueError, OSError):
            return None


def write(path: Path, header: Mapping[str, Any], content: bytes) -> None:
    """Put a checked file in place, atomically; folders it lacks are made, for their owner alone to write.

    Raises:
        OSError: the folder cannot be written, or the disk is full; what was there before is untouched.
    """
    full = {**header, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    _make_folder(path.parent)
    with _locked(path.parent):
        start = f".{path.name}."
        for left in [p for p in path.parent.iterdir() if p.name.startswith(start)]:
            left.unlink()  # of a writer that was killed: a living one would have the lock
        handle, name = tempfile.mkstemp(prefix=start, dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                os.fchmod(file.fileno(), 0o644)
                file.write(MARK + json.dumps(full, sort_keys=True).encode() + b"\n")
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, path)  # noqa: PTH105 - the atomic one is meant
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)  # noqa: PTH108
            raise
        _sync_folder(path.parent)


def read(path: Path, most: int = MAXIMUM_PLAN_BYTES) -> tuple[dict[str, Any], bytes]:
    """Header and content of a checked file.

    Args:
        path: the file.
        most: bytes of content that are read.

    Raises:
        ValueError: it is not whole, larger than that, not such a file, or another user's to write; the
            message says what it is.
        OSError: it cannot be read.
    """
    with open(path, "rb", opener=_at_once) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            msg = "no regular file"
            raise ValueError(msg)
        if status.st_uid not in (0, os.geteuid()):
            msg = f"a file of another user (uid {status.st_uid})"
            raise ValueError(msg)
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            msg = f"a file that others may write (mode {stat.S_IMODE(status.st_mode):o})"
            raise ValueError(msg)
        if file.read(len(MARK)) != MARK:
            msg = "a file that does not begin with this format's mark"
            raise ValueError(msg)
        line = file.readline(MAXIMUM_HEADER_BYTES)
        header = _header(line)
        size, digest = _expect(header, "bytes", int), _expect(header, "sha256", str)
        there = status.st_size - len(MARK) - len(line)
        if not 0 < size <= most or size != there:
            msg = f"{there} bytes where the header says {size}, of at most {most}"
            raise ValueError(msg)
        content = file.read(size + 1)
    if len(content) != size or hashlib.sha256(content).hexdigest() != digest:
        msg = f"content of another SHA-256 than the header's {digest}"
        raise ValueError(msg)
    return header, content


def _stored(path: Path) -> StoredPlan:
    header, content = read(path)
    key = PlanKey.from_json(_expect(header, "key", dict))
    return StoredPlan(path, key, _expect(header, "driver", str), _expect(header, "built", str), content)


def _at_once(path: str, flags: int) -> int:
    """Opens without waiting: a named pipe would hold up its reader until somebody writes."""
    return os.open(path, flags | os.O_NONBLOCK)


def _header(line: bytes) -> dict[str, Any]:
    try:
        header = json.loads(line)
    except (ValueError, RecursionError):
        msg = "a header that is no JSON"
        raise ValueError(msg) from None
    if not line.endswith(b"\n") or not isinstance(header, dict):
        msg = "a header that is cut short or no object"
        raise ValueError(msg)
    return header


def _expect(header: Mapping[str, Any], name: str, kind: type) -> Any:
    value = header.get(name)
    if type(value) is not kind:
        msg = f"a header whose {name!r} is no {kind.__name__}"
        raise ValueError(msg)
    return value


def _others(path: Path, here: PlanKey) -> str:
    """For which other GPUs there is one, in words."""
    start = f"{_plain(here.graph)}."
    files = (p for p in path.parent.glob(f"*{SUFFIX}") if p.is_file())
    names = sorted(p.name for p in files if p.name.startswith(start))
    found = [name.removeprefix(start).removesuffix(SUFFIX) for name in names]
    return f" (only for {', '.join(found)}; this is {here.compute_capability})" if found else ""


def _plain(part: str) -> str:
    """A word as a file name of its own: nothing in it leads out of the folder."""
    return re.sub(r"[^\w.+-]", "_", part).lstrip(".") or "_"


def _make_folder(folder: Path) -> None:
    # One by one: the mode `mkdir` is given counts for the last one alone. Others may read, as they may files.
    for missing in reversed([p for p in (folder, *folder.parents) if not p.exists()]):
        missing.mkdir(0o755, exist_ok=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
