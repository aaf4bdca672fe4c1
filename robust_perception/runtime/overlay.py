"""A picture to look at: what the reference sensor saw, label map and boxes over it, a bar of the sensors."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from robust_perception.vocabulary import MODALITIES, Modality, Perception, SensorFrame

BAR = 18
"""Height of the sensor bar, pixels."""

_ALIVE, _ABSENT, _INK = (46, 160, 67), (120, 38, 38), (255, 255, 255)


def palette(count: int) -> npt.NDArray[np.uint8]:
    """Colours of label values: uint8 (256, 3) RGB; 0 (background) and everything from `count` on is black."""
    colours = np.zeros((256, 3), dtype=np.uint8)
    # Golden-ratio steps in hue keep neighbours apart for any number of classes.
    hues = (np.arange(1, count) * 0.618034 % 1.0 * 180).astype(np.uint8)
    hsv = np.stack([hues, np.full_like(hues, 200), np.full_like(hues, 255)], axis=-1)
    if count > 1:
        colours[1:count] = cv2.cvtColor(hsv[np.newaxis], cv2.COLOR_HSV2RGB)[0]
    return colours


def draw(perception: Perception, class_names: Sequence[str]) -> npt.NDArray[np.uint8]:
    """Draw a perception.

    Returns:
        uint8 (H + BAR, W, 3) RGB; H, W of the label map.
    """
    height, width = perception.label_map.shape
    picture = _background(perception, (height, width))
    colours = palette(len(class_names))
    painted = (perception.label_map > 0) & (perception.label_map < len(class_names))
    blend = cv2.addWeighted(picture, 0.5, colours[perception.label_map], 0.5, 0.0)
    picture[painted] = blend[painted]
    for box, score, class_id in zip(perception.boxes, perception.scores, perception.class_ids, strict=True):
        x1, y1, x2, y2 = (round(float(v)) for v in box)
        colour = tuple(int(v) for v in colours[class_id])
        cv2.rectangle(picture, (x1, y1), (x2, y2), colour, 1)
        name = f"{class_names[class_id]} {score:.2f}"
        cv2.putText(
            picture, name, (x1 + 2, max(y1 - 3, 9)), cv2.FONT_HERSHEY_SIMPLEX, 0.35, _INK, 1, cv2.LINE_AA
        )
    return np.vstack([picture, _bar(perception, width)])


def look(frame: SensorFrame) -> npt.NDArray[np.uint8]:
    """An image frame as colours: rgb as it is; depth near to far and thermal cold to hot by percentiles.

    Returns:
        uint8 (H, W, 3) RGB, a new array.
    """
    if frame.modality is Modality.RGB:
        return np.array(frame.data, dtype=np.uint8)
    values = frame.data.astype(np.float32)
    finite = np.isfinite(values)
    low, high = np.percentile(values[finite], (2, 98)) if finite.any() else (0.0, 1.0)
    scaled = np.clip((values - low) / max(high - low, 1e-6) * 255, 0, 255)
    grey = np.where(finite, scaled, 0).astype(np.uint8)
    colours = cv2.COLORMAP_INFERNO if frame.modality is Modality.THERMAL else cv2.COLORMAP_BONE
    return np.asarray(cv2.cvtColor(cv2.applyColorMap(grey, colours), cv2.COLOR_BGR2RGB), dtype=np.uint8)


def _background(perception: Perception, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    reference = perception.frame_set.frames[perception.frame_set.reference]
    if not reference.modality.is_image:
        return np.zeros((*size, 3), dtype=np.uint8)
    return look(reference)


def _bar(perception: Perception, width: int) -> npt.NDArray[np.uint8]:
    bar = np.zeros((BAR, width, 3), dtype=np.uint8)
    share = width / len(MODALITIES)
    for index, modality in enumerate(MODALITIES):
        alive = modality in perception.frame_set.pattern
        left, right = round(index * share), round((index + 1) * share) - 2
        cv2.rectangle(bar, (left, 0), (right, BAR - 1), _ALIVE if alive else _ABSENT, -1)
        cv2.putText(
            bar, modality.value, (left + 4, BAR - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.38, _INK, 1, cv2.LINE_AA
        )
    return bar
