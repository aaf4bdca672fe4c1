"""How often a sensor speaks, and how many of its words are missing.

period = median of the last `INTERVALS` intervals: one long pause does not move it, and a real change of rate
takes it over after half of them. An interval d against a known period p (at least `KNOWN` intervals) misses
round(d / p) - 1 frames, which is 0 up to d = 1.5 p, so jitter of half a period counts nothing.
"""

from __future__ import annotations

from collections import deque
from statistics import median

INTERVALS = 8
KNOWN = 3


class Cadence:
    """Period and missing frames from a row of times, ns of any clock. Not thread-safe."""

    def __init__(self) -> None:
        self._intervals: deque[int] = deque(maxlen=INTERVALS)
        self._last_ns: int | None = None
        self.missed = 0
        """Frames missing so far."""

    @property
    def period_ns(self) -> int | None:
        """Median interval, ns; None before the second time."""
        return round(median(self._intervals)) if self._intervals else None

    @property
    def known(self) -> bool:
        """Whether there are intervals enough for the period to be no accident."""
        return len(self._intervals) >= KNOWN

    def add(self, time_ns: int) -> None:
        """Take in the next time; one that is not later than the last starts the row anew."""
        last, self._last_ns = self._last_ns, time_ns
        if last is None or time_ns <= last:
            return
        interval, period = time_ns - last, self.period_ns
        if period and self.known:
            self.missed += max(0, (2 * interval + period) // (2 * period) - 1)
        self._intervals.append(interval)

    def restart(self) -> None:
        """The next time opens a new row: the step to it is no interval. The period stays."""
        self._last_ns = None
