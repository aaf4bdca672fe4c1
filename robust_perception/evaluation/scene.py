"""Scene classes, several at once: average precision and balanced accuracy of each, in percent.

    AP = sum_i (R_i - R_{i-1}) P_i   over the distinct scores in descending order,

with precision P_i and recall R_i of "score at least s_i": frames of one score enter together, so that their
order cannot matter. Balanced accuracy is the mean of the hit rates on frames with and without the class, at
probability 0.5: it is 50 for whoever always says the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from robust_perception.vocabulary import Array

THRESHOLD = 0.5
"""Probability from which a scene class counts as said."""


@dataclass(frozen=True)
class SceneResult:
    """Percent by scene class name; NaN where no frame of the split has (or all have) the class."""

    average_precision: dict[str, float]
    balanced_accuracy: dict[str, float]

    @property
    def mean_average_precision(self) -> float:
        """Mean over the classes that have a value; NaN when none has."""
        values = [v for v in self.average_precision.values() if not np.isnan(v)]
        return float(np.mean(values)) if values else float("nan")


class SceneMetric:
    """Gathers scene probabilities of many frames.

    Args:
        names: names of the scene classes, in the order of the arrays.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._truth: list[npt.NDArray[np.float32]] = []
        self._probability: list[npt.NDArray[np.float32]] = []

    def add(self, truth: npt.NDArray[np.float32], probability: npt.NDArray[np.float32]) -> None:
        """Add a frame: float32 (k,), 1 = present, and float32 (k,) probabilities; else ValueError."""
        expected = (len(self.names),)
        if truth.shape != expected or probability.shape != expected:
            msg = f"scene: expected two arrays of shape {expected}, got {truth.shape} and {probability.shape}"
            raise ValueError(msg)
        self._truth.append(truth)
        self._probability.append(probability)

    def arrays(self) -> dict[str, Array]:
        """What was gathered: float32 (frames, k) each."""
        empty = np.zeros((0, len(self.names)), np.float32)
        rows = {"truth": self._truth, "probability": self._probability}
        return {name: np.stack(frames) if frames else empty for name, frames in rows.items()}

    def join(self, arrays: Mapping[str, Array]) -> None:
        """Add the frames of another one's `arrays`; KeyError or ValueError if they are none."""
        for truth, probability in zip(arrays["truth"], arrays["probability"], strict=True):
            self.add(truth, probability)

    def compute(self) -> SceneResult | None:
        """The values over all frames; None without any."""
        if not self._truth:
            return None
        truth, probability = np.stack(self._truth) > 0.5, np.stack(self._probability)
        columns = list(zip(self.names, truth.T, probability.T, strict=True))
        return SceneResult(
            {name: average_precision(t, p) for name, t, p in columns},
            {name: balanced_accuracy(t, p >= THRESHOLD) for name, t, p in columns},
        )


def average_precision(truth: npt.NDArray[np.bool_], scores: npt.NDArray[np.float32]) -> float:
    """Area under the step curve of precision over recall, in percent; NaN when nothing is true."""
    positives = int(truth.sum())
    if positives == 0:
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(truth[order])
    last_of_score = np.append(np.flatnonzero(np.diff(scores[order])), scores.size - 1)
    precision = hits[last_of_score] / (last_of_score + 1)
    recall = hits[last_of_score] / positives
    return float(100.0 * np.sum(np.diff(recall, prepend=0.0) * precision))


def balanced_accuracy(truth: npt.NDArray[np.bool_], said: npt.NDArray[np.bool_]) -> float:
    """Mean of the hit rates on true and on untrue frames, in percent; NaN when there is none of a kind."""
    if truth.all() or not truth.any():
        return float("nan")
    return float(50.0 * (np.mean(said[truth]) + np.mean(~said[~truth])))
