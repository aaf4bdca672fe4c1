"""Graph outputs to label map and boxes of the reference frame's size.

Suppression is class-wise: two boxes of different classes never suppress each other. Boxes come out best score
first; equal scores keep the graph's order (row by row, class by class), so that the same frame always gives
the same list.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

CANDIDATES_PER_DETECTION = 10
"""Suppression sees at most this many times `max_detections` candidates.

Its cost grows with their square, and a threshold set low for an average precision lets thousands through.
"""


@dataclass(frozen=True)
class Detections:
    """Boxes of one frame, best score first.

    Attributes:
        boxes: float32 (n, 4), xyxy in pixels.
        scores: float32 (n,).
        class_ids: int64 (n,), 1..K.
    """

    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    class_ids: npt.NDArray[np.int64]


def detections(
    boxes: npt.NDArray[np.float32],
    scores: npt.NDArray[np.float32],
    score_threshold: float,
    nms_iou: float,
    max_detections: int,
) -> Detections:
    """Threshold, best candidates, class-wise suppression, best survivors.

    Args:
        boxes: float32 (N, 4), xyxy in pixels of the model's size.
        scores: float32 (N, K), score of foreground class j + 1 at [:, j].
        score_threshold: boxes with less are dropped.
        nms_iou: of two boxes of one class that overlap more, the lower score is dropped.
        max_detections: most boxes to keep.

    Returns:
        The boxes that remain; boxes without area or with a value that is not finite never do.
    """
    with np.errstate(invalid="ignore"):
        sides = boxes[:, 2:] - boxes[:, :2]
        sound = np.asarray(np.isfinite(boxes).all(axis=1) & (sides > 0).all(axis=1))
    flat = (scores if sound.all() else np.where(sound[:, None], scores, -np.inf)).ravel()
    chosen = np.flatnonzero(flat >= score_threshold)
    limit = max_detections * CANDIDATES_PER_DETECTION
    if chosen.size > limit:  # only what can be among the best is worth sorting
        candidates = flat[chosen]
        least = np.partition(candidates, candidates.size - limit)[candidates.size - limit]
        chosen = chosen[candidates >= least]
    # Stable on the negated scores: ties stay in the graph's order.
    order = chosen[np.argsort(-flat[chosen], kind="stable")][:limit]
    rows, classes = np.divmod(order, scores.shape[1])
    keep = _survivors(np.concatenate([boxes[rows, :2], sides[rows]], axis=1), classes, nms_iou)
    keep = keep[:max_detections]
    return Detections(
        boxes[rows[keep]].astype(np.float32, copy=False),
        flat[order[keep]].astype(np.float32, copy=False),
        classes[keep] + 1,
    )


def _survivors(
    rectangles: npt.NDArray[np.float32], classes: npt.NDArray[np.int64], nms_iou: float
) -> npt.NDArray[np.int64]:
    """Indices of the rectangles (x, y, width, height), best first, that no better one of their class is like.

    Class by class, which is quicker than all at once, moved apart: the cost grows with the square. OpenCV's
    own `NMSBoxesBatched` does the latter and came with 4.7; robots run the 4.5 and 4.6 of their distribution.
    """
    survivors = [np.zeros(0, dtype=np.int64)]
    for one in np.unique(classes):
        own = np.flatnonzero(classes == one)
        # Ranks instead of scores: OpenCV drops scores equal to its threshold and sorts ties as it likes.
        ranks = np.arange(own.size, 0, -1, dtype=np.float64)
        kept = cv2.dnn.NMSBoxes(rectangles[own].tolist(), ranks.tolist(), 0.0, nms_iou)
        survivors.append(own[np.asarray(kept, dtype=np.int64).reshape(-1)])
    return np.sort(np.concatenate(survivors))


def resize_label_map(label_map: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """A label map at `size` (H, W), nearest neighbour; the same array when it has that size."""
    if label_map.shape == size:
        return label_map
    resized = cv2.resize(label_map, (size[1], size[0]), interpolation=cv2.INTER_NEAREST)
    return resized.astype(np.uint8, copy=False)


def resize_boxes(
    boxes: npt.NDArray[np.float32], source: tuple[int, int], target: tuple[int, int]
) -> npt.NDArray[np.float32]:
    """Boxes in pixels of a picture of size `source` (H, W), in those of size `target`, clipped to it."""
    scale = np.array([target[1] / source[1], target[0] / source[0]] * 2, dtype=np.float32)
    limit = np.array([target[1], target[0]] * 2, dtype=np.float32)
    resized: npt.NDArray[np.float32] = np.clip(boxes * scale, np.float32(0), limit).astype(np.float32)
    return resized
