"""How many threads compute one operator."""

from __future__ import annotations

import os

from robust_perception.engine.errors import BackendError


def thread_count(threads: int | None) -> int:
    """Threads of one operator: as many as asked for, or the cores this process may use.

    Raises:
        BackendError: fewer than one was asked for.
    """
    count = usable_cores() if threads is None else threads
    if count < 1:
        msg = f"threads: expected a positive number or none, got {threads}"
        raise BackendError(msg)
    return count


def usable_cores() -> int:
    """Cores this process may run on, at least one."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1
