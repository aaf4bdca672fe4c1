"""A model under every pattern of its sensors that the data has.

Frames are the outer loop and patterns the inner one: the engine keeps a frame's latents, so that seven
patterns of three sensors cost three encoders and seven fusions a frame. Several of them may be on their way
at a time (`engine.ahead`); they are counted in their order.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from robust_perception.datasets import DatasetError, FolderDataset, Sample
from robust_perception.engine.ahead import Ahead
from robust_perception.engine.engine import Engine
from robust_perception.evaluation.errors import EvaluationError
from robust_perception.evaluation.report import Report
from robust_perception.evaluation.tally import Columns, Tally
from robust_perception.vocabulary import MODALITIES, FrameSet, Pattern, Perception, Reason, patterns_of

SCORE_THRESHOLD = 0.01
"""Boxes below this are not counted.

An average precision integrates over all scores: the model's own threshold, made for publishing, would cut its
curve short.
"""

PerceptionSink = Callable[[Sample, Perception], None]
LabelMapSink = Callable[[Pattern, str, npt.NDArray[np.uint8]], None]
Progress = Callable[[int, int], None]


def offline_frame_set(sample: Sample, pattern: Pattern) -> FrameSet:
    """The frame set a live graph would make of a sample when exactly these sensors are alive.

    All ages are zero; the reference is the first of rgb, depth, thermal, audio that is there.

    Raises:
        EvaluationError: the sample lacks one of them.
    """
    missing = [m.value for m in pattern if m not in sample.frames]
    if missing:
        msg = f"sample {sample.name}: expected frames of {pattern}, got none of {missing}"
        raise EvaluationError(msg)
    return FrameSet(
        pattern=pattern,
        frames={m: sample.frames[m] for m in pattern},
        reference=next(iter(pattern)),
        header_age_ns=dict.fromkeys(pattern, 0),
        arrival_age_ns=dict.fromkeys(pattern, 0),
        absent={m: Reason.DISABLED for m in MODALITIES if m not in pattern},
    )


def open_dataset(root: Path, split: str, class_names: Sequence[str], classes: str = "auto") -> FolderDataset:
    """The split with the labels a model speaks: its class names decide between fine and coarse.

    Args:
        root: the data folder.
        split: the split's name.
        class_names: the model's, background first; they name the labels of a folder without `classes.json`.
        classes: "fine" or "coarse" to insist on one of them, else "auto".

    Raises:
        DatasetError: the folder is not of the layout.
        EvaluationError: the data set's class names are others than the model's; shows both.
    """
    wanted = tuple(class_names)
    if not (root / "classes.json").is_file():
        return FolderDataset(root, split, class_names=wanted)
    seen, refused = {}, {}
    choices = ("fine", "coarse") if classes == "auto" else (classes,)
    for choice in choices:
        try:
            dataset = FolderDataset(root, split, choice)
        except DatasetError as error:
            refused[choice] = error
            continue
        if dataset.class_names == wanted:
            return dataset
        seen[choice] = dataset.class_names
    if choices[0] in refused:  # that it has no coarse classes is no fault: the message below says what it has
        raise refused[choices[0]]
    got = "; ".join(f"{choice} {list(names)}" for choice, names in seen.items())
    msg = f"{root}: expected the model's class names {list(wanted)}, got {got}"
    raise EvaluationError(msg)


def choose_patterns(
    engine: Engine, dataset: FolderDataset, wanted: Sequence[Pattern] = ()
) -> tuple[Pattern, ...]:
    """Every pattern that model and data both have, or those `wanted`.

    Raises:
        EvaluationError: they share no modality, or a wanted pattern needs one that they do not share.
    """
    shared = [m for m in engine.manifest.modalities if m in dataset.modalities]
    model = ", ".join(m.value for m in engine.manifest.modalities)
    data = ", ".join(m.value for m in dataset.modalities)
    if not shared:
        msg = f"expected data with a sensor of the model ({model}), got {data}"
        raise EvaluationError(msg)
    for pattern in wanted:
        if not set(pattern) <= set(shared):
            msg = f"pattern {pattern}: expected sensors that model ({model}) and data ({data}) both have"
            raise EvaluationError(msg)
    return tuple(dict.fromkeys(wanted)) or patterns_of(shared)


def evaluate(
    engine: Engine,
    dataset: FolderDataset,
    patterns: Sequence[Pattern],
    *,
    ahead: Ahead | None = None,
    limit: int | None = None,
    head: dict[str, Any] | None = None,
    progress: Progress | None = None,
    label_maps: LabelMapSink | None = None,
    perceptions: PerceptionSink | None = None,
) -> Report:
    """Measure a model.

    Args:
        engine: the loaded model; its boxes are taken from `SCORE_THRESHOLD` on.
        dataset: a split whose class names are the model's.
        patterns: out of `choose_patterns`.
        ahead: of the engine, to perceive several frame sets at a time.
        limit: only the first frames of the split.
        head: what the report begins with.
        progress: called with frames done and frames in all, after each.
        label_maps: called with pattern, sample name and the label map as the engine gave it.
        perceptions: called with every sample and what was made of it.

    Returns:
        The report; a frame that lacks a sensor of a pattern is not counted under that pattern.
    """
    start = time.perf_counter()
    count = len(dataset) if limit is None else min(limit, len(dataset))
    scene_names = [name for name in engine.manifest.scene_names if name in dataset.scene_names]
    tallies = {pattern: Tally.of(len(dataset.class_names), scene_names) for pattern in patterns}
    columns = Columns.of(scene_names, engine.manifest.scene_names, dataset.scene_names)
    before, engine.score_threshold = engine.score_threshold, SCORE_THRESHOLD
    try:
        for done, (sample, coming) in enumerate(
            _begun(ahead or Ahead(engine, 1), dataset, patterns, count), 1
        ):
            for pattern, future in coming.items():
                perception = future.result()
                if label_maps is not None:
                    label_maps(pattern, sample.name, perception.label_map)
                if perceptions is not None:
                    perceptions(sample, perception)
                tallies[pattern].add(sample, perception, columns)
            if progress is not None:
                progress(done, count)
    finally:
        engine.score_threshold = before
    results = [tally.result(pattern, dataset.class_names) for pattern, tally in tallies.items()]
    return Report(head or {}, count, results, time.perf_counter() - start)


class _Begun(NamedTuple):
    """A sample, and what is on its way of it."""

    sample: Sample
    coming: dict[Pattern, Future[Perception]]


def _begun(ahead: Ahead, dataset: FolderDataset, patterns: Sequence[Pattern], count: int) -> Iterator[_Begun]:
    """Every sample under the patterns that it has; enough are begun to keep `ahead` busy meanwhile."""
    waiting: deque[_Begun] = deque()
    for index in range(count):
        sample = dataset[index]
        there = [pattern for pattern in patterns if all(m in sample.frames for m in pattern)]
        coming = {p: ahead.begin(offline_frame_set(sample, p)).perception for p in there}
        waiting.append(_Begun(sample, coming))
        while (
            waiting and sum(len(begun.coming) for begun in waiting) - len(waiting[0].coming) >= ahead.most - 1
        ):
            yield waiting.popleft()
    yield from waiting
