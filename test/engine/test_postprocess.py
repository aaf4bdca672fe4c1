"""Boxes: thresholds, suppression, order, resizing."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from robust_perception.engine.postprocess import detections, resize_boxes, resize_label_map


def iou(a: np.ndarray, b: np.ndarray) -> float:
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    common = float(np.prod(np.clip(high - low, 0, None)))
    return common / (float(np.prod(a[2:] - a[:2])) + float(np.prod(b[2:] - b[:2])) - common)


def reference(
    boxes: np.ndarray, scores: np.ndarray, threshold: float, limit: float
) -> list[tuple[float, int, int]]:
    """Greedy class-wise suppression, written as its definition says: (score, class, row)."""
    kept: list[tuple[float, int, int]] = []
    for class_id in range(scores.shape[1]):
        column = scores[:, class_id]
        rows = [r for r in np.argsort(-column, kind="stable") if column[r] >= threshold]
        survivors: list[int] = []
        for row in rows:
            if all(iou(boxes[row], boxes[s]) <= limit for s in survivors):
                survivors.append(int(row))
        kept += [(float(column[r]), class_id + 1, r) for r in survivors]
    return sorted(kept, key=lambda k: (-k[0], k[2], k[1]))


@settings(max_examples=60)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 40), classes=st.integers(1, 4))
def test_equals_suppression_by_its_definition(seed: int, count: int, classes: int) -> None:
    generator = np.random.default_rng(seed)
    corner = generator.uniform(0, 60, (count, 2))
    boxes = np.concatenate([corner, corner + generator.uniform(5, 60, (count, 2))], axis=1).astype(np.float32)
    scores = generator.random((count, classes)).astype(np.float32)
    found = detections(boxes, scores, 0.4, 0.5, 1000)
    expected = reference(boxes, scores, np.float32(0.4), 0.5)
    assert found.class_ids.tolist() == [k[1] for k in expected]
    np.testing.assert_array_equal(found.scores, np.array([k[0] for k in expected], np.float32))
    np.testing.assert_array_equal(found.boxes, boxes[[k[2] for k in expected]].reshape(-1, 4))


def test_equal_scores_keep_the_graphs_order() -> None:
    left = 20.0 * np.random.default_rng(0).permutation(300)
    boxes = np.stack([left, 0 * left, left + 10, 0 * left + 10], axis=1).astype(np.float32)
    third = np.arange(300) % 3 == 0
    found = detections(boxes, np.where(third, 0.6, 0.5).astype(np.float32)[:, None], 0.5, 0.5, 300)
    np.testing.assert_array_equal(found.boxes, np.concatenate([boxes[third], boxes[~third]]))


def test_classes_never_suppress_each_other() -> None:
    boxes = np.array([[0, 0, 300, 200], [0, 0, 300, 200]], np.float32)
    found = detections(boxes, np.array([[0.9, 0.0], [0.0, 0.8]], np.float32), 0.5, 0.5, 10)
    assert found.class_ids.tolist() == [1, 2]


def test_only_the_best_remain() -> None:
    boxes = np.array([[i * 20, 0, i * 20 + 10, 10] for i in range(5)], np.float32)
    scores = np.array([[0.5], [0.9], [0.6], [0.8], [0.7]], np.float32)
    found = detections(boxes, scores, 0.1, 0.5, 3)
    np.testing.assert_array_equal(found.scores, np.array([0.9, 0.8, 0.7], np.float32))


def test_broken_boxes_and_scores_are_dropped() -> None:
    boxes = np.array(
        [[0, 0, np.nan, 9], [5, 5, 5, 9], [9, 9, 2, 2], [0, 0, np.inf, 1], [1, 2, 3, 4]], np.float32
    )
    scores = np.full((5, 1), 0.9, np.float32)
    np.testing.assert_array_equal(detections(boxes, scores, 0.5, 0.5, 10).boxes, [[1, 2, 3, 4]])
    scores[4] = np.nan
    assert detections(boxes, scores, 0.5, 0.5, 10).boxes.shape == (0, 4)


def test_nothing_above_the_threshold_is_an_empty_list_with_its_types() -> None:
    found = detections(np.zeros((3, 4), np.float32), np.zeros((3, 2), np.float32), 0.5, 0.5, 10)
    assert (found.boxes.shape, found.boxes.dtype) == ((0, 4), np.float32)
    assert (found.scores.shape, found.scores.dtype) == ((0,), np.float32)
    assert (found.class_ids.shape, found.class_ids.dtype) == ((0,), np.int64)


def test_boxes_follow_the_picture_to_its_size_and_stay_inside() -> None:
    boxes = np.array([[10, 20, 400, 120]], np.float32)
    np.testing.assert_array_equal(resize_boxes(boxes, (240, 320), (480, 640)), [[20, 40, 640, 240]])


def test_label_maps_keep_their_values() -> None:
    label_map = np.array([[0, 7], [255, 3]], np.uint8)
    resized = resize_label_map(label_map, (4, 6))
    np.testing.assert_array_equal(resized, label_map.repeat(2, 0).repeat(3, 1))
    assert resize_label_map(label_map, (2, 2)) is label_map
