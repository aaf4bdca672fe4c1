"""A perception as messages: detections, segmentation, scene, and what the classes are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import (
    BoundingBox2D,
    Classification,
    Detection2D,
    Detection2DArray,
    LabelInfo,
    ObjectHypothesis,
    ObjectHypothesisWithPose,
    VisionClass,
    VisionInfo,
)

from robust_perception.ros import images
from robust_perception.ros.messages import header
from robust_perception.vocabulary import UNLABELLED, Array, Perception

UNLABELLED_NAME = "unlabelled"


def output_header(perception: Perception) -> Header:
    """Stamp and coordinate frame of the frame the outputs refer to."""
    return header(perception.frame_set.stamp_ns, perception.frame_set.frame_id)


def detections(
    boxes: Array, scores: Array, class_ids: Array, class_names: Sequence[str], stamped: Header
) -> Detection2DArray:
    """Boxes as vision_msgs, in their order.

    Args:
        boxes: float32 (n, 4), xyxy in pixels of the reference frame.
        scores: float32 (n,).
        class_ids: int64 (n,), index into `class_names`.
        class_names: the names; published as they are, not as numbers.
        stamped: goes into the array and into every detection.
    """
    message = Detection2DArray(header=stamped)
    for (x1, y1, x2, y2), score, class_id in zip(
        np.asarray(boxes, dtype=np.float64).tolist(), scores.tolist(), class_ids.tolist(), strict=True
    ):
        box = BoundingBox2D(size_x=x2 - x1, size_y=y2 - y1)
        box.center.position.x, box.center.position.y = (x1 + x2) / 2, (y1 + y2) / 2
        hypothesis = ObjectHypothesis(class_id=class_names[class_id], score=score)
        result = ObjectHypothesisWithPose(hypothesis=hypothesis)
        message.detections.append(Detection2D(header=stamped, results=[result], bbox=box))
    return message


def segmentation(label_map: Array, stamped: Header) -> Image:
    """Label map uint8 (H, W) as mono8: the value is the class index, 255 = unlabelled."""
    message = images.from_array(label_map, "mono8")
    message.header = stamped
    return message


def scene(probabilities: Array, scene_names: Sequence[str], stamped: Header) -> Classification:
    """Scene classes with their probabilities, most likely first; empty for a model without any."""
    pairs = zip(scene_names, probabilities.tolist(), strict=True)
    ranked = sorted(pairs, key=lambda pair: (-pair[1], pair[0]))
    results = [ObjectHypothesis(class_id=name, score=score) for name, score in ranked]
    return Classification(header=stamped, results=results)


def label_info(class_names: Sequence[str], threshold: float, stamped: Header) -> LabelInfo:
    """What the values of the segmentation mean, with 255 for unlabelled.

    Args:
        class_names: index -> name.
        threshold: least score that a detection has under any pattern.
        stamped: header.
    """
    classes = [VisionClass(class_id=index, class_name=name) for index, name in enumerate(class_names)]
    classes.append(VisionClass(class_id=UNLABELLED, class_name=UNLABELLED_NAME))
    return LabelInfo(header=stamped, class_map=classes, threshold=threshold)


def vision_info(model: str, version: str, location: str, stamped: Header) -> VisionInfo:
    """Which model speaks and where its manifest lies."""
    return VisionInfo(
        header=stamped,
        method=f"robust_perception {model} {version}",
        database_location=location,
        database_version=0,
    )
