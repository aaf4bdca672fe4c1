"""Whether the model's confidence can be taken at its word, under every pattern.

    ECE = sum over bins b of  n_b / n  |mean confidence of b - mean truth of b|,   ten bins of width 0.1

* Boxes: confidence is the score, truth whether the box overlaps a true one of its class with IoU >= 0.5 (as
  for the published thresholds, from a score of 0.05 on).
* Segmentation: the graph gives one confidence a frame, the mean over pixels of the winning class's
  probability. Truth is the part of the frame's labelled pixels that are right, so every frame is one point.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from robust_perception.datasets import Sample
from robust_perception.engine.postprocess import resize_label_map
from robust_perception.evaluation.thresholds import LEAST_SCORE, Found, add_boxes
from robust_perception.vocabulary import UNLABELLED, Pattern, Perception

BINS = 10


class Calibration:
    """Gathers confidence and truth of many frames by pattern; a sink of `evaluation.protocol.evaluate`."""

    def __init__(self) -> None:
        self._boxes: dict[Pattern, Found] = {}
        self._frames: dict[Pattern, list[tuple[float, float]]] = {}

    def __call__(self, sample: Sample, perception: Perception) -> None:
        """Take in a frame."""
        pattern = perception.frame_set.pattern
        if sample.label is not None:
            size = (sample.label.shape[0], sample.label.shape[1])
            known = sample.label != UNLABELLED
            if known.any():
                right = resize_label_map(perception.label_map, size)[known] == sample.label[known]
                frames = self._frames.setdefault(pattern, [])
                frames.append((perception.confidence, float(right.mean())))
        if sample.boxes is not None:
            said = perception.scores >= LEAST_SCORE
            counted = Perception(
                frame_set=perception.frame_set,
                label_map=perception.label_map,
                boxes=perception.boxes[said],
                scores=perception.scores[said],
                class_ids=perception.class_ids[said],
                scene=perception.scene,
                confidence=perception.confidence,
            )
            add_boxes(self._boxes.setdefault(pattern, Found()), sample, counted)

    def to_json(self, pattern: Pattern) -> dict[str, Any]:
        """Reliability under a pattern: `boxes` and `frames`, each None when nothing is known."""
        found, frames = self._boxes.get(pattern), self._frames.get(pattern)
        return {
            "boxes": None if not found or not found.scores else reliability(found.scores, found.hits),
            "frames": None
            if not frames
            else reliability([c for c, _ in frames], [a for _, a in frames])
            | {"points": [list(pair) for pair in frames]},
        }


def reliability(confidence: Sequence[float], truth: Sequence[float]) -> dict[str, Any]:
    """Bins of a reliability diagram, the ECE, and mean confidence minus mean truth; all from 0 to 1.

    Args:
        confidence: 0 to 1.
        truth: of the same things, 0 to 1.
    """
    said, true = np.asarray(confidence, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    places = np.minimum((said * BINS).astype(int), BINS - 1)
    bins: list[dict[str, float]] = []
    error = 0.0
    for place in range(BINS):
        here = places == place
        count = int(here.sum())
        if not count:
            continue
        mean_said, mean_true = float(said[here].mean()), float(true[here].mean())
        bins.append({"count": count, "confidence": mean_said, "truth": mean_true})
        error += count / said.size * abs(mean_said - mean_true)
    return {"count": int(said.size), "ece": error, "bias": float(said.mean() - true.mean()), "bins": bins}
