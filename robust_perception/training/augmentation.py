"""One training crop out of one sample: the same geometry for every sensor, changes of its own for each.

Geometry is one affine map from crop to frame: zoom z, mirror, a place that contains an object's centre or
lies anywhere inside the frame. Colour, temperature and label are sampled as their kinds allow: rgb and
thermal linearly, depth and label at the nearest pixel, so that no distance and no class is invented at an
edge. Where a crop leaves the frame, depth is NaN, the label 255, and rgb and thermal repeat the border.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from robust_perception.datasets import Sample
from robust_perception.preprocess import prepare
from robust_perception.training.blinding import blinded
from robust_perception.training.config import AugmentationConfig
from robust_perception.vocabulary import UNLABELLED, Modality

LEAST_VISIBLE = 0.35
"""A box of which a crop shows less than this part is no object there."""
LEAST_SIDE = 4.0
"""A box with a shorter side, pixels, is no object either."""

Image = npt.NDArray[Any]


@dataclass(frozen=True)
class Crop:
    """A training sample, ready to be stacked.

    Attributes:
        inputs: raw network inputs without batch axis, of the sensors the sample has.
        label: uint8 (h, w), 255 = unlabelled.
        boxes: float32 (n, 4), xyxy in pixels of the crop.
        class_ids: int64 (n,), 1..K.
        boxes_known: whether the sample's boxes are known at all.
        scene: float32 (S,), NaN where unknown, or None when nobody knows any.
        boxes_from_label: whether they are known only where the label is.
        crowded: bool (h, w), pixels in a crowd: whether a box of its own is there, nobody said.
    """

    inputs: Mapping[Modality, Image]
    label: npt.NDArray[np.uint8]
    boxes: npt.NDArray[np.float32]
    class_ids: npt.NDArray[np.int64]
    boxes_known: bool
    scene: npt.NDArray[np.float32] | None
    boxes_from_label: bool
    crowded: npt.NDArray[np.bool_]


def whole_frame(
    sample: Sample, modalities: tuple[Modality, ...], size: tuple[int, int]
) -> dict[Modality, Image]:
    """Raw network inputs at the model's size, of those sensors of the network that the sample has."""
    return {m: prepare(sample.frames[m], size) for m in modalities if m in sample.frames}


def make_crop(
    sample: Sample,
    modalities: tuple[Modality, ...],
    size: tuple[int, int],
    config: AugmentationConfig,
    generator: np.random.Generator,
) -> Crop:
    """Cut and change one sample.

    Args:
        sample: as read; without boxes its crops lie anywhere.
        modalities: of the network.
        size: the model's (H, W); frames of another size are resized first, and boxes and label with them.
        config: what may be changed and by how much.
        generator: the only source of chance.
    """
    inputs = whole_frame(sample, modalities, size)
    label = np.full(size, UNLABELLED, np.uint8)
    boxes = np.zeros((0, 4), np.float32)
    class_ids = np.zeros(0, np.int64)
    crowds = np.zeros((0, 4), np.float32)
    known = sample.boxes is not None and sample.class_ids is not None
    if sample.label is not None:
        label = cv2.resize(sample.label, size[::-1], interpolation=cv2.INTER_NEAREST).astype(
            np.uint8, copy=False
        )
    if sample.boxes is not None and sample.class_ids is not None:
        native = _native_size(sample, size)
        ratio = np.array([size[1] / native[1], size[0] / native[0]] * 2, np.float32)
        boxes, class_ids = sample.boxes * ratio, sample.class_ids
        crowds = sample.crowds.corners * ratio
    matrix = _crop_to_frame(boxes, size, config, generator)
    target = config.crop
    changed: dict[Modality, Image] = {}
    for modality, data in inputs.items():
        changed[modality] = _CHANGES[modality](_warp(modality, data, matrix, target), config, generator)
    images = [m for m in changed if m.is_image]
    if config.blind and len(images) > 1 and generator.random() < config.blind:
        chosen = images[generator.integers(len(images))]
        changed[chosen] = blinded(chosen, changed[chosen], generator)
    label = cv2.warpAffine(
        label, matrix, target[::-1], flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP, borderValue=UNLABELLED
    ).astype(np.uint8, copy=False)
    boxes, class_ids = _move_boxes(boxes, class_ids, matrix, target)
    crowded = _inside(_moved(crowds, matrix), target)
    return Crop(changed, label, boxes, class_ids, known, sample.scene, sample.boxes_from_label, crowded)


def _native_size(sample: Sample, size: tuple[int, int]) -> tuple[int, int]:
    """(H, W) that the sample's boxes are in pixels of."""
    if sample.label is not None:
        return sample.label.shape[0], sample.label.shape[1]
    for modality, frame in sample.frames.items():
        if modality.is_image:
            return frame.data.shape[0], frame.data.shape[1]
    return size


def _crop_to_frame(
    boxes: npt.NDArray[np.float32],
    size: tuple[int, int],
    config: AugmentationConfig,
    generator: np.random.Generator,
) -> npt.NDArray[np.float64]:
    low, high = np.log(config.scale)
    zoom = float(np.exp(generator.uniform(low, high)))
    mirror = generator.random() < config.flip
    extent = np.array(config.crop[::-1], float) / zoom
    frame = np.array(size[::-1], float)
    room = frame - extent
    begin, end = np.minimum(0.0, room), np.maximum(0.0, room)
    if len(boxes) and generator.random() < config.around_object:
        box = boxes[generator.integers(len(boxes))]
        centre = (box[:2] + box[2:]) / 2
        # The window of places at which the crop holds the centre, cut to those inside the frame.
        begin, end = np.clip(centre - extent, begin, end), np.clip(centre, begin, end)
    corner = generator.uniform(begin, end)
    # cv2 counts from pixel centres: frame = A (crop + 1/2) + corner - 1/2.
    step = 1.0 / zoom
    matrix = np.array([[step, 0.0, corner[0] + step / 2 - 0.5], [0.0, step, corner[1] + step / 2 - 0.5]])
    if mirror:
        matrix[0, 2] += step * (config.crop[1] - 1)
        matrix[0, 0] = -step
    return matrix


def _warp(modality: Modality, data: Image, matrix: npt.NDArray[np.float64], crop: tuple[int, int]) -> Image:
    if modality is Modality.AUDIO:
        return data
    if modality is Modality.DEPTH:
        flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(data, matrix, crop[::-1], flags=flags, borderValue=float("nan"))
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(data, matrix, crop[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)


def _move_boxes(
    boxes: npt.NDArray[np.float32],
    class_ids: npt.NDArray[np.int64],
    matrix: npt.NDArray[np.float64],
    crop: tuple[int, int],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    if not len(boxes):
        return boxes, class_ids
    moved = _moved(boxes, matrix)
    limit = np.array([crop[1], crop[0]] * 2, float)
    cut = np.clip(moved, 0.0, limit)
    area = np.prod(moved[:, 2:] - moved[:, :2], axis=1)
    sides = cut[:, 2:] - cut[:, :2]
    keep = (np.prod(sides, axis=1) >= LEAST_VISIBLE * area) & (sides.min(axis=1) >= LEAST_SIDE)
    return cut[keep].astype(np.float32), class_ids[keep]


def _moved(boxes: npt.NDArray[np.float32], matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Boxes of the frame in pixels of the crop, also where they leave it."""
    # Edges, not pixel centres: edge e of a box lies at pixel coordinate e - 1/2.
    ax, ay = matrix[0, 0], matrix[1, 1]
    x = (boxes[:, 0::2] - 0.5 - matrix[0, 2]) / ax + 0.5
    y = (boxes[:, 1::2] - 0.5 - matrix[1, 2]) / ay + 0.5
    return np.stack([x.min(1), y.min(1), x.max(1), y.max(1)], axis=1)


def _inside(boxes: npt.NDArray[np.float64], crop: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Which pixels have their centre in one of the boxes: bool (h, w)."""
    inside = np.zeros(crop, dtype=bool)
    limit = np.array([crop[1], crop[0]] * 2, float)
    for x1, y1, x2, y2 in np.ceil(np.clip(boxes, 0.0, limit) - 0.5).astype(int).tolist():
        inside[y1:y2, x1:x2] = True
    return inside


def _change_rgb(image: Image, config: AugmentationConfig, generator: np.random.Generator) -> Image:
    pixels = image.astype(np.float32)
    gain = 1.0 + config.brightness * generator.uniform(-1, 1)
    contrast = 1.0 + config.contrast * generator.uniform(-1, 1)
    saturation = 1.0 + config.saturation * generator.uniform(-1, 1)
    grey = pixels.mean(axis=2, keepdims=True)
    pixels = grey + saturation * (pixels - grey)
    pixels = (pixels - grey.mean()) * contrast + grey.mean() * gain
    chance = generator.random()
    if chance < config.blank:
        pixels = pixels * generator.uniform(0.0, 0.08)
    elif chance < config.blank + config.darkness:
        pixels = pixels * generator.uniform(0.08, 0.5)
    if chance < config.blank + config.darkness:
        pixels = pixels + generator.normal(0.0, generator.uniform(1.0, 8.0), pixels.shape)
    changed: Image = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    return changed


def _change_depth(image: Image, config: AugmentationConfig, generator: np.random.Generator) -> Image:
    changed = image * np.float32(1.0 + config.depth_scale * generator.uniform(-1, 1))
    height, width = changed.shape
    for _ in range(int(generator.integers(0, config.depth_holes + 1))):
        tall, wide = (int(generator.integers(2, max(3, side // 6))) for side in (height, width))
        top, left = int(generator.integers(height - tall)), int(generator.integers(width - wide))
        changed[top : top + tall, left : left + wide] = np.nan
    return np.ascontiguousarray(changed, dtype=np.float32)


def _change_thermal(image: Image, config: AugmentationConfig, generator: np.random.Generator) -> Image:
    offset = config.thermal_offset * generator.uniform(-1, 1)
    noise = generator.normal(0.0, 1.0, image.shape) * (config.thermal_noise * generator.random())
    return (image + offset + noise).astype(np.float32)


def _change_audio(samples: Image, config: AugmentationConfig, generator: np.random.Generator) -> Image:
    if config.audio_shift:
        samples = np.roll(samples, int(generator.integers(samples.size)))
    gain = 10.0 ** (config.audio_gain * generator.uniform(-1, 1) / 20.0)
    return np.clip(samples * np.float32(gain), -1.0, 1.0).astype(np.float32)


_CHANGES = {
    Modality.RGB: _change_rgb,
    Modality.DEPTH: _change_depth,
    Modality.THERMAL: _change_thermal,
    Modality.AUDIO: _change_audio,
}
