"""Box detection: COCO's mean average precision, by pycocotools.

`map50_95` is the mean over IoU thresholds 0.50, 0.55 .. 0.95 and `map50` the value at 0.50, both over the
classes that have a true box in the split, with at most 100 boxes a frame. In percent.
"""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import numpy.typing as npt

Boxes = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]


class DetectionMetric:
    """Gathers boxes of many frames and computes average precisions over all of them."""

    def __init__(self) -> None:
        self._images: list[dict[str, int]] = []
        self._true: list[dict[str, Any]] = []
        self._found: list[dict[str, Any]] = []

    def add(
        self, true_boxes: Boxes, true_ids: Ids, boxes: Boxes, class_ids: Ids, scores: npt.NDArray[np.float32]
    ) -> None:
        """Add one frame.

        Args:
            true_boxes: float32 (m, 4), xyxy in pixels.
            true_ids: int64 (m,), class index.
            boxes: float32 (n, 4), xyxy in the same pixels.
            class_ids: int64 (n,), class index.
            scores: float32 (n,).
        """
        image = len(self._images) + 1
        self._images.append({"id": image})
        for corners, class_id in zip(true_boxes.tolist(), true_ids.tolist(), strict=True):
            box = _xywh(corners)
            # Identifiers from 1: pycocotools takes a match with annotation 0 for no match.
            number = len(self._true) + 1
            area = box[2] * box[3]
            self._true.append(
                {
                    "id": number,
                    "image_id": image,
                    "category_id": class_id,
                    "bbox": box,
                    "area": area,
                    "iscrowd": 0,
                }
            )
        for corners, class_id, score in zip(boxes.tolist(), class_ids.tolist(), scores.tolist(), strict=True):
            self._found.append(
                {"image_id": image, "category_id": class_id, "bbox": _xywh(corners), "score": score}
            )

    def compute(self) -> tuple[float, float]:
        """`(map50, map50_95)` in percent; NaN without any true box.

        Raises:
            ModuleNotFoundError: pycocotools is not installed.
        """
        if not self._true:
            return float("nan"), float("nan")
        if not self._found:
            return 0.0, 0.0
        # Imported here: only whoever evaluates needs it, and it prints what it does.
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        categories = sorted({a["category_id"] for a in self._true} | {a["category_id"] for a in self._found})
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO()
            truth.dataset = {
                "info": {},
                "images": self._images,
                "annotations": self._true,
                "categories": [{"id": number, "name": str(number)} for number in categories],
            }
            truth.createIndex()
            evaluation = COCOeval(truth, truth.loadRes(self._found), "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        return 100.0 * float(evaluation.stats[1]), 100.0 * float(evaluation.stats[0])


def _xywh(corners: list[float]) -> list[float]:
    x1, y1, x2, y2 = corners
    return [x1, y1, x2 - x1, y2 - y1]
