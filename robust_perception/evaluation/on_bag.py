"""A model measured on a bag: the report of `evaluate`, and what happened when."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from robust_perception.engine.ahead import Ahead
from robust_perception.engine.engine import Engine
from robust_perception.evaluation.bag_source import BagSource
from robust_perception.evaluation.course import Course, Sink, follow
from robust_perception.evaluation.errors import EvaluationError
from robust_perception.evaluation.playback import Playback, Played, in_words
from robust_perception.evaluation.report import Report, to_text, without_nan
from robust_perception.faults.script import FaultScript
from robust_perception.runtime.pacing import RATE_HZ
from robust_perception.vocabulary import Pattern


@dataclass(frozen=True)
class BagReport:
    """The result.

    Attributes:
        report: as for a data folder; `frames` counts outputs.
        courses: one a pass: by the sensors that were switched on.
    """

    report: Report
    courses: Mapping[Pattern, Course]

    def to_json(self) -> dict[str, Any]:
        """Plain values without NaN."""
        passes = {
            str(pattern): {
                "seconds": course.seconds,
                "outputs": len(course.points),
                "losses": course.losses_json(),
                "refused": dict(course.refused),
                "failures": list(course.failures),
                "over_time": course.over_time(),
            }
            for pattern, course in self.courses.items()
        }
        plain: dict[str, Any] = without_nan({**self.report.to_json(), "passes": passes})
        return plain

    def to_text(self) -> str:
        """The JSON file's content."""
        return to_text(self.to_json())

    def table(self) -> str:
        """For people: the table of the report, then the losses."""
        lines = [self.report.table()]
        for pattern, course in self.courses.items():
            played = f"{course.seconds:.1f} s of the bag, {len(course.points)} outputs"
            lines.append(f"\n{pattern}: {played}, {len(course.losses)} losses of sensors")
            for loss in course.losses_json():
                degrade, recover = loss["degrade_ms"], loss["recover_ms"]
                gone = "nobody left" if degrade is None else f"output without it after {_ms(degrade)}"
                back = "not back" if recover is None else f"back {_ms(recover)} after its first frame"
                back = "silent to the end" if loss["first_s"] is None else back
                lines.append(f"  {loss['last_s']:8.2f} s  {loss['sensor']:<8} {gone}, {back}")
            lines += [f"  {count} x {text}" for text, count in course.refused.items()]
            lines += [f"  {text}" for text in course.failures]
        played_s = sum(course.seconds for course in self.courses.values())
        took_s = max(self.report.seconds, 1e-9)
        lines.append(
            f"\n{played_s:.1f} s in {took_s:.1f} s, {played_s / took_s:.1f} times as fast as recorded"
        )
        return "\n".join(lines)


def evaluate_bag(
    engine: Engine,
    source: BagSource,
    patterns: Sequence[Pattern] = (),
    *,
    ahead: Ahead | None = None,
    script: FaultScript | None = None,
    rate_hz: float = RATE_HZ,
    head: Mapping[str, Any] | None = None,
    label_maps: Callable[[Pattern, str, Any], None] | None = None,
    progress: Callable[[float], None] | None = None,
) -> BagReport:
    """Measure a model on a bag.

    Args:
        engine: the loaded model.
        source: the bag, opened with this model's sensors and class names.
        patterns: one pass each, with only these sensors switched on, in which only outputs of exactly this
            pattern count; empty = one pass with all, as the live graph would have had it.
        ahead: of the engine, to perceive several outputs at a time.
        script: faults on the way.
        rate_hz: most outputs a second.
        head: what the report begins with.
        label_maps: called with pattern, stamp of the reference frame as text, and label map.
        progress: told the seconds that have been played of a pass.

    Raises:
        EvaluationError: a wanted pattern needs a sensor that the bag lacks, or there was no output.
        BagError: the bag is damaged, or a sensor whose topic was named gave nothing.
    """
    start = time.perf_counter()
    for pattern in patterns:
        if not set(pattern) <= set(source.modalities):
            there = ", ".join(m.value for m in source.modalities)
            msg = f"pattern {pattern}: expected sensors that model and bag both have ({there})"
            raise EvaluationError(msg)
    courses: dict[Pattern, Course] = {}
    for wanted in patterns or (None,):
        playback = Playback(ahead or engine, source, script or FaultScript(), rate_hz=rate_hz, sensors=wanted)
        courses[wanted or Pattern.of(source.modalities)] = follow(
            engine,
            playback,
            engine.manifest.class_names,
            oldest_s=max(1.0, 3.0 * max(source.periods_s.values(), default=0.0)),
            exactly=wanted,
            by_pattern=True,
            sink=None if label_maps is None else _sink(label_maps),
            progress=progress,
        )
        source.check_named(playback.arrived, playback.refused)
    results = [result for course in courses.values() for result in course.by_pattern]
    outputs = sum(len(course.points) for course in courses.values())
    if not outputs:
        said = [text for course in courses.values() for text in (*course.refused, *in_words(course.absent))]
        why = "; ".join(dict.fromkeys(said))
        under = "" if script is None else script.in_words
        msg = f"{source.path}: expected an output{under}, got none{why and f': {why}'}"
        raise EvaluationError(msg)
    report = Report(head or {}, outputs, results, time.perf_counter() - start)
    return BagReport(report, courses)


def _sink(label_maps: Callable[[Pattern, str, Any], None]) -> Sink:
    def take(played: Played, truth: object, quality: float) -> None:
        del truth, quality
        perception = played.perception
        label_maps(played.pattern, str(perception.frame_set.stamp_ns), perception.label_map)

    return take


def _ms(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.0f} ms"
