"""Mean average precision: cases worked out by hand, against the library's answer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robust_perception.coco_boxes import Boxes
from robust_perception.evaluation.detection import DetectionMetric, Frame
from robust_perception.evaluation.thresholds import iou

SQUARE = [[0, 0, 10, 10]]


def boxes(values: list[list[float]]) -> np.ndarray:
    return np.array(values, np.float32).reshape(-1, 4)


def ids(values: list[int]) -> np.ndarray:
    return np.array(values, np.int64)


def measure(true: list[list[float]], found: list[list[float]], scores: list[float]) -> tuple[float, float]:
    metric = DetectionMetric()
    metric.add(
        boxes(true), ids([1] * len(true)), boxes(found), ids([1] * len(found)), np.array(scores, np.float32)
    )
    return metric.compute()


def test_perfect_boxes_give_100(capsys: pytest.CaptureFixture[str]) -> None:
    metric = DetectionMetric()
    generator = np.random.default_rng(0)
    for _ in range(5):
        corner = generator.uniform(0, 100, (4, 2))
        found = boxes(np.concatenate([corner, corner + 30], axis=1).tolist())
        class_ids = ids([1, 2, 1, 3])
        metric.add(found, class_ids, found, class_ids, np.full(4, 0.5, np.float32))
    assert metric.compute() == pytest.approx((100, 100))
    assert not capsys.readouterr().out, "the library's own output must stay away"


def test_overlap_decides_which_thresholds_count() -> None:
    # intersection 7 x 10, union 100: IoU 0.7 passes 0.50 .. 0.70, five of ten thresholds
    assert measure(SQUARE, [[0, 0, 7.001, 10]], [0.9]) == pytest.approx((100, 50), abs=1e-6)


def test_a_false_box_above_the_true_one_halves_the_precision() -> None:
    assert measure(SQUARE, [[50, 50, 60, 60], [0, 0, 10, 10]], [0.9, 0.8]) == pytest.approx((50, 50))
    assert measure(SQUARE, [[50, 50, 60, 60], [0, 0, 10, 10]], [0.7, 0.8]) == pytest.approx((100, 100))


def test_a_missed_box_costs_its_part_of_the_recall() -> None:
    # recall ends at 0.5: of the 101 recall points 0, 0.01 .. 1 the first 51 have precision 1
    map50, _ = measure([[0, 0, 10, 10], [50, 50, 60, 60]], SQUARE, [0.9])
    assert map50 == pytest.approx(100 * 51 / 101)


def test_another_class_at_the_same_place_is_wrong() -> None:
    metric = DetectionMetric()
    metric.add(boxes(SQUARE), ids([1]), boxes(SQUARE), ids([2]), np.array([0.9], np.float32))
    assert metric.compute() == pytest.approx((0, 0))


def test_nothing_found_is_zero_and_nothing_true_is_undefined() -> None:
    assert measure(SQUARE, [], []) == (0, 0)
    assert np.isnan(measure([], SQUARE, [0.9])).all()


def part_inside(box: np.ndarray, crowd: np.ndarray) -> float:
    sides = np.minimum(box[2:], crowd[2:]) - np.maximum(box[:2], crowd[:2])
    return float(sides.clip(0).prod() / (box[2:] - box[:2]).prod())


def average_precision(frames: list[Frame], class_id: int, threshold: float) -> float:
    """COCO's definition, spelt out: 101 recalls, each with the best precision from there on."""
    scores: list[float] = []
    right: list[bool] = []
    true_boxes = 0
    for frame in frames:
        true = frame.true_boxes[(frame.true_ids == class_id) & ~frame.true_crowds]
        crowds = frame.true_boxes[(frame.true_ids == class_id) & frame.true_crowds]
        mine = np.flatnonzero(frame.class_ids == class_id)
        true_boxes += len(true)
        overlap = iou(frame.boxes, true)
        free = np.ones(len(true), bool)
        for i in mine[np.argsort(-frame.scores[mine], kind="stable")]:
            fits = np.where(free, overlap[i], -1.0)
            hit = bool(fits.size) and fits.max() >= threshold
            if hit:
                free[np.flatnonzero(fits == fits.max())[-1]] = False
            in_crowd = any(part_inside(frame.boxes[i], crowd) >= threshold for crowd in crowds)
            if hit or not (frame.unjudged[i] or in_crowd):
                scores.append(float(frame.scores[i]))
                right.append(hit)
    order = np.argsort(-np.array(scores), kind="stable")
    hits = np.cumsum(np.array(right, bool)[order])
    precision = np.maximum.accumulate((hits / np.arange(1, len(hits) + 1))[::-1])[::-1]
    places = np.searchsorted(hits / true_boxes, np.linspace(0, 1, 101), side="left")
    return float(np.mean([precision[p] if p < len(precision) else 0.0 for p in places]))


def test_a_crowd_is_no_miss_and_what_lies_in_it_not_wrong() -> None:
    def measured(class_id: int, crowd_id: int) -> tuple[float, float]:
        metric = DetectionMetric()
        found = boxes([[50, 50, 60, 60], *SQUARE])
        crowd = Boxes(boxes([[46, 40, 90, 90]]), ids([crowd_id]))
        scores = np.array([0.9, 0.8], np.float32)
        metric.add(boxes(SQUARE), ids([1]), found, ids([class_id, 1]), scores, crowds=crowd)
        joined = DetectionMetric()
        joined.join(metric.arrays())
        assert joined.compute() == metric.compute()
        return metric.compute()

    assert measured(1, 1) == pytest.approx((100, 100))
    assert measured(1, 2) == pytest.approx((50, 50)), "a crowd of other things"


def test_a_split_of_crowds_alone_has_no_value() -> None:
    metric = DetectionMetric()
    none = boxes([]), ids([])
    metric.add(*none, boxes(SQUARE), ids([1]), np.ones(1, np.float32), crowds=Boxes(boxes(SQUARE), ids([1])))
    assert np.isnan(metric.compute()).all()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 4))
def test_it_is_the_mean_of_average_precisions(seed: int, count: int) -> None:
    generator = np.random.default_rng(seed)

    def some() -> tuple[np.ndarray, np.ndarray]:
        n = int(generator.integers(0, 5))
        corner = generator.integers(0, 6, (n, 2))
        return boxes(np.hstack([corner, corner + generator.integers(3, 9, (n, 2))]).tolist()), ids(
            generator.integers(1, 4, n).tolist()
        )

    frames = []
    metric = DetectionMetric()
    for _ in range(count):
        found, class_ids = some()
        scores = generator.permutation(1000)[: len(found)].astype(np.float32) / 1000
        unjudged = generator.random(len(found)) < 0.4
        single, crowds = Boxes(*some()), Boxes(*some())
        metric.add(*single, found, class_ids, scores, unjudged, crowds)
        true = [np.concatenate(pair) for pair in zip(single, crowds, strict=True)]
        is_crowd = np.arange(len(true[0])) >= len(single.corners)
        frames.append(Frame(*true, is_crowd, found, class_ids, scores, unjudged))
    true_classes = sorted({int(c) for frame in frames for c in frame.true_ids[~frame.true_crowds]})
    thresholds = np.linspace(0.5, 0.95, 10)
    values = [[average_precision(frames, c, t) for c in true_classes] for t in thresholds]
    if not true_classes:
        assert np.isnan(metric.compute()).all()
        return
    wanted = 100 * np.mean(values[0]), 100 * np.mean(values)
    assert metric.compute() == pytest.approx(wanted, abs=1e-6)


def test_a_frame_may_have_a_hundred_boxes_of_a_class() -> None:
    corners = np.array([[20 * i, 0, 20 * i + 10, 10] for i in range(100)], np.float32)
    metric, ids = DetectionMetric(), np.ones(100, np.int64)
    metric.add(corners, ids, corners, ids, np.linspace(0.9, 0.1, 100, dtype=np.float32))
    assert metric.compute() == pytest.approx((100.0, 100.0))


def test_frames_of_another_metric_are_the_frames_they_were() -> None:
    corners = np.array([[20 * i, 0, 20 * i + 10, 10] for i in range(6)], np.float32)
    ids, scores = np.array([1, 2, 1, 2, 1, 2]), np.linspace(0.9, 0.1, 6, dtype=np.float32)
    whole, first, second = DetectionMetric(), DetectionMetric(), DetectionMetric()
    for part, true, found in ((first, 3, 1), (second, 1, 4), (second, 2, 2)):
        for metric in (part, whole):
            metric.add(corners[:true], ids[:true], corners[:found], ids[:found], scores[:found])
    first.join(second.arrays())
    assert first.compute() == whole.compute()
    for name, values in whole.arrays().items():
        np.testing.assert_array_equal(first.arrays()[name], values, err_msg=name)
