"""Every sensor lost and regained, then all of them: the course of quality, and how long each change took."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from robust_perception.bags.truth import Truth
from robust_perception.engine.ahead import Ahead
from robust_perception.engine.engine import Engine
from robust_perception.evaluation.course import degraded, follow, recovered
from robust_perception.evaluation.playback import Playback, Played
from robust_perception.evaluation.stream import Source
from robust_perception.faults.kinds import Fault
from robust_perception.faults.script import FaultScript
from robust_perception.runtime.pacing import Infers
from robust_perception.vocabulary import Modality

SETTLE_S = 2.5
"""Before the first loss; with the times below, losses of a slide show fall between its cuts."""
LOST_S = 1.6
"""How long a sensor is lost, at its usual timeout."""
BACK_S = 1.4
"""Pause between two losses."""
LOST_TIMEOUTS = 1.2
"""Timeouts that a loss of a slow sensor takes, or nobody would notice it; the pause after it takes one."""

Sink = Callable[[Played, Truth | None, float], None]


def losses_script(
    sensors: Sequence[Modality], seconds: float, timeouts: Mapping[Modality, float]
) -> FaultScript:
    """Each sensor lost in turn, then all together; only what fits into the seconds."""
    at, faults = SETTLE_S, []
    for group in [*((m,) for m in sensors), tuple(sensors)]:
        timeout_s = max(timeouts[m] for m in group)
        lost_s, back_s = max(LOST_S, LOST_TIMEOUTS * timeout_s), max(BACK_S, timeout_s)
        if at + lost_s + back_s > seconds:
            break
        faults += [Fault(at, at + lost_s, m, "loss") for m in group]
        at += lost_s + back_s
    return FaultScript(faults, name="every sensor lost and regained")


def seconds_of(sensors: int) -> float:
    """Seconds that the whole script takes at usual timeouts."""
    return SETTLE_S + (sensors + 1) * (LOST_S + BACK_S)


def measure(
    engine: Engine, perceives: Infers | Ahead, source: Source, oldest_s: float, sink: Sink
) -> dict[str, Any]:
    """The course as plain values; `sink` takes every output."""
    whole = Playback(perceives, source)
    assert whole.timeouts_s is not None
    script = losses_script(source.modalities, source.seconds, whole.timeouts_s)
    playback = Playback(perceives, source, script)
    course = follow(engine, playback, engine.manifest.class_names, oldest_s=oldest_s, sink=sink)
    clean = follow(engine, whole, engine.manifest.class_names, oldest_s=oldest_s)
    return {
        "seconds": course.seconds,
        "timeouts_ms": {str(m): 1e3 * whole.timeouts_s[m] for m in source.modalities},
        "faults": [{"sensor": str(f.sensor), "at": f.at, "until": f.until} for f in script.faults],
        "losses": course.losses_json(),
        "degrade_ms": degraded(course.losses_json()).slowest_ms,
        "recover_ms": recovered(course.losses_json()).slowest_ms,
        "never_degraded": degraded(course.losses_json()).never,
        "never_recovered": recovered(course.losses_json()).never,
        "recover_frames": max((v.frames_back for v in course.losses if v.frames_back), default=None),
        "points": course.over_time(),
        "without_losses": clean.over_time(),
    }
