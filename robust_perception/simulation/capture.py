"""One instant of the rig: what the four sensors measured, and the truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from robust_perception.vocabulary import Modality, SensorFrame

MINIMUM_VISIBLE_PIXELS = 30
"""An object of which fewer pixels show gets no box; its pixels stay labelled."""


@dataclass(frozen=True)
class Capture:
    """What the rig gives at one instant.

    Attributes:
        frames: the four sensors, in canonical units.
        label: uint8 (H, W), class index, exact.
        boxes: float32 (n, 4), [x1, y1, x2, y2] in pixels, x2 and y2 exclusive: bounds of what shows of each
            object.
        class_ids: int64 (n,), class index of each box, 1..K.
        scene: float32 (k,), 1 where the scene class of `classes.SCENE_NAMES` is present.
    """

    frames: Mapping[Modality, SensorFrame]
    label: npt.NDArray[np.uint8]
    boxes: npt.NDArray[np.float32]
    class_ids: npt.NDArray[np.int64]
    scene: npt.NDArray[np.float32]


def boxes_of_items(
    items: npt.NDArray[np.int32], class_of_item: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Boxes around what shows of every item that has a class.

    Args:
        items: int32 (H, W), item index per pixel, -1 = nothing.
        class_of_item: uint8 (m,), class index of each item, 0 = background.

    Returns:
        Boxes float32 (n, 4), xyxy with exclusive ends, and class indices int64 (n,), in the order of items.
    """
    wanted = np.where((items >= 0) & (class_of_item[items] > 0), items + 1, 0)
    area = np.bincount(wanted.ravel(), minlength=class_of_item.size + 1)
    boxes, class_ids = [], []
    for item, bounds in enumerate(ndimage.find_objects(wanted)):
        if bounds is None or area[item + 1] < MINIMUM_VISIBLE_PIXELS:
            continue
        rows, columns = bounds
        boxes.append((columns.start, rows.start, columns.stop, rows.stop))
        class_ids.append(int(class_of_item[item]))
    return np.array(boxes, dtype=np.float32).reshape(-1, 4), np.array(class_ids, dtype=np.int64)
