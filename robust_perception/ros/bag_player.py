"""Plays the messages of a bag in time: what is due when, with which stamp, after which fault.

With b the time of reception of the bag's first message, p that of the message and v the speed, a message is
due at start + (p - b) / v, later by the length of all pauses (`bags.playhead`). Its stamp s becomes

    now         S + t - t0 + (s - b) / v     S = ROS time at the start t0, t as if p were b: it happens now
    recorded    s                            for listeners whose clock is that of the recording (`/clock`)

Sound keeps its number of samples, so at another speed only `recorded` leaves no holes in it. Faults happen at
(p - b) seconds of their script, whatever the speed. A replay that begins later in the bag first tells what is
on latched topics before.

Stamps that move are those of headers: of all in a message whose type `bags.types` knows, so that markers,
detections and transforms stay with what they belong to, and of the one that any other message begins with.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from robust_perception.bags.arrivals import SECOND, Alter, Due, arrivals
from robust_perception.bags.playhead import Playhead
from robust_perception.bags.reader import BagReader
from robust_perception.bags.stamps import Move, has_headers_within, restamped, restamped_throughout

CLOCK_PERIOD_NS = 10_000_000
"""Between two looks at the clock of the recording."""

PAUSED_NS = 100_000_000
"""Between two words of a clock that stands still, for listeners that come late."""

HOLE_S = 3600.0
"""Waiting longer for the next message is said, for no clock is known that it would be worth it."""

Stamps = Literal["now", "recorded"]


@dataclass(frozen=True)
class PlayerConfig:
    """How a bag is played."""

    speed: float = 1.0
    """Times as fast as it was recorded; 0 = as fast as the listeners take it."""
    loop: bool = False
    """Begin again at the end."""
    start_s: float = 0.0
    """Begin so many seconds after the bag's first message."""
    paused: bool = False
    """Begin paused."""
    stamps: Stamps = "now"
    """What becomes of header stamps."""


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
        say: told in words of a wait that nobody will want.
        clock: told the time of the recording, about a hundred times a second; None = nobody wants to know.
        latched: topics whose last messages are told at a later start, and how many of each.
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
        say: Callable[[str], None],
        clock: Callable[[int], None] | None = None,
        latched: Mapping[str, int] | None = None,
    ) -> None:
        self._bag, self._topics, self._with_header = bag, topics, frozenset(with_header)
        self._config, self._alter, self._now_ns = config, alter, now_ns
        self._publish, self._say, self._clock, self._latched = publish, say, clock, dict(latched or {})
        self._playhead = Playhead(config.speed, config.paused)
        self._changed = threading.Condition()
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
        with self._changed:
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    @property
    def paused(self) -> bool:
        """Whether it stands still."""
        with self._changed:
            return self._playhead.paused

    def pause(self) -> None:
        """Stand still until `resume`, or for single steps."""
        with self._changed:
            self._playhead.pause(time.monotonic_ns())
            self._changed.notify_all()

    def resume(self) -> None:
        """Go on."""
        with self._changed:
            self._playhead.resume(time.monotonic_ns())
            self._changed.notify_all()

    def step(self) -> bool:
        """While it is paused, play the next message; False when it is not."""
        with self._changed:
            self._changed.notify_all()
            return self._playhead.step()

    def step_set(self, window_s: float) -> bool:
        """While it is paused, play the next message and what comes within a window; False when it is not."""
        with self._changed:
            self._changed.notify_all()
            return self._playhead.step_set(round(window_s * SECOND))

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
        first_ns = round(config.start_s * SECOND)
        with BagReader(self._bag) as reader:
            begin_ns = reader.start_ns
            start_ns, started_ns = time.monotonic_ns(), self._now_ns()
            with self._changed:
                self._playhead.begin(first_ns, start_ns)

            def move(stamp: int) -> int:
                return self._due(stamp - begin_ns) - start_ns + started_ns

            before = {topic: deque[Due](maxlen=most) for topic, most in self._latched.items()}
            at_ns = first_ns
            for due in arrivals(reader.messages(self._topics), begin_ns, self._alter):
                if due.offset_ns < first_ns:
                    if due.topic in before:
                        before[due.topic].append(due)
                    continue
                self._tell(before, move)
                self._warn_of_hole(at_ns, due.offset_ns)
                if not self._wait(due.offset_ns, begin_ns):
                    return False
                self._publish(due.topic, self._moved(due, move))
                at_ns = due.offset_ns
            self._tell(before, move)
        return True

    def _tell(self, before: dict[str, deque[Due]], move: Move) -> None:
        """Publish what was on latched topics before the start, once."""
        for dues in before.values():
            while dues:
                due = dues.popleft()
                self._publish(due.topic, self._moved(due, move))

    def _moved(self, due: Due, move: Move) -> bytes:
        if self._config.stamps == "recorded":
            return due.data
        if has_headers_within(due.msgtype):
            return restamped_throughout(due.data, due.msgtype, move)
        return restamped(due.data, move) if due.msgtype in self._with_header else due.data

    def _warn_of_hole(self, at_ns: int, next_ns: int) -> None:
        hole_s = (next_ns - at_ns) / SECOND
        if self._config.speed and hole_s / self._config.speed > HOLE_S:
            self._say(
                f"{self._bag}: expected messages in a row, got none for {hole_s / 3600:.1f} hours after "
                f"{at_ns / SECOND:.3f} s; start:={next_ns / SECOND:.3f} goes on behind that"
            )

    def _due(self, offset_ns: int) -> int:
        with self._changed:
            return self._playhead.due(offset_ns)

    def _wait(self, offset_ns: int, begin_ns: int) -> bool:
        """Wait until a message is due; False when stopped."""
        while True:
            with self._changed:
                now_ns = time.monotonic_ns()
                left_ns = self._playhead.left(offset_ns, now_ns)
                ready = left_ns is not None and left_ns <= 0
                if ready:
                    self._playhead.arrive(offset_ns, now_ns)
                at_ns = offset_ns if ready else min(self._playhead.position(now_ns), offset_ns)
            if self._stopping.is_set():
                return False
            if self._clock is not None:
                self._clock(begin_ns + at_ns)
            if ready:
                return True
            if left_ns is None:
                step_ns = PAUSED_NS
            else:
                step_ns = left_ns if self._clock is None else min(left_ns, CLOCK_PERIOD_NS)
            with self._changed:
                # What was said between the two locks must not be slept through.
                again = self._playhead.left(offset_ns, time.monotonic_ns())
                if (again is None) == (left_ns is None) and not self._stopping.is_set():
                    self._changed.wait(step_ns / SECOND)
