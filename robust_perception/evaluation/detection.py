"""Box detection: COCO's mean average precision, by faster-coco-eval: what pycocotools gives, but quick.

`map50_95` is the mean over IoU thresholds 0.50, 0.55 .. 0.95 and `map50` the value at 0.50, both over the
classes that have a true box in the split, with at most 100 boxes of a class a frame. In percent. A found box
that is no true one at a threshold, and of which nobody can say that it is wrong, does not count there; nor
does one that lies in a crowd of its class, with that part of its area or more. A crowd is never missed.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from robust_perception.coco_boxes import NO_BOXES, Boxes
from robust_perception.vocabulary import Array

Corners = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]

AREAS = (0.0, 1e10)
"""Least and largest area of boxes that are measured: all."""
NO_AREA = -1.0
"""COCO leaves out unmatched boxes whose area is outside of what is measured: this is."""


class Frame(NamedTuple):
    """True and found boxes of one frame, as `DetectionMetric.add` takes them; crowds are among the true."""

    true_boxes: Corners
    true_ids: Ids
    true_crowds: Flags
    boxes: Corners
    class_ids: Ids
    scores: Scores
    unjudged: Flags


class DetectionMetric:
    """Gathers boxes of many frames and computes average precisions over all of them."""

    def __init__(self) -> None:
        self._frames: list[Frame] = []

    def add(
        self,
        true_boxes: Corners,
        true_ids: Ids,
        boxes: Corners,
        class_ids: Ids,
        scores: Scores,
        unjudged: Flags | None = None,
        crowds: Boxes = NO_BOXES,
    ) -> None:
        """Add one frame.

        Args:
            true_boxes: float32 (m, 4), xyxy in pixels.
            true_ids: int64 (m,), class index.
            boxes: float32 (n, 4), xyxy in the same pixels.
            class_ids: int64 (n,), class index.
            scores: float32 (n,).
            unjudged: bool (n,), boxes that are right or nothing, never wrong; None = no such box.
            crowds: things of their classes, and nobody said where each of them is.
        """
        self._frames.append(
            Frame(
                true_boxes=np.concatenate([true_boxes, crowds.corners]),
                true_ids=np.concatenate([true_ids, crowds.class_ids]),
                true_crowds=np.repeat([False, True], [len(true_boxes), len(crowds.corners)]),
                boxes=np.array(boxes),
                class_ids=np.array(class_ids),
                scores=np.array(scores),
                unjudged=np.zeros(len(scores), dtype=bool) if unjudged is None else np.array(unjudged),
            )
        )

    def arrays(self) -> dict[str, Array]:
        """What was gathered: the frames' arrays one after the other, and how long each was."""
        joined = {
            name: np.concatenate([empty, *(getattr(frame, name) for frame in self._frames)])
            for name, empty in _NOTHING._asdict().items()
        }
        counts = [(len(frame.true_boxes), len(frame.boxes)) for frame in self._frames]
        return {**joined, "counts": np.array(counts, dtype=np.int64).reshape(-1, 2)}

    def join(self, arrays: Mapping[str, Array]) -> None:
        """Add the frames of another one's `arrays`, in order; KeyError or ValueError if they are none."""
        true_ends, ends = np.cumsum(arrays["counts"], axis=0)[:-1].T if len(arrays["counts"]) else ((), ())
        columns = [
            np.split(arrays[name], true_ends if name.startswith("true") else ends) for name in Frame._fields
        ]
        if len(arrays["counts"]):
            self._frames += [Frame(*values) for values in zip(*columns, strict=True)]

    def compute(self) -> tuple[float, float]:
        """`(map50, map50_95)` in percent; NaN without any true box.

        Raises:
            ModuleNotFoundError: faster-coco-eval is not installed.
        """
        images, true, found = self._listed()
        if all(box["iscrowd"] for box in true):
            return float("nan"), float("nan")
        if not found:
            return 0.0, 0.0
        # Imported here: only whoever evaluates needs it, and it prints what it does.
        from faster_coco_eval import COCO, COCOeval_faster

        categories = sorted({a["category_id"] for a in true} | {a["category_id"] for a in found})
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO(
                {
                    "info": {},
                    "images": images,
                    "annotations": true,
                    "categories": [{"id": number, "name": str(number)} for number in categories],
                }
            )
            results = truth.loadRes(found)
            flags = np.concatenate([frame.unjudged for frame in self._frames])
            for number in np.flatnonzero(flags).tolist():
                results.anns[number + 1]["area"] = NO_AREA
            evaluation = COCOeval_faster(truth, results, "bbox")
            # Boxes of all sizes, 100 of a class a frame; its own table of twelve numbers takes far longer.
            evaluation.params.areaRng, evaluation.params.areaRngLbl = [list(AREAS)], ["all"]
            evaluation.params.maxDets = [100]
            evaluation.evaluate()
            evaluation.accumulate()
        precision = evaluation.eval["precision"]  # by threshold, recall and class; -1 without a true box
        map50, map50_95 = (float(values[values > -1].mean()) for values in (precision[:1], precision))
        return 100.0 * map50, 100.0 * map50_95

    def _listed(self) -> tuple[list[dict[str, int]], list[dict[str, Any]], list[dict[str, Any]]]:
        """Images, true boxes and found boxes in COCO's form."""
        true: list[dict[str, Any]] = []
        found: list[dict[str, Any]] = []
        for image, frame in enumerate(self._frames, start=1):
            known = zip(
                frame.true_boxes.tolist(), frame.true_ids.tolist(), frame.true_crowds.tolist(), strict=True
            )
            for corners, class_id, crowd in known:
                box = _xywh(corners)
                true.append(
                    {
                        # From 1: COCO's evaluation takes a match with annotation 0 for no match.
                        "id": len(true) + 1,
                        "image_id": image,
                        "category_id": class_id,
                        "bbox": box,
                        "area": box[2] * box[3],
                        "iscrowd": int(crowd),
                    }
                )
            rows = zip(frame.boxes.tolist(), frame.class_ids.tolist(), frame.scores.tolist(), strict=True)
            for corners, class_id, score in rows:
                found.append(
                    {"image_id": image, "category_id": class_id, "bbox": _xywh(corners), "score": score}
                )
        return [{"id": image} for image in range(1, len(self._frames) + 1)], true, found


_NOTHING = Frame(
    np.zeros((0, 4), np.float32),
    np.zeros(0, np.int64),
    np.zeros(0, np.bool_),
    np.zeros((0, 4), np.float32),
    np.zeros(0, np.int64),
    np.zeros(0, np.float32),
    np.zeros(0, np.bool_),
)


def _xywh(corners: list[float]) -> list[float]:
    x1, y1, x2, y2 = corners
    return [x1, y1, x2 - x1, y2 - y1]
