"""Plays the messages of a bag in time: what is due when, with which stamp, after which fault.

With b the time of reception of the bag's first message, p that of the message and v the speed, a message is
due at start + (p - b) / v. Its stamp s becomes

    now         S + (s - b) / v      S = ROS time at the start: the recording happens now
    recorded    s                    for listeners whose clock is that of the recording (`/clock`)

Sound keeps its number of samples, so at another speed only `recorded` leaves no holes in it. Faults happen at
(p - b) seconds of their script, whatever the speed.
"""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from robust_perception.bags.arrivals import SECOND, Alter, arrivals
from robust_perception.bags.reader import BagReader

CLOCK_PERIOD_NS = 10_000_000
"""Between two looks at the clock of the recording."""

Stamps = Literal["now", "recorded"]


@dataclass(frozen=True)
class PlayerConfig:
    """How a bag is played."""

    speed: float = 1.0
    """Times as fast as it was recorded."""
    loop: bool = False
    """Begin again at the end."""
    stamps: Stamps = "now"
    """What becomes of header stamps."""


def restamped(data: bytes, move: Callable[[int], int]) -> bytes:
    """A serialized message whose first field is a header, with another stamp; 8 bytes change.

    Args:
        data: CDR: two bytes of encapsulation, the last bit of which says little-endian, two of options, then
            seconds (int32) and nanoseconds (uint32).
        move: old stamp in ns to new stamp in ns.

    Returns:
        The message; unchanged when its stamp is zero, which is none, when it would move beyond what a stamp
        can hold, and when the bytes are too few for a header.
    """
    if len(data) < 12:
        return data
    stamp = struct.Struct("<iI" if data[1] & 1 else ">iI")
    try:
        seconds, nanoseconds = stamp.unpack_from(data, 4)
        before = seconds * SECOND + nanoseconds
        if before == 0:
            return data
        return data[:4] + stamp.pack(*divmod(move(before), SECOND)) + data[12:]
    except struct.error:
        return data


class BagPlayer:
    """Plays between `start` and its end, or `stop`, on a thread of its own.

    Args:
        bag: folder or storage file.
        topics: those that are played.
        with_header: types whose first field is a header.
        config: how.
        alter: applies faults.
        now_ns: ROS time.
        publish: takes topic and bytes when they are due.
        clock: told the time of the recording, about a hundred times a second; None = nobody wants to know.
    """

    def __init__(
        self,
        bag: Path,
        topics: Collection[str],
        with_header: Collection[str],
        config: PlayerConfig,
        alter: Alter,
        now_ns: Callable[[], int],
        publish: Callable[[str, bytes], None],
        clock: Callable[[int], None] | None = None,
    ) -> None:
        self._bag, self._topics, self._with_header = bag, topics, frozenset(with_header)
        self._config, self._alter, self._now_ns = config, alter, now_ns
        self._publish, self._clock = publish, clock
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, ready: Callable[[], bool], on_end: Callable[[BaseException | None], None]) -> None:
        """Begin as soon as `ready`; `on_end` is told of the end or of what went wrong, not of a `stop`."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, args=(ready, on_end), name="player", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop; not to be called from `publish` or `on_end`."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self, ready: Callable[[], bool], on_end: Callable[[BaseException | None], None]) -> None:
        try:
            while not ready():
                if self._stopping.wait(0.02):
                    return
            while self._pass() and self._config.loop:
                pass
        except Exception as error:  # a damaged bag, a publisher that failed: told, not swallowed
            on_end(error)
        else:
            if not self._stopping.is_set():
                on_end(None)

    def _pass(self) -> bool:
        """Play once; False when stopped."""
        config = self._config
        with BagReader(self._bag) as reader:
            begin_ns = reader.start_ns
            start_ns, started_ns = time.monotonic_ns(), self._now_ns()
            for due in arrivals(reader.messages(self._topics), begin_ns, self._alter):
                if not self._wait(start_ns + round(due.offset_ns / config.speed), start_ns, begin_ns):
                    return False
                data = due.data
                if config.stamps == "now" and due.msgtype in self._with_header:
                    data = restamped(
                        data, lambda stamp: started_ns + round((stamp - begin_ns) / config.speed)
                    )
                self._publish(due.topic, data)
        return True

    def _wait(self, due_ns: int, start_ns: int, begin_ns: int) -> bool:
        while True:
            now_ns = time.monotonic_ns()
            if self._clock is not None:
                self._clock(begin_ns + round((min(now_ns, due_ns) - start_ns) * self._config.speed))
            left_ns = due_ns - now_ns
            if left_ns <= 0:
                return not self._stopping.is_set()
            step_ns = left_ns if self._clock is None else min(left_ns, CLOCK_PERIOD_NS)
            if self._stopping.wait(step_ns / SECOND):
                return False
