"""The thread that turns frames into outputs, so that a slow model never holds up the arrival of messages.

It looks every `TICK` seconds: the synchronizer's gathering and its timeouts are a matter of time, not only of
arrivals. A change of pattern is put out at once; what only is new waits for its turn. Turns come every

    period = 1 / (rate * (1 + HASTE)),   next = max(next, now - period / 2) + period

so that a camera of just that rate is neither thinned out by its jitter (a turn half a period late does not
delay the next) nor served late for ever: an output that waited for its turn waits less each time.

When a turn has come, frames are encoded one by one as they arrive, with a look between any two. A sensor
that falls silent then waits for one encoder or one fusion at most, and the output without it is a fusion of
what is encoded already: it takes no turn, and newer frames come with the next one.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple, Protocol

from robust_perception.engine.errors import FrameError
from robust_perception.presence import SensorState, SensorStatus, Synchronizer
from robust_perception.vocabulary import (
    MODALITIES,
    FrameSet,
    Modality,
    Pattern,
    Perception,
    Reason,
    SensorFrame,
)

TICK = 0.004
"""Seconds between two looks."""

RATE_HZ = 15.0
"""Most outputs a second where nobody says otherwise."""

HASTE = 0.05
"""How much more often than `rate` turns come."""

HUNG_S = 5.0
"""A model that takes longer than that for one answer hangs."""

REMEMBERED = 200
"""Inference times kept for the percentiles of `/diagnostics`."""


class Situation(NamedTuple):
    """Whether there is output, and what it is made from."""

    pattern: Pattern | None
    """Pattern of the newest output; None when there is none now."""
    reason: str = ""
    """Why there is no output."""
    failing: bool = False
    """Whether that is no sensor's doing but the model's, or that of whoever takes the outputs."""


class Infers(Protocol):
    """The part of an engine that is used here."""

    def encode(self, frames: Sequence[SensorFrame], pattern: Pattern | None) -> bool:
        """Make frames' latents ahead, for a pattern or for all sensors; whether there was something to do."""

    def infer(self, frame_set: FrameSet) -> Perception:
        """Perceive."""


class Output(NamedTuple):
    """A perception, and the sensors when its frames were taken."""

    perception: Perception
    statuses: Mapping[Modality, SensorStatus]


class Pacer:
    """Runs from `start` to `stop`; may be started again.

    Args:
        synchronizer: where frames come from.
        engine: what perceives; called from one thread only.
        now_ns: ROS time.
        publish: takes every output.
        changed: told when the pattern changes, when output ceases, the model failing included, and when it
            comes back.
        failed: told in words when the engine, or publishing, failed; the next frames are tried again.
        rate_hz: most outputs a second.
    """

    def __init__(
        self,
        synchronizer: Synchronizer,
        engine: Infers,
        now_ns: Callable[[], int],
        publish: Callable[[Output], None],
        changed: Callable[[Situation], None],
        failed: Callable[[str], None],
        rate_hz: float,
    ) -> None:
        self.rate_hz = rate_hz
        """May be set at any time."""
        self.outputs = 0
        """Outputs so far."""
        self.totals_ms: deque[float] = deque(maxlen=REMEMBERED)
        """Milliseconds of the last inferences."""
        self.situation = Situation(None, "no sensor is alive")
        """Whether there is output, as last told to `changed`."""
        self._synchronizer, self._engine, self._now_ns = synchronizer, engine, now_ns
        self._publish, self._changed, self._failed = publish, changed, failed
        self._turn_ns: int | None = None
        self._alive: set[Modality] = set()
        self._stopping = threading.Event()
        self._looked_ns = 0
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread."""
        self._stopping = threading.Event()  # its own: one that was left behind stays stopped
        self._looked_ns = time.monotonic_ns()
        self._thread = threading.Thread(
            target=self._run, args=(self._stopping,), name="inference", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop it, waiting for the inference in progress. Not to be called from `publish` or `changed`.

        One that hangs is left behind: a node that does not end is worse.
        """
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(HUNG_S)
            if self._thread.is_alive():
                self._failed(f"the model does not answer within {HUNG_S:g} s: its inference is left behind")
            self._thread = None

    def situation_at(self, steady_ns: int) -> Situation:
        """`situation`, or that the model hangs."""
        waited_s = (steady_ns - self._looked_ns) / 1e9
        if self._thread is None or waited_s <= HUNG_S:
            return self.situation
        return Situation(None, f"the model has not answered for {waited_s:.0f} s", failing=True)

    def prepare(self, steady_ns: int) -> bool:
        """Encode new frames if the next turn has come; whether there were any."""
        if steady_ns < self._due_ns():
            return False
        now_ns = self._now_ns()
        with self._telling("the model"):
            new = self._synchronizer.newest(now_ns, steady_ns)
            # Under the pattern they will be used under: where encoders have adapters, latents that were made
            # under another one are made twice.
            alive = _alive(self._synchronizer.status(now_ns, steady_ns)) if new else None
            return self._engine.encode(new, Pattern.of(alive) if alive else None)

    def step(self, steady_ns: int) -> bool:
        """Look once; whether an output was made. What the thread does, for tests with times of their own."""
        now_ns = self._now_ns()
        statuses = self._synchronizer.status(now_ns, steady_ns)
        alive = _alive(statuses)
        turn = steady_ns >= self._due_ns()
        if not turn and alive == self._alive:
            return False
        self._alive = alive
        if not self._synchronizer.ready(now_ns, steady_ns):
            blocked = self._synchronizer.blocked_reason
            if blocked is not None:  # else nothing is due; that changes nothing
                self._tell(Situation(None, blocked))
            return False
        frame_set = self._synchronizer.reduced(now_ns, steady_ns)
        if frame_set is None:
            frame_set = self._synchronizer.take(now_ns, steady_ns)
            if frame_set is None:
                return False
            if turn:
                self._turn_ns = max(self._due_ns(), steady_ns - self._period_ns // 2)
        with self._telling("the model"):
            perception = self._infer(frame_set, steady_ns)
        if perception is None:
            return False
        self.totals_ms.append(perception.timings_ms.get("total", 0.0))
        with self._telling("publishing"):
            self._publish(Output(perception, statuses))
        self.outputs += 1
        self._tell(Situation(perception.frame_set.pattern))
        return True

    @property
    def _period_ns(self) -> int:
        return round(1e9 / (self.rate_hz * (1 + HASTE)))

    def _due_ns(self) -> int:
        """When the next turn comes, at the rate of now."""
        return 0 if self._turn_ns is None else self._turn_ns + self._period_ns

    def _run(self, stopping: threading.Event) -> None:
        busy = False
        while not stopping.wait(0.0 if busy else TICK):
            self._looked_ns = time.monotonic_ns()
            try:
                busy = self.prepare(time.monotonic_ns())
                self.step(time.monotonic_ns())
            except Exception as error:  # a model that fails on one frame must not end the node
                if not stopping.is_set():
                    self._failed(f"{type(error).__name__}: {error}")

    def _infer(self, frame_set: FrameSet, steady_ns: int) -> Perception | None:
        while True:
            try:
                return self._engine.infer(frame_set)
            except FrameError as error:
                self._synchronizer.reject(error.modality, Reason.BAD_DATA, str(error), steady_ns)
                self._failed(str(error))
                rest = without(frame_set, error.modality)
                if rest is None:
                    self._tell(Situation(None, f"the model takes no frame: {error}", failing=True))
                    return None
                frame_set = rest

    @contextmanager
    def _telling(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._tell(Situation(None, f"{what} fails: {type(error).__name__}: {error}", failing=True))
            raise

    def _tell(self, situation: Situation) -> None:
        if situation != self.situation:
            self.situation = situation
            self._changed(situation)


def _alive(statuses: Mapping[Modality, SensorStatus]) -> set[Modality]:
    return {m for m, status in statuses.items() if status.state is SensorState.ALIVE}


def without(frame_set: FrameSet, modality: Modality) -> FrameSet | None:
    """The frame set without a sensor whose frame the engine refused; None when no sensor is left."""
    frames = {m: frame for m, frame in frame_set.frames.items() if m is not modality}
    if not frames:
        return None
    reference = frame_set.reference if frame_set.reference in frames else None
    return replace(
        frame_set,
        pattern=Pattern.of(frames),
        frames=frames,
        reference=reference or next(m for m in MODALITIES if m in frames),
        header_age_ns={m: age for m, age in frame_set.header_age_ns.items() if m in frames},
        arrival_age_ns={m: age for m, age in frame_set.arrival_age_ns.items() if m in frames},
        absent={**frame_set.absent, modality: Reason.BAD_DATA},
    )
