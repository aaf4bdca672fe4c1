"""Found boxes of which nobody can say whether they are wrong: they lie where nobody looked.

True boxes that were taken from a label map say nothing about objects in its unlabelled pixels. As COCO does
with its crowds, a found box that is no true one is left out of the count when at least half of it lies there:

    share = unlabelled area of the box / area of the box, both inside the picture        share >= 1/2

A box that does match a true one counts as any other. In a crowd that somebody listed there are things of its
class, too, and nobody said where: a found box of that class is left out when at least half of it lies in it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from robust_perception.datasets import Sample
from robust_perception.vocabulary import UNLABELLED

LEAST_SHARE = 0.5


def unjudged(sample: Sample, boxes: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Which found boxes cannot be called wrong.

    Args:
        sample: what is known.
        boxes: float32 (n, 4), xyxy in pixels of the sample's label map.

    Returns:
        Bool (n,); all False where somebody listed the true boxes, for then the whole picture was looked at.
    """
    if not sample.boxes_from_label or sample.label is None or not len(boxes):
        return np.zeros(len(boxes), dtype=bool)
    return unlabelled_share(sample.label, boxes) >= LEAST_SHARE


def in_crowd(
    sample: Sample, boxes: npt.NDArray[np.float32], class_ids: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Which found boxes lie in a crowd of their class, as COCO's average precision at an IoU of 1/2 has it.

    Args:
        sample: what is known.
        boxes: float32 (n, 4), xyxy in the pixels of the sample's boxes.
        class_ids: int64 (n,), class index of each.

    Returns:
        Bool (n,).
    """
    crowds = sample.crowds
    first, second = boxes.astype(np.float64)[:, None], crowds.corners.astype(np.float64)[None]
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    shared = np.clip(sides, 0.0, None).prod(axis=-1)
    area = (first[..., 2:] - first[..., :2]).prod(axis=-1)
    inside = (shared >= LEAST_SHARE * area) & (shared > 0)
    inside &= class_ids[:, None] == crowds.class_ids[None]
    found: npt.NDArray[np.bool_] = inside.any(axis=1)
    return found


def unlabelled_share(label: npt.NDArray[np.uint8], boxes: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Share of each box's area inside the picture that is unlabelled.

    Args:
        label: uint8 (H, W), 255 = unlabelled.
        boxes: float32 (n, 4), xyxy in its pixels.

    Returns:
        Float64 (n,), 0 to 1; 0 for a box without an area there.
    """
    height, width = label.shape
    # sums[y, x]: unlabelled pixels above and left of that corner. Between corners the area is bilinear.
    sums = np.zeros((height + 1, width + 1))
    sums[1:, 1:] = np.cumsum(np.cumsum(label == UNLABELLED, axis=0), axis=1)
    corners = np.clip(boxes.astype(np.float64), 0.0, [width, height, width, height])
    x1, y1, x2, y2 = corners.T
    unlabelled = _at(sums, x2, y2) - _at(sums, x1, y2) - _at(sums, x2, y1) + _at(sums, x1, y1)
    area = np.clip(x2 - x1, 0.0, None) * np.clip(y2 - y1, 0.0, None)
    share: npt.NDArray[np.float64] = np.divide(unlabelled, area, out=np.zeros_like(area), where=area > 0)
    return share


def _at(
    sums: npt.NDArray[np.float64], x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Bilinear between the corners."""
    column = np.clip(x.astype(np.int64), 0, sums.shape[1] - 2)
    row = np.clip(y.astype(np.int64), 0, sums.shape[0] - 2)
    right, down = x - column, y - row
    upper = sums[row, column] * (1 - right) + sums[row, column + 1] * right
    lower = sums[row + 1, column] * (1 - right) + sums[row + 1, column + 1] * right
    between: npt.NDArray[np.float64] = upper * (1 - down) + lower * down
    return between
