"""The simulated rig as a source of frames in real time, on one thread from its making to its end.

OpenGL binds a rig to the thread that made it. Pictures are taken at start + k / rate; a machine too slow for
the rate leaves pictures out and says so, and never lags behind. Sound is taken without a seam: a chunk holds
the samples since the last one, however long that was. A frame that a fault delays is handed on when it is
due, between two pictures.
"""

from __future__ import annotations

import heapq
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple

from robust_perception.faults.script import FaultScript
from robust_perception.simulation.capture import Capture
from robust_perception.simulation.rig import Rig
from robust_perception.vocabulary import AUDIO_RATE, SensorFrame

SECOND = 1_000_000_000


@dataclass(frozen=True)
class FeedConfig:
    """What the rig shows, and how often."""

    seed: int
    """Of the first scene."""
    size: tuple[int, int]
    """Rows, columns of the pictures."""
    rate_hz: float
    """Pictures a second."""
    scene_s: float = 0.0
    """Seconds after which the next scene, of the next seed, begins; 0 stays in the first."""


class Instant(NamedTuple):
    """One instant of the rig before any fault."""

    capture: Capture
    stamp_ns: int
    """Of the pictures."""
    time_s: float
    """Since the feed started: the time of the fault script."""
    intrinsics: tuple[float, float, float, float]
    """fx, fy, cx, cy in pixels."""


class RigFeed:
    """Feeds frames between `start` and `stop`; `close` frees the rig.

    Args:
        config: what to show.
        faults: applied to every frame on its way.
        now_ns: ROS time.
        on_instant: takes the truth of every instant, before its frames.
        on_frame: takes every frame that arrives, with the intrinsics.
        on_slow: told the rate reached when it is less than what was asked, about every 5 s.

    Raises:
        SimulationError: the machine cannot draw, or not at this size.
    """

    def __init__(
        self,
        config: FeedConfig,
        faults: FaultScript,
        now_ns: Callable[[], int],
        on_instant: Callable[[Instant], None],
        on_frame: Callable[[SensorFrame, Instant], None],
        on_slow: Callable[[float], None],
    ) -> None:
        self._config, self._faults, self._now_ns = config, faults, now_ns
        self._on_instant, self._on_frame, self._on_slow = on_instant, on_frame, on_slow
        self._stopping = threading.Event()
        self._running: Future[None] | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rig")
        try:
            self._rig = self._thread.submit(Rig, config.seed, config.size).result()
        except BaseException:
            self._thread.shutdown()
            raise

    def start(self, on_end: Callable[[BaseException], None]) -> None:
        """Begin with the first scene and the start of the fault script; `on_end` is told of an error."""
        self._stopping.clear()
        self._faults.reset()
        self._running = self._thread.submit(self._run)

        def ended(future: Future[None]) -> None:
            error = future.exception()
            if error is not None and not self._stopping.is_set():
                on_end(error)

        self._running.add_done_callback(ended)

    def stop(self) -> None:
        """Pause; waits for the picture in the making."""
        self._stopping.set()
        if self._running is not None:
            self._running.exception()
            self._running = None

    def close(self) -> None:
        """Free the rig."""
        self.stop()
        self._thread.submit(self._rig.close).result()
        self._thread.shutdown()

    def _run(self) -> None:
        config, rig = self._config, self._rig
        rig.reset(config.seed)
        scene, scene_start = 0, 0.0
        samples_end: int | None = None  # of the scene's sound, as far as it was handed on
        order = count()
        late: list[tuple[int, int, SensorFrame, Instant]] = []
        start_ns = time.monotonic_ns()
        counted, counted_ns = 0, start_ns
        tick = 0
        while self._wait(start_ns + round(tick * SECOND / config.rate_hz), late):
            time_s = tick / config.rate_hz
            if config.scene_s and time_s - scene_start >= config.scene_s:
                scene, scene_start, samples_end = scene + 1, time_s, None
                rig.reset(config.seed + scene)
            due_ns = start_ns + round(time_s * SECOND)
            stamp_ns = self._now_ns() - (time.monotonic_ns() - due_ns)
            rig.step(time_s - scene_start)
            # The first chunk of a scene is one period long and reaches back before its start.
            end = round(rig.time * AUDIO_RATE)
            begin = end - round(AUDIO_RATE / config.rate_hz) if samples_end is None else samples_end
            samples_end = end
            capture = rig.capture((end - begin) / AUDIO_RATE, stamp_ns)
            instant = Instant(capture, stamp_ns, time_s, rig.intrinsics)
            self._on_instant(instant)
            for frame in capture.frames.values():
                for delivery in self._faults.apply(frame, time_s):
                    if delivery.delay_s > 0:
                        arrival_ns = due_ns + round(delivery.delay_s * SECOND)
                        heapq.heappush(late, (arrival_ns, next(order), delivery.frame, instant))
                    else:
                        self._on_frame(delivery.frame, instant)
            counted += 1
            elapsed_ns = time.monotonic_ns() - start_ns
            tick = max(tick + 1, math.ceil(elapsed_ns * config.rate_hz / SECOND))
            counted, counted_ns = self._judge(counted, counted_ns)

    def _wait(self, due_ns: int, late: list[tuple[int, int, SensorFrame, Instant]]) -> bool:
        """Hand on delayed frames until it is time for the next picture; False when told to stop."""
        while True:
            now_ns = time.monotonic_ns()
            while late and late[0][0] <= now_ns:
                _, _, frame, instant = heapq.heappop(late)
                self._on_frame(frame, instant)
            until_ns = min(due_ns, late[0][0]) if late else due_ns
            if self._stopping.wait(max(0, until_ns - now_ns) / SECOND):
                return False
            if time.monotonic_ns() >= due_ns:
                return True

    def _judge(self, counted: int, since_ns: int) -> tuple[int, int]:
        now_ns = time.monotonic_ns()
        if now_ns - since_ns < 5 * SECOND:
            return counted, since_ns
        reached = counted * SECOND / (now_ns - since_ns)
        if reached < 0.9 * self._config.rate_hz:
            self._on_slow(reached)
        return 0, now_ns
