"""Segmentation: intersection over union out of one confusion matrix of the whole split.

    IoU_c = TP_c / (TP_c + FP_c + FN_c),   foreground mIoU = mean of IoU_c over c in F

with F the foreground classes (index >= 1) that occur in the ground truth or in the prediction of the split. A
class in neither says nothing and is left out; a class that was only predicted has IoU 0 and counts. Pixels
whose ground truth is 255 are ignored; a predicted 255 on a known pixel is a miss. Everything is in percent.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from robust_perception.vocabulary import UNLABELLED, Array

VALUES = 256
"""Of a pixel."""


class ConfusionMatrix:
    """Counts of pixels by true and predicted class, over many frames.

    Args:
        classes: number of classes, background included.

    Attributes:
        counts: int64 (classes, classes + 1): true class by predicted class; the last column counts
            predictions of 255.
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.counts: npt.NDArray[np.int64] = np.zeros((classes, classes + 1), dtype=np.int64)

    def add(self, truth: npt.NDArray[np.uint8], predicted: npt.NDArray[np.uint8]) -> None:
        """Count one frame.

        Args:
            truth: uint8 (H, W), class index, 255 = ignored.
            predicted: uint8 (H, W), class index, 255 = unlabelled.

        Raises:
            ValueError: the shapes differ, or a value is neither a class index nor 255.
        """
        if truth.shape != predicted.shape:
            msg = f"prediction: expected the shape {truth.shape} of the ground truth, got {predicted.shape}"
            raise ValueError(msg)
        # Both values of a pixel as one number: counting those is a single pass over the pixels.
        pairs = truth.astype(np.uint16) * np.uint16(VALUES) + predicted
        found = np.bincount(pairs.ravel(), minlength=VALUES * VALUES).reshape(VALUES, VALUES)
        for name, sums in (("ground truth", found.sum(axis=1)), ("prediction", found.sum(axis=0))):
            wrong = np.flatnonzero(sums[self.classes : UNLABELLED])
            if wrong.size:
                worst = self.classes + wrong[-1]
                msg = f"{name}: expected values below {self.classes} or {UNLABELLED}, got {worst}"
                raise ValueError(msg)
        self.counts[:, :-1] += found[: self.classes, : self.classes]
        self.counts[:, -1] += found[: self.classes, UNLABELLED]

    def join(self, counts: Array) -> None:
        """Add the `counts` of another one, of the same classes; ValueError if they are of others."""
        if counts.shape != self.counts.shape or counts.dtype != self.counts.dtype:
            msg = f"counts: expected int64 {self.counts.shape}, got {counts.dtype} {counts.shape}"
            raise ValueError(msg)
        self.counts += counts.astype(np.int64, copy=False)

    def iou(self) -> npt.NDArray[np.float64]:
        """Percent per class, float64 (classes,); NaN for a class in neither ground truth nor prediction."""
        hits = np.diag(self.counts).astype(np.float64)
        true = self.counts.sum(axis=1)
        predicted = self.counts[:, : self.classes].sum(axis=0)
        union = true + predicted - hits
        result = np.full(self.classes, np.nan)
        np.divide(100.0 * hits, union, out=result, where=union > 0)
        return result

    def foreground_miou(self) -> float:
        """Mean over the foreground classes that occur, in percent; NaN when none does."""
        foreground = self.iou()[1:]
        occurring = foreground[~np.isnan(foreground)]
        return float(occurring.mean()) if occurring.size else float("nan")
