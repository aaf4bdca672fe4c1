"""The node's clock held against the steady clock: has it been reset, has it leapt?

ROS time may do anything: a looping bag or a restarted simulator throws it back, a seek or a clock step throws
it forward. Steady time only grows. Threads read the clocks before they get to call, so two calls may swap by
a few milliseconds; what is below the tolerances is therefore no jump.

    back      now < highest now of this epoch - clock_back
              a new epoch: the stamps of before mean nothing any more
    forward   (now - last now) - (steady - last steady) > clock_leap
              a leap: frames in hand look older than they may be, and the sensor is not to blame
"""

from __future__ import annotations

from typing import NamedTuple


class Instant(NamedTuple):
    """One moment in both clocks."""

    now_ns: int
    """ROS time, ns."""
    steady_ns: int
    """Monotonic time, ns."""
    epoch: int
    """How often ROS time has been thrown back."""
    leaps: int
    """How often ROS time has leapt forward."""


class Timeline:
    """Turns pairs of clock readings into instants. Not thread-safe."""

    def __init__(self, clock_back_ns: int, clock_leap_ns: int) -> None:
        self._back_ns = clock_back_ns
        self._leap_ns = clock_leap_ns
        self._last: Instant | None = None

    def at(self, now_ns: int, steady_ns: int) -> Instant:
        """The instant of these readings, with every jump since the first call counted."""
        last = self._last
        if last is None:
            instant = Instant(now_ns, steady_ns, 0, 0)
        elif steady_ns >= last.steady_ns and now_ns < last.now_ns - self._back_ns:  # not: read earlier
            instant = Instant(now_ns, steady_ns, last.epoch + 1, last.leaps)
        else:
            gain = (now_ns - last.now_ns) - max(0, steady_ns - last.steady_ns)
            instant = Instant(now_ns, steady_ns, last.epoch, last.leaps + (gain > self._leap_ns))
        same = last is not None and instant.epoch == last.epoch
        self._last = instant._replace(
            now_ns=max(now_ns, last.now_ns) if same and last else now_ns,
            steady_ns=max(steady_ns, last.steady_ns) if last else steady_ns,
        )
        return instant
