"""Paired and interleaved timing: every contestant once a round, so that a machine that slows slows all."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

Times = npt.NDArray[np.float64]


def interleave(
    contestants: Mapping[str, Callable[[], object]],
    rounds: int,
    deadline: float,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Times]:
    """Time each contestant once a round, in an order that turns from round to round.

    Args:
        contestants: what is timed, by name; each returns when its work is done.
        rounds: most rounds.
        deadline: by `clock`; no round begins after it, but one is made in any case.
        clock: seconds.

    Returns:
        Milliseconds by name, one a round; the same index is the same round.
    """
    names = list(contestants)
    spent: dict[str, list[float]] = {name: [] for name in names}
    for index in range(rounds):
        if index and clock() > deadline:
            break
        turn = index % len(names)
        for name in names[turn:] + names[:turn]:
            start = clock()
            contestants[name]()
            spent[name].append((clock() - start) * 1e3)
    return {name: np.array(times) for name, times in spent.items()}


def summary(times: Times, base: Times | None = None) -> dict[str, float]:
    """Median ratio to `base` by round where there is one, then percentiles in milliseconds."""
    found = {} if base is None else {"ratio": float(np.median(times / base))}
    return {**found, **{f"p{q}": float(np.percentile(times, q)) for q in (50, 95, 99)}}
