"""Everything a card says, measured: one model, one split of a data folder, and a bag if there is one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from robust_perception.card import latency, loss_course, under_faults
from robust_perception.card.calibration import Calibration
from robust_perception.card.errors import CardError
from robust_perception.card.examples import Examples
from robust_perception.card.memory import RememberingEngine
from robust_perception.card.shapley import shapley
from robust_perception.card.under_faults import Stage
from robust_perception.datasets import FolderDataset
from robust_perception.engine.ahead import Ahead
from robust_perception.engine.engine import Engine
from robust_perception.evaluation.bag_source import BagSource
from robust_perception.evaluation.protocol import evaluate
from robust_perception.evaluation.report import PatternResult, Report, without_nan
from robust_perception.evaluation.stream import Slides
from robust_perception.vocabulary import Modality, Pattern, patterns_of

SCHEMA = 1
SLIDES = 8
"""Samples that are shown for a second each where time matters."""
LEAST_SLIDES = 3
"""With fewer, a sensor that returns would show what it showed when it was lost, and be taken for frozen."""
RATE_HZ = 10.0

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Options:
    """How much is measured.

    Attributes:
        limit: only the first samples of the split; None = all.
        slides: samples in the slide show.
        rounds: inferences a pattern for the latency.
        seed: of the faults.
        sensor: that faults of link and clock hit; None = the one that matters most.
    """

    limit: int | None = None
    slides: int = SLIDES
    rounds: int = 10
    seed: int = 0
    sensor: Modality | None = None


class Measured(NamedTuple):
    """A card: its content as plain values, and its pictures."""

    content: dict[str, Any]
    examples: Examples


def measure(
    ahead: Ahead,
    alone: Engine,
    dataset: FolderDataset,
    bag: BagSource | None,
    options: Options,
    progress: Progress,
) -> Measured:
    """Measure a card.

    Args:
        ahead: perceives whatever has a quality.
        alone: the model as a live graph loads it, for the latency.
        dataset: a split whose class names are the model's, with labels.
        bag: where losses and faults are played; None = samples of the split as a slide show.
        options: how much.
        progress: told the part in words, what is done of it and how much it is.

    Raises:
        CardError: the split has too few frames, no labels, or no sensor of the model, or the bag no truth.
    """
    engine = ahead.engine
    sensors = [m for m in engine.manifest.modalities if m in dataset.modalities]
    if not sensors:
        model = ", ".join(m.value for m in engine.manifest.modalities)
        msg = f"{dataset.folder}: expected a sensor of the model ({model}), got none"
        raise CardError(msg)
    if not dataset.has_labels:
        msg = f"{dataset.folder}: expected label maps in {dataset.folder / 'label'}, got none"
        raise CardError(msg)
    if bag is not None and not bag.has_truth:
        msg = f"{bag.path}: expected /truth topics, got none; `bag from-dataset --labels` writes them"
        raise CardError(msg)
    frames = min(len(dataset), options.limit or len(dataset))
    if bag is None and min(frames, options.slides) < LEAST_SLIDES:
        msg = f"{dataset.folder}: expected {LEAST_SLIDES} frames and slides or more, got {frames} frames"
        raise CardError(f"{msg} and {options.slides} slides")
    patterns = patterns_of(sensors)
    calibration = Calibration()
    report = evaluate(
        engine,
        dataset,
        patterns,
        ahead=ahead,
        limit=options.limit,
        progress=lambda done, count: progress("patterns", done, count),
        perceptions=calibration,
    )
    importance = _importance(report, sensors)
    first = max(sensors, key=lambda m: importance["foreground"][str(m)])
    if options.sensor in sensors:
        first = options.sensor
    count = report.frames
    spread = _spread(count, options.slides)
    timed, still, course = _stages(ahead, dataset, bag, sensors, range(count), spread)
    examples = Examples(engine.manifest, course.source.start_ns)
    losses = loss_course.measure(engine, course.perceives, course.source, course.oldest_s, examples)
    progress("losses", 1, 1)
    faults = under_faults.measure(
        engine,
        under_faults.cases(timed.source.modalities, first),
        timed,
        still,
        options.seed,
        lambda done, of: progress("faults", done, of),
    )
    latencies = latency.measure(alone, [dataset[i] for i in spread], patterns, options.rounds)
    progress("latency", 1, 1)
    content = {
        "schema": SCHEMA,
        "classes": list(dataset.class_names),
        "sensors": [str(m) for m in sensors],
        "frames": count,
        "patterns": {str(r.pattern): _pattern(r) for r in report.results},
        "summary": _summary(report, losses),
        "importance": importance,
        "calibration": {str(p): calibration.to_json(p) for p in patterns},
        "course": losses,
        "faults": faults | {"sensor": str(first), "slides": len(spread), "on_bag": bag is not None},
        "examples": {
            "best": [e.facts for e in examples.best],
            "worst": [e.facts for e in examples.worst],
        },
        "latency": latencies,
    }
    return Measured(without_nan(content), examples)


def _stages(
    ahead: Ahead,
    dataset: FolderDataset,
    bag: BagSource | None,
    sensors: Sequence[Modality],
    indices: Sequence[int],
    spread: Sequence[int],
) -> tuple[Stage, Stage, Stage]:
    """Where faults over time, faults of content, and losses are measured."""
    if bag is not None:
        oldest = max(1.0, 3.0 * max(bag.periods_s.values(), default=0.0))
        on_bag = Stage(bag, ahead, oldest)
        return on_bag, on_bag, on_bag
    memory = RememberingEngine(ahead.engine)
    show = Slides(dataset, spread, RATE_HZ, 1.0, 1, sensors, len(spread))
    repeat = math.ceil((loss_course.seconds_of(len(sensors)) + 1.0) / len(spread))
    long = Slides(dataset, spread, RATE_HZ, 1.0, repeat, sensors, len(spread))
    frames = Slides(dataset, indices, RATE_HZ, 1.0 / RATE_HZ, 1, sensors)
    return Stage(show, memory, 1.2), Stage(frames, ahead, 1.2), Stage(long, memory, 1.2)


def _spread(count: int, wanted: int) -> list[int]:
    """Evenly spread indices, at most `wanted`."""
    return [i * count // min(count, wanted) for i in range(min(count, wanted))]


def _pattern(result: PatternResult) -> dict[str, Any]:
    scene = math.nan if result.scene is None else result.scene.mean_average_precision
    return {**result.to_json(), "scene_map": scene}


def _importance(report: Report, sensors: Sequence[Modality]) -> dict[str, Any]:
    """Shapley values: of all classes together, of each, of boxes and of the scene."""

    def shares(value: Callable[[PatternResult], float]) -> Mapping[str, float] | None:
        values: dict[Pattern, float] = {result.pattern: value(result) for result in report.results}
        try:
            return {str(m): share for m, share in shapley(values, sensors).items()}
        except CardError:
            return None  # the class does not occur, or nobody knows boxes or scenes

    foreground = shares(lambda r: r.foreground_miou)
    if foreground is None:
        missing = [str(r.pattern) for r in report.results if math.isnan(r.foreground_miou)]
        msg = f"expected labelled frames under every pattern, got none under {', '.join(missing)}"
        raise CardError(msg)
    names = list(report.results[0].per_class_iou)[1:]
    classes = {name: shares(partial(_iou_of, name)) for name in names}
    return {
        "foreground": foreground,
        "classes": {name: share for name, share in classes.items() if share is not None},
        "map50": shares(lambda r: r.map50),
        "scene_map": shares(lambda r: math.nan if r.scene is None else r.scene.mean_average_precision),
    }


def _iou_of(name: str, result: PatternResult) -> float:
    return result.per_class_iou[name]


def _summary(report: Report, losses: Mapping[str, Any]) -> dict[str, Any]:
    full, worst = report.results[0], report.worst
    return {
        "full": {"pattern": str(full.pattern), "foreground_miou": full.foreground_miou, "map50": full.map50},
        "mean": report.mean,
        "worst": {
            "pattern": None if worst is None else str(worst.pattern),
            "foreground_miou": None if worst is None else worst.foreground_miou,
        },
        **{name: losses[name] for name in ("degrade_ms", "recover_ms", "never_degraded", "never_recovered")},
    }
