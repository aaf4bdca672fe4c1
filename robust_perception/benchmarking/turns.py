"""Whose turn it is, and what a turn took.

A machine is slow now and quick then. So all variants do the same thing one right after the other, in every
round, and what is compared are the times of one round:

    ratio of a to b = median over rounds of t_a(round) / t_b(round)

Which variant comes first changes from round to round, because the first finds other things in the processor's
caches than the last.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Clock = Callable[[], float]
"""Seconds that only grow."""

steady: Clock = time.perf_counter

S = TypeVar("S")
T = TypeVar("T")


def order(count: int, turn: int) -> list[int]:
    """Positions 0 .. count-1, beginning with another one every turn."""
    return [(turn + step) % count for step in range(count)]


def timed(clock: Clock, work: Callable[[S], T], given: S) -> tuple[float, T]:
    """Seconds that some work took, and what it gave."""
    start = clock()
    result = work(given)
    return clock() - start, result


def paired_ratio(times: npt.ArrayLike, to: npt.ArrayLike) -> float:
    """Median over rounds of the ratio within a round."""
    return float(np.median(np.asarray(times, np.float64) / np.asarray(to, np.float64)))
