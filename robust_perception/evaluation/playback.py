"""A source played through the live graph's presence and engine, with the source's own time as the clock.

It is the loop of the fusion node with other clocks: arrivals are observed at the time at which they arrive,
the pacer looks every `TICK` seconds (looks that can find nothing are left out), and both clocks of presence
are the source's time. Nothing waits, so a recording is played as fast as the machine perceives, and always
with the same result. The machine's own speed is left out: an output comes out at the moment at which its
frames were taken.

What comes next does not depend on what was perceived, only on whether the frames could be used. So the play
goes on while several perceptions are on their way (`engine.ahead`); they come out in their order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from robust_perception.engine.ahead import Ahead
from robust_perception.evaluation.stream import SECOND, Source
from robust_perception.faults.script import FaultScript
from robust_perception.presence import (
    SensorConfig,
    SensorState,
    SensorStatus,
    Synchronizer,
    SynchronizerConfig,
)
from robust_perception.presence.config import timeouts_s
from robust_perception.runtime.errors import MessageError
from robust_perception.runtime.pacing import RATE_HZ, TICK, Infers, Output, Pacer
from robust_perception.vocabulary import FrameSet, Modality, Pattern, Perception, Reason, SensorFrame

_TICK_NS = round(TICK * SECOND)
_FOREVER_NS = 1 << 62


class Played(NamedTuple):
    """An output of the graph.

    Attributes:
        published_ns: source time at which it came out.
        pattern: what it was made from.
        measured_ns: per modality of the pattern, end of the measurement that was used.
        perception: what was perceived.
    """

    published_ns: int
    pattern: Pattern
    measured_ns: Mapping[Modality, int]
    perception: Perception


@dataclass
class Playback:
    """One pass over a source.

    Args:
        engine: what perceives, or perceives ahead.
        source: what is played.
        script: faults on the way.
        lead_s: age of the script at the start of the source.
        rate_hz: most outputs a second.
        sensors: that take part; None = all of the source. The others are switched off.
        timeouts_s: per sensor; None = the graph's own, or three periods of slower sensors.
        settings: fields of every `SensorConfig` that are not to be the graph's own.

    Attributes:
        arrived: per modality, end of the measurement of every frame that arrived, in order.
        refused: messages that could not become frames, by sensor and reason in words.
        failures: what the engine could not perceive, in words.
        absent: the sensors that are not alive at the end, and why.
    """

    engine: Infers | Ahead
    source: Source
    script: FaultScript = field(default_factory=FaultScript)
    lead_s: float = 0.0
    rate_hz: float = RATE_HZ
    sensors: Pattern | None = None
    timeouts_s: Mapping[Modality, float] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    arrived: dict[Modality, list[int]] = field(default_factory=dict, init=False)
    refused: dict[str, int] = field(default_factory=dict, init=False)
    failures: list[str] = field(default_factory=list, init=False)
    absent: dict[Modality, SensorStatus] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        if self.timeouts_s is None:
            self.timeouts_s = timeouts_s(self.source.periods_s)

    def run(self) -> Iterator[Played]:
        """Play; yields every output. Once only."""
        synchronizer = Synchronizer(self._config())
        self.script.reset()
        now_ns = 0
        made: list[Output] = []
        later: _Later | None = None
        if isinstance(self.engine, Ahead):
            perceives: Infers = (later := _Later(self.engine))
        else:
            perceives = self.engine
        waiting: deque[Played] = deque()
        pacer = Pacer(
            synchronizer,
            perceives,
            lambda: now_ns,
            made.append,
            lambda _: None,
            self._failed,
            self.rate_hz,
        )
        arrivals = self.source.arrivals(self.script, self.lead_s)
        pending = next(arrivals, None)
        if pending is None:
            return
        now_ns = pending.time_ns
        last_ns = now_ns
        while pending is not None or now_ns <= last_ns + synchronizer.config.gather_ns + 2 * _TICK_NS:
            while pending is not None and pending.time_ns <= now_ns:
                last_ns = pending.time_ns
                self._observe(synchronizer, pending.frame, last_ns)
                pending = next(arrivals, None)
            if pending is None:
                self.absent = _absent(synchronizer.status(now_ns, now_ns))
            pacer.step(now_ns)
            waiting += [_played(output, now_ns) for output in made]
            made.clear()
            if later is None:
                yield from waiting
                waiting.clear()
            else:
                yield from later.ready(waiting)
            rest_ns = _rest_ns(synchronizer, now_ns)
            if pending is not None:
                rest_ns = min(rest_ns, pending.time_ns - now_ns)
            now_ns += max(1, rest_ns // _TICK_NS) * _TICK_NS
        if later is not None:
            yield from later.ready(waiting, most=0)

    def _observe(self, synchronizer: Synchronizer, frame: SensorFrame | MessageError, time_ns: int) -> None:
        if isinstance(frame, MessageError):
            synchronizer.reject(frame.modality, frame.reason, frame.detail, time_ns)
            self.refused[str(frame)] = self.refused.get(str(frame), 0) + 1
            return
        self.arrived.setdefault(frame.modality, []).append(frame.end_ns)
        synchronizer.observe(frame, time_ns, time_ns)

    def _config(self) -> SynchronizerConfig:
        assert self.timeouts_s is not None
        return SynchronizerConfig(
            tuple(
                SensorConfig(
                    modality,
                    timeout_ns=round(self.timeouts_s[modality] * SECOND),
                    enabled=self.sensors is None or modality in self.sensors,
                    check_header_age=self.source.check_header_age,
                    **self.settings,
                )
                for modality in self.source.modalities
            )
        )

    def _failed(self, text: str) -> None:
        if text not in self.failures:
            self.failures.append(text)


class Taker:
    """Stands where an engine would, and perceives nothing."""

    def encode(self, frames: Sequence[SensorFrame], pattern: Pattern | None) -> bool:
        """Nothing is encoded ahead."""
        del frames, pattern
        return False

    def infer(self, frame_set: FrameSet) -> Perception:
        """The frame set, and nothing about it."""
        none = np.zeros(0, np.float32)
        boxes = np.zeros((0, 4), np.float32)
        return Perception(
            frame_set, np.zeros((0, 0), np.uint8), boxes, none, np.zeros(0, np.int64), none, 0.0
        )


class _Later(Taker):
    """Takes frame sets, and begins to perceive them."""

    def __init__(self, ahead: Ahead) -> None:
        self._ahead = ahead
        self._coming: deque[Future[Perception]] = deque()

    def infer(self, frame_set: FrameSet) -> Perception:
        """Nothing yet about the frames that are used; FrameError as from the engine."""
        coming = self._ahead.begin(frame_set)
        self._coming.append(coming.perception)
        return super().infer(coming.frame_set)

    def ready(self, waiting: deque[Played], most: int | None = None) -> Iterator[Played]:
        """Outputs in their order with what was perceived, until no more than `most` are left on their way."""
        most = self._ahead.most if most is None else most
        while self._coming and (len(self._coming) > most or self._coming[0].done()):
            yield waiting.popleft()._replace(perception=self._coming.popleft().result())


def _absent(statuses: Mapping[Modality, SensorStatus]) -> dict[Modality, SensorStatus]:
    well = (SensorState.ALIVE, SensorState.DISABLED)
    return {m: status for m, status in statuses.items() if status.state not in well}


def in_words(absent: Mapping[Modality, SensorStatus]) -> list[str]:
    """Why sensors of a recording are not alive, and the way out where their clock may be the reason."""
    said = [f"{m}: {status.detail}" for m, status in absent.items()]
    if any(status.reason in (Reason.LATE, Reason.FUTURE_STAMP) for status in absent.values()):
        said.append("stamps of another clock than the recorder's are taken with --no-header-age")
    return said


def _rest_ns(synchronizer: Synchronizer, now_ns: int) -> int:
    """How long nothing can happen unless something arrives: looks until then would find nothing.

    While a frame waits for others, or for its turn, that is not at all; else until the first sensor expires.
    """
    if synchronizer.newest(now_ns, now_ns):
        return 0
    rest_ns = _FOREVER_NS
    timeouts = {sensor.modality: sensor.timeout_ns for sensor in synchronizer.config.sensors}
    for modality, status in synchronizer.status(now_ns, now_ns).items():
        if status.state is SensorState.ALIVE:
            age_ns = max(status.header_age_ns or 0, status.arrival_age_ns or 0)
            rest_ns = min(rest_ns, timeouts[modality] - age_ns)
    return rest_ns


def _played(output: Output, now_ns: int) -> Played:
    frames = output.perception.frame_set.frames
    ends = {modality: frame.end_ns for modality, frame in frames.items()}
    return Played(now_ns, output.perception.frame_set.pattern, ends, output.perception)
