"""One pass over a source, measured: quality by pattern and over time, losses, what was refused."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from robust_perception.bags.truth import Truth
from robust_perception.datasets import Sample
from robust_perception.engine.engine import Engine
from robust_perception.evaluation.losses import Loss, losses
from robust_perception.evaluation.playback import Playback, Played
from robust_perception.evaluation.protocol import SCORE_THRESHOLD
from robust_perception.evaluation.report import PatternResult
from robust_perception.evaluation.stream import SECOND, TruthNow
from robust_perception.evaluation.tally import Columns, Tally, pixels_of
from robust_perception.presence import SensorStatus
from robust_perception.vocabulary import ALL_PATTERNS, Modality, Pattern

Sink = Callable[[Played, Truth | None, float], None]
"""Takes an output, the truth of its moment, and its own foreground mIoU (NaN where nobody knows)."""


class Point(NamedTuple):
    """An output, in short.

    Attributes:
        time_s: seconds since the start of the source.
        pattern: what it was made from.
        foreground_miou: of this output alone, percent; NaN without a truth.
        confidence: the model's own, 0 to 1.
    """

    time_s: float
    pattern: Pattern
    foreground_miou: float
    confidence: float


@dataclass(frozen=True)
class Course:
    """What a pass gave.

    Attributes:
        overall: all outputs together, whatever they were made from; None when nobody asked.
        by_pattern: by what they were made from, richest first; empty when nobody asked.
        points: outputs in order.
        losses: of sensors, by time.
        start_ns: source time at its start, from which all times of faults, outputs and losses count.
        seconds: of the source.
        refused: why messages could not become frames, and how often.
        failures: what the engine could not perceive.
        absent: the sensors that were not alive at the end, and why.
        tallies: what `by_pattern` was computed from.
    """

    overall: PatternResult | None
    by_pattern: Sequence[PatternResult]
    points: Sequence[Point]
    losses: Sequence[Loss]
    start_ns: int
    seconds: float
    refused: Mapping[str, int]
    failures: Sequence[str]
    absent: Mapping[Modality, SensorStatus] = field(default_factory=dict)
    tallies: Mapping[Pattern, Tally] = field(default_factory=dict)

    def over_time(self) -> list[dict[str, Any]]:
        """The points as plain values."""
        return [
            {
                "time_s": round(point.time_s, 6),
                "pattern": str(point.pattern),
                "foreground_miou": point.foreground_miou,
                "confidence": point.confidence,
            }
            for point in self.points
        ]

    def losses_json(self) -> list[dict[str, Any]]:
        """The losses as plain values: seconds of the source, milliseconds of the graph."""
        return [loss_json(loss, self.start_ns) for loss in self.losses]


def loss_json(loss: Loss, start_ns: int) -> dict[str, Any]:
    """A loss as plain values.

    `first_s` is null when the recording ended first, `degrade_ms` when nobody was left; it is "never" when no
    output did without the sensor.
    """
    return {
        "sensor": str(loss.modality),
        "last_s": (loss.last_ns - start_ns) / SECOND,
        "first_s": None if loss.open else (loss.first_ns - start_ns) / SECOND,
        "degrade_ms": "never" if loss.degraded_ms == math.inf else loss.degraded_ms,
        "recover_ms": loss.back_ms,
        "recover_frames": loss.frames_back,
    }


class Changes(NamedTuple):
    """How the output did without sensors that were lost, or took them in again.

    Attributes:
        slowest_ms: the slowest that came; None when none did.
        never: how many did not come.
        of: how many could have.
    """

    slowest_ms: float | None
    never: int
    of: int


def degraded(rows: Iterable[Mapping[str, Any]]) -> Changes:
    """How the output did without sensors, by the plain values of losses that left somebody."""
    return _changes([row["degrade_ms"] for row in rows if row["degrade_ms"] is not None])


def recovered(rows: Iterable[Mapping[str, Any]]) -> Changes:
    """How the output took in sensors again, by the plain values of losses after which they spoke again."""
    return _changes([row["recover_ms"] for row in rows if row["first_s"] is not None])


def _changes(times: Sequence[float | str | None]) -> Changes:
    came = [time for time in times if isinstance(time, (int, float))]
    return Changes(max(came, default=None), len(times) - len(came), len(times))


def follow(
    engine: Engine,
    playback: Playback,
    class_names: Sequence[str],
    *,
    oldest_s: float = 1.0,
    exactly: Pattern | None = None,
    overall: bool = False,
    by_pattern: bool = False,
    sink: Sink | None = None,
    progress: Callable[[float], None] | None = None,
) -> Course:
    """Play a source and measure.

    Args:
        engine: the one of the playback; its boxes are taken from `SCORE_THRESHOLD` on.
        playback: what is played, and how.
        class_names: the model's.
        oldest_s: an output later than this after the newest truth is held against nothing.
        exactly: outputs made from anything else are not in the results, but in the points.
        overall: whether all outputs are measured together; costs time.
        by_pattern: whether those of each pattern are.
        sink: takes every output.
        progress: told the seconds that have been played.
    """
    source = playback.source
    scene_names = [name for name in engine.manifest.scene_names if name in source.scene_names]
    columns = Columns.of(scene_names, engine.manifest.scene_names, source.scene_names)
    tallies: dict[Pattern, Tally] = {}
    if by_pattern and exactly is not None:  # has its row also when it never comes
        tallies[exactly] = Tally.of(len(class_names), scene_names)
    whole = Tally.of(len(class_names), scene_names)
    points: list[Point] = []
    outputs: list[Played] = []
    truths = TruthNow(source.truths(), oldest_s)
    before, engine.score_threshold = engine.score_threshold, SCORE_THRESHOLD
    try:
        for played in playback.run():
            truth = truths.at(played.published_ns)
            label = None if truth is None else truth.label
            pixels = None if label is None else pixels_of(label, played.perception, len(class_names))
            quality = math.nan if pixels is None else pixels.foreground_miou()
            if exactly is None or played.pattern == exactly:
                sample = _sample(truth)
                if by_pattern:
                    own = tallies.setdefault(played.pattern, Tally.of(len(class_names), scene_names))
                    own.add(sample, played.perception, columns, pixels)
                if overall:
                    whole.add(sample, played.perception, columns, pixels)
            time_s = (played.published_ns - source.start_ns) / SECOND
            points.append(Point(time_s, played.pattern, quality, played.perception.confidence))
            if sink is not None:
                sink(played, truth, quality)
            # Without the pictures: a long bag has many.
            outputs.append(played._replace(perception=None))  # type: ignore[arg-type]
            if progress is not None:
                progress(time_s)
    finally:
        engine.score_threshold = before
        engine.reset()
    assert playback.timeouts_s is not None
    switched_on = source.modalities if playback.sensors is None else playback.sensors
    arrived = {m: ends for m, ends in playback.arrived.items() if m in switched_on}
    end_ns = source.start_ns + round(source.seconds * SECOND)
    return Course(
        overall=whole.result(Pattern.of(source.modalities), class_names) if overall else None,
        by_pattern=[tallies[p].result(p, class_names) for p in ALL_PATTERNS if p in tallies],
        points=points,
        losses=losses(arrived, outputs, playback.timeouts_s, end_ns),
        start_ns=source.start_ns,
        seconds=source.seconds,
        refused=dict(playback.refused),
        failures=tuple(playback.failures),
        absent=playback.absent,
        tallies=tallies,
    )


def _sample(truth: Truth | None) -> Sample:
    if truth is None:
        return Sample("", {}, None, None, None, None)
    known = truth.label, truth.boxes, truth.class_ids, truth.scene, truth.boxes_from_label, truth.crowds
    return Sample(str(truth.stamp_ns), {}, *known)
