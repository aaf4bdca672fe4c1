"""Quality under every kind of fault at three severities.

Every row is a playback through presence and engine, as live. What happens to content (light, noise, damage)
is measured sample by sample: each is shown for one frame. What happens to the link or the clock needs time:
some samples are shown for a second each, and the fault hits one sensor, the one that matters most. On a bag,
both run over the bag.

An output is held against the truth of the moment at which it comes out; moments without an output are counted
apart, as `output_part`. Under a fault that could not act on one of its sensors nothing is known, and `reason`
says why.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from robust_perception.engine.ahead import Ahead
from robust_perception.engine.engine import Engine
from robust_perception.evaluation.course import Course, follow
from robust_perception.evaluation.playback import Playback
from robust_perception.evaluation.stream import Source
from robust_perception.faults.kinds import KINDS
from robust_perception.faults.script import FaultScript
from robust_perception.faults.severities import CYCLE_S, KINDS_MEASURED, SEVERITIES, generated
from robust_perception.runtime.pacing import Infers
from robust_perception.vocabulary import Modality

LEAD_S = 2 * CYCLE_S + 2.15
"""Age of the script at the first frame: what grows has grown, and what repeats begins shortly before a cut of
a slide show, the first time 1.85 s after its start. Within a slide a frozen picture changes nothing.
"""

OVER_TIME = ("freeze", "freeze_stamp", "clock", "shutter")
"""Kinds that change content or stamp, but are about time all the same."""


NOT_MET = "the fault met no frame"


class Case(NamedTuple):
    """A kind of fault on the sensors that it hits together."""

    kind: str
    sensors: tuple[Modality, ...]
    timed: bool


@dataclass(frozen=True)
class Stage:
    """Where faults are measured: a source and what perceives it."""

    source: Source
    perceives: Infers | Ahead
    oldest_s: float


def cases(sensors: Sequence[Modality], most_important: Modality) -> list[Case]:
    """What is measured on these sensors: faults over time first."""
    timed, content = [], []
    for kind in KINDS_MEASURED:
        fits = [m for m in KINDS[kind].sensors if m in sensors]
        if KINDS[kind].nature == "arrival" or kind in OVER_TIME:
            chosen = most_important if most_important in fits else next(iter(fits), None)
            if chosen is not None:
                timed.append(Case(kind, (chosen,), True))
        elif kind == "smoke":  # is in front of all cameras at once
            content += [Case(kind, tuple(fits), False)] if fits else []
        else:
            content += [Case(kind, (m,), False) for m in fits]
    return timed + content


def measure(
    engine: Engine,
    listed: Sequence[Case],
    timed: Stage,
    still: Stage,
    seed: int,
    progress: Callable[[int, int], None],
) -> dict[str, Any]:
    """Quality of every case at every severity, and without any fault.

    Args:
        engine: the loaded model.
        listed: out of `cases`.
        timed: for faults that need time.
        still: for the others.
        seed: of the scripts.
        progress: told runs done and in all.
    """
    total = 2 + len(listed) * len(SEVERITIES)
    clean = {}
    for done, (name, stage) in enumerate((("timed", timed), ("still", still)), start=1):
        clean[name] = _figures(_run(engine, stage, FaultScript()), math.nan, stage.source)
        progress(done, total)
    rows = []
    done = 2
    for case in listed:
        stage, baseline = (timed, clean["timed"]) if case.timed else (still, clean["still"])
        severities = {}
        for severity in SEVERITIES:
            seconds = stage.source.seconds + 60.0
            script = generated(case.kind, severity, case.sensors, LEAD_S + seconds, seed=seed)
            course = _run(engine, stage, script)
            figures = _figures(course, baseline["foreground_miou"], stage.source)
            spared = next((m for m in case.sensors if m not in script.met), None)
            if spared is not None:
                figures |= dict.fromkeys(("foreground_miou", "map50", "points_lost"), math.nan)
                figures["reason"] = f"{spared}: {stage.source.unfit.get(spared, NOT_MET)}"
            severities[severity] = {"keys": _keys(script), **figures}
            done += 1
            progress(done, total)
        rows.append(
            {
                "kind": case.kind,
                "sensors": [str(m) for m in case.sensors],
                "timed": case.timed,
                "severities": severities,
            }
        )
    return {"clean": clean, "rows": rows}


def _run(engine: Engine, stage: Stage, script: FaultScript) -> Course:
    playback = Playback(stage.perceives, stage.source, script, LEAD_S)
    return follow(engine, playback, engine.manifest.class_names, oldest_s=stage.oldest_s, overall=True)


def _figures(course: Course, clean: float, source: Source) -> dict[str, Any]:
    quality = course.overall
    assert quality is not None
    # A moment is a frame of the quickest sensor; an output every one of them is all there can be.
    period = min(source.periods_s.values(), default=math.inf)
    moments = max(1, round(course.seconds / period) + 1)
    return {
        "foreground_miou": quality.foreground_miou,
        "map50": quality.map50,
        "points_lost": clean - quality.foreground_miou,
        "outputs": len(course.points),
        "output_part": min(1.0, len({round(p.time_s / period) for p in course.points}) / moments),
    }


def _keys(script: FaultScript) -> Mapping[str, float]:
    first = script.faults[0]
    if first.values:
        return dict(first.values)
    return {"time": min(1.0, (first.until - first.at) / CYCLE_S)}
