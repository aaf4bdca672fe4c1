"""Ray, brought up so that a laptop on a strange network is safe with it.

A cluster of its own listens on the loopback interface alone, answers only to whoever has the secret of this
process, has no dashboard, sends no usage statistics, and leaves no folder behind. A cluster that is named is
joined as it is; its own settings hold there. So they do where this process is connected to one already.

Ray reads how it is to listen and whom to trust when it is imported, so it is imported here and not before.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from robust_perception import extras
from robust_perception.fleet.errors import FleetError

OBJECTS_BYTES = 128 << 20
"""Shared memory of a cluster of its own: what passes between processes is a path and a small result."""
LONGEST_FOLDER = 28
"""Ray's sockets lie 76 characters below it, and a socket's path holds 107."""

_SECRET = secrets.token_hex(32)
_ours: set[str] = set()
"""Not empty once Ray has been imported with the settings of a cluster of its own."""


@contextmanager
def cluster(workers: int, address: str | None = None) -> Iterator[Any]:
    """The module `ray`, connected; it is disconnected, or the cluster ended, at the end.

    Args:
        workers: processors of a cluster of its own.
        address: of an existing one, `auto` for the one of this machine; None = one of its own.

    Raises:
        FleetError: Ray is not installed, was imported with other settings, or the cluster does not come up or
            answer.
    """
    imported = sys.modules.get("ray")
    if imported is not None and imported.is_initialized():
        yield imported
        return
    own = address is None
    if own and imported is not None and not _ours:
        msg = (
            "expected to be the first to import Ray, for that is when it reads where it may listen; call "
            "ray.init before, or run this in a process of its own"
        )
        raise FleetError(msg)
    # The second leaves a GPU visible to workers that reserve none.
    settings = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    if own:
        settings |= {
            # Ray's switch for machines without clusters: nodes are known by 127.0.0.1, so all listen there.
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": _SECRET,
        }
    with _environment(settings):
        try:
            import ray
        except ModuleNotFoundError:
            msg = (
                "more than one worker, and clusters, need Ray, which is not installed: "
                f"{extras.install('fleet')}, or use --workers 1"
            )
            raise FleetError(msg) from None
        if own:
            _ours.add("imported")
        folder = _folder() if own else None
        try:
            _connect(ray, workers, address, folder)
            yield ray
        finally:
            ray.shutdown()
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)


def _connect(ray: Any, workers: int, address: str | None, folder: Path | None) -> None:
    try:
        if address is not None:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
            return
        ray.init(
            log_to_driver=False,
            logging_level="ERROR",
            include_dashboard=False,
            num_cpus=workers,
            num_gpus=0,
            object_store_memory=OBJECTS_BYTES,
            _node_ip_address="127.0.0.1",
            _temp_dir=str(folder),
        )
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        what = f"the Ray cluster {address} to answer" if address is not None else "Ray to start"
        msg = f"expected {what}, got {' '.join(str(error).split())}"
        raise FleetError(msg) from None


def _folder() -> Path:
    base = tempfile.gettempdir()
    return Path(tempfile.mkdtemp(prefix="ray", dir=base if len(base) <= LONGEST_FOLDER else "/tmp"))


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for a while."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
