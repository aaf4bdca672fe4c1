"""From which score a box is worth publishing, for each pattern of its own.

    F1(t) = 2 TP(t) / (TP(t) + FP(t) + true boxes)
    threshold = the t with the largest F1 among those with TP(t) >= FP(t)

t is a score that occurred, and boxes of equal scores are published together. A box that is published should
more likely be there than not. Where no t does that, as for sound alone, none is published.

A poorer pattern scores lower: one threshold for all would silence it. A box is true when it overlaps a
true box of its class, not taken yet by a better one, with IoU >= 0.5. One that is not, and of which nobody
can say that it is wrong (`unjudged`), does not count. Measured on validation frames, never on test.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from robust_perception.datasets import Sample
from robust_perception.engine.engine import Engine
from robust_perception.evaluation.protocol import offline_frame_set
from robust_perception.evaluation.tally import in_pixels_of
from robust_perception.evaluation.unjudged import in_crowd, unjudged
from robust_perception.vocabulary import Pattern, Perception

LEAST_SCORE = 0.05
FALLBACK = 0.3
"""Threshold of a pattern of which no frame tells anything: none shows a true box."""
NEVER = 1.0
"""Threshold of a pattern that finds nothing, or whose boxes are more often wrong than right."""
DIGITS = 3
"""Of a threshold; it is rounded down, so that the box it was chosen for is published."""
IOU = 0.5


@dataclass
class Found:
    """Boxes that were found, whether each is true, and how many true ones there are."""

    scores: list[float] = field(default_factory=list)
    hits: list[bool] = field(default_factory=list)
    true_boxes: int = 0


def best_thresholds(
    engine: Engine,
    dataset: Sequence[Sample],
    patterns: Sequence[Pattern],
    frames: Sequence[int],
    known: Callable[[int], npt.NDArray[np.bool_]] | None = None,
) -> dict[Pattern, float]:
    """The threshold of the best F1 by pattern.

    Args:
        engine: the model.
        dataset: validation frames.
        patterns: all that the model serves.
        frames: which to look at; those of which nobody knows the boxes tell nothing.
        known: frame -> which classes somebody has labelled in it, bool (classes,); boxes of others are
            neither right nor wrong. None = all.
    """
    found = {pattern: Found() for pattern in patterns}
    before, engine.score_threshold = engine.score_threshold, LEAST_SCORE
    try:
        for index in frames:
            sample = dataset[index]
            if sample.boxes is None:
                continue
            for pattern, tally in found.items():
                if all(m in sample.frames for m in pattern):
                    perception = engine.infer(offline_frame_set(sample, pattern))
                    add_boxes(tally, sample, perception, None if known is None else known(index))
    finally:
        engine.score_threshold = before
    return {pattern: _best(tally) for pattern, tally in found.items()}


def add_boxes(
    tally: Found, sample: Sample, perception: Perception, known: npt.NDArray[np.bool_] | None = None
) -> None:
    """Match the boxes of one frame, best first, with the true ones of a sample that has boxes."""
    assert sample.boxes is not None and sample.class_ids is not None
    tally.true_boxes += len(sample.boxes)
    free = np.ones(len(sample.boxes), dtype=bool)
    boxes = in_pixels_of(sample.size, perception)
    overlap = iou(boxes, sample.boxes)
    open_question = unjudged(sample, boxes) | in_crowd(sample, boxes, perception.class_ids)
    for i in np.argsort(-perception.scores, kind="stable"):
        if known is not None and not known[perception.class_ids[i]]:
            continue
        candidates = np.where(free & (sample.class_ids == perception.class_ids[i]), overlap[i], 0.0)
        hit = bool(candidates.size) and float(candidates.max()) >= IOU
        if hit:
            free[int(candidates.argmax())] = False
        elif open_question[i]:
            continue
        tally.scores.append(float(perception.scores[i]))
        tally.hits.append(hit)


def _best(tally: Found) -> float:
    if not tally.true_boxes:
        return FALLBACK
    if not tally.scores:
        return NEVER
    order = np.argsort(-np.array(tally.scores), kind="stable")
    scores = np.array(tally.scores)[order]
    hits = np.cumsum(np.array(tally.hits)[order])
    published = np.arange(1, len(hits) + 1)
    able = np.append(scores[1:] != scores[:-1], True) & (2 * hits >= published)
    f1 = np.where(able, 2.0 * hits / (published + tally.true_boxes), 0.0)
    best = int(f1.argmax())
    return math.floor(float(scores[best]) * 10**DIGITS) / 10**DIGITS if f1[best] > 0.0 else NEVER


def iou(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Intersection over union of all pairs: float (n, 4) and (m, 4), xyxy -> float64 (n, m)."""
    first, second = a.astype(np.float64)[:, None], b.astype(np.float64)[None]
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    overlap = np.clip(sides, 0.0, None).prod(axis=-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).prod(axis=-1) for boxes in (first, second)]
    union = areas[0] + areas[1] - overlap
    share: npt.NDArray[np.float64] = np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)
    return share
