"""A recording: messages from whoever hears them, through a queue of limited size, to the thread that writes.

    put(topic, data, stamp)  ->  queue, at most `queue_bytes`  ->  BagWriter     flushed every second
         executor's thread                                         writer's thread

A message that finds the queue full is dropped and counted: those who hear must not wait for a disk, and
memory must not grow. What was flushed outlives the process, so that a kill loses the last second at most. A
disk that is full, or about to be, ends the recording, and the bag is closed with what is in it.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from rosbags.interfaces import Qos

from robust_perception.bags.definitions import Definition
from robust_perception.bags.errors import BagError
from robust_perception.bags.writer import BagWriter

FLUSH_S = 1.0
"""Between two flushes."""


@dataclass(frozen=True)
class Limits:
    """What a recording may use."""

    queue_bytes: int = 256 << 20
    """Messages that wait to be written."""
    free_bytes: int = 64 << 20
    """Of the disk, to be left free: a full one takes down more than the recorder."""


class Announced(NamedTuple):
    """A topic on its way through the queue."""

    topic: str
    msgtype: str
    profiles: Sequence[Qos]
    definition: Definition


class Waiting(NamedTuple):
    """A message on its way through the queue."""

    topic: str
    msgtype: str
    data: bytes
    stamp_ns: int
    published_ns: int


@dataclass(frozen=True)
class Progress:
    """How a recording stands, and what has happened since the last look.

    Attributes:
        seconds: since it began.
        topics: number of topics.
        messages: taken since it began.
        size: bytes of them.
        dropped: messages for which the queue had no room, since it began, by topic.
        rate_hz: messages a second since the last look.
        bytes_per_s: bytes a second since the last look.
        dropped_now: dropped since the last look, by topic.
        waiting: bytes in the queue.
        files: number of files of the bag.
    """

    seconds: float
    topics: int
    messages: int
    size: int
    dropped: dict[str, int]
    rate_hz: float
    bytes_per_s: float
    dropped_now: dict[str, int]
    waiting: int
    files: int

    def __str__(self) -> str:
        lost = sum(self.dropped.values())
        line = (
            f"{self.seconds:.0f} s  {self.topics} topics  {self.messages} messages  "
            f"{self.size / 1e6:.1f} MB  {self.rate_hz:.1f} Hz  {self.bytes_per_s / 1e6:.1f} MB/s  "
            f"{lost} dropped"
        )
        if self.files > 1:
            line += f"  {self.files} files"
        if self.dropped_now:
            named = ", ".join(f"{topic} {count}" for topic, count in sorted(self.dropped_now.items()))
            line += f"  (now: {named}; the disk is too slow)"
        return line


@dataclass
class _Counts:
    messages: int = 0
    size: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


class Recording:
    """Takes messages from any thread and writes them to a bag on one of its own.

    Args:
        bag: takes what is written; from `start` to `close` it belongs to the recording.
        limits: what the recording may use.
        clock: seconds that go on evenly.
    """

    def __init__(
        self, bag: BagWriter, limits: Limits | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._bag, self._limits, self._clock = bag, limits or Limits(), clock
        self._queue: deque[Announced | Waiting] = deque()
        self._waiting = 0
        self._changed = threading.Condition()
        self._closing = False
        self._total = _Counts()
        self._before = _Counts()
        self._topics = 0
        self._began_s = self._looked_s = self._flushed_s = clock()
        self._thread: threading.Thread | None = None
        self.failure: BagError | None = None
        """What ended the recording before its time."""

    @property
    def path(self) -> Path:
        """Folder of the bag."""
        return self._bag.path

    def start(self, on_failure: Callable[[BagError], None] = lambda _: None) -> None:
        """Begin to write; `on_failure` is told, on the writer's thread, of what ends it before its time."""
        self._thread = threading.Thread(target=self._run, args=(on_failure,), name="bag writer", daemon=True)
        self._thread.start()

    def add_topic(self, topic: str, msgtype: str, profiles: Sequence[Qos], definition: Definition) -> None:
        """Announce a topic; BagWriter.add_topic tells what the words mean."""
        with self._changed:
            self._topics += 1
            self._queue.append(Announced(topic, msgtype, profiles, definition))
            self._changed.notify()

    def put(self, topic: str, msgtype: str, data: bytes, stamp_ns: int, published_ns: int) -> bool:
        """Take a message; False when it is dropped, for the queue is full or the recording has ended."""
        with self._changed:
            ended = self._closing or self.failure is not None
            if ended or self._waiting + len(data) > self._limits.queue_bytes:
                self._total.dropped[topic] += 1
                return False
            self._total.messages += 1
            self._total.size += len(data)
            self._waiting += len(data)
            self._queue.append(Waiting(topic, msgtype, data, stamp_ns, published_ns))
            self._changed.notify()
            return True

    def write(self) -> None:
        """Write what waits, and flush when it is time; called by the recording's thread, or by a test.

        Raises:
            BagError: the disk is full or nearly so, or the system refuses to write.
        """
        while True:
            with self._changed:
                if not self._queue:
                    break
                entry = self._queue.popleft()
            if isinstance(entry, Announced):
                self._bag.add_topic(
                    entry.topic, entry.msgtype, profiles=entry.profiles, definition=entry.definition
                )
                continue
            self._bag.write(*entry)
            # Only now: a message that is being written takes memory like one that waits.
            with self._changed:
                self._waiting -= len(entry.data)
            self._flush_in_time()
        self._flush_in_time()

    def progress(self) -> Progress:
        """How it stands; rates are over the time since the last call."""
        with self._changed:
            now_s, total, before = self._clock(), self._total, self._before
            seconds = max(now_s - self._looked_s, 1e-9)
            progress = Progress(
                seconds=now_s - self._began_s,
                topics=self._topics,
                messages=total.messages,
                size=total.size,
                dropped=dict(total.dropped),
                rate_hz=(total.messages - before.messages) / seconds,
                bytes_per_s=(total.size - before.size) / seconds,
                dropped_now=dict(total.dropped - before.dropped),
                waiting=self._waiting,
                files=self._bag.files,
            )
            self._before = _Counts(total.messages, total.size, Counter(total.dropped))
            self._looked_s = now_s
            return progress

    def close(self) -> None:
        """Write what waits and close the bag.

        Raises:
            BagError: the end could not be written. What ended the recording earlier is in `failure`.
        """
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        elif self.failure is None:
            self.write()
        self._bag.close()

    def _run(self, on_failure: Callable[[BagError], None]) -> None:
        try:
            while True:
                self.write()
                with self._changed:
                    if self._queue:
                        continue
                    if self._closing:
                        return
                    left_s = self._flushed_s + FLUSH_S - self._clock()
                    self._changed.wait(max(left_s, 0.01))
        except Exception as error:  # whatever it is, it has ended the recording, and nobody else would tell
            failure = error if isinstance(error, BagError) else self._ended_by(error)
            with self._changed:
                self.failure = failure
                self._queue.clear()
                self._waiting = 0
            on_failure(failure)

    def _ended_by(self, error: Exception) -> BagError:
        return BagError(f"{self._bag.path}: expected a bag that can be written, got {error!r}: it has ended")

    def _flush_in_time(self) -> None:
        now_s = self._clock()
        if now_s - self._flushed_s < FLUSH_S:
            return
        self._flushed_s = now_s
        self._bag.flush()
        free = shutil.disk_usage(self._bag.path).free
        if free < self._limits.free_bytes:
            self._bag.close()
            msg = (
                f"{self._bag.path}: expected {self._limits.free_bytes / 1e6:.0f} MB to be left free on the "
                f"disk, got {free / 1e6:.0f} MB: the recording has ended, and the bag is closed"
            )
            raise BagError(msg)
