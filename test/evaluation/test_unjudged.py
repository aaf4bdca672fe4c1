"""Found boxes on pixels where nobody looked are neither right nor wrong, unless they are right."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_model import make_model

from robust_perception.bags.dataset import write_dataset
from robust_perception.coco_boxes import Boxes
from robust_perception.datasets import FolderDataset, Sample
from robust_perception.engine.engine import Engine
from robust_perception.evaluation.bag_source import BagSource
from robust_perception.evaluation.detection import DetectionMetric
from robust_perception.evaluation.on_bag import evaluate_bag
from robust_perception.evaluation.protocol import evaluate
from robust_perception.evaluation.tally import Columns, Tally
from robust_perception.evaluation.thresholds import Found, add_boxes
from robust_perception.evaluation.unjudged import in_crowd, unjudged, unlabelled_share
from robust_perception.labels import boxes_of_label
from robust_perception.vocabulary import UNLABELLED, FrameSet, Modality, Pattern, Perception, SensorFrame

HEIGHT, WIDTH = 40, 60


def half_labelled() -> Sample:
    """A cup at the left; the right half is unlabelled."""
    label = np.zeros((HEIGHT, WIDTH), np.uint8)
    label[5:15, 5:15] = 1
    label[:, 30:] = UNLABELLED
    return Sample("a", {}, label, *boxes_of_label(label), None, boxes_from_label=True)


def found(boxes: list[list[float]], scores: list[float]) -> Perception:
    frame = SensorFrame(Modality.RGB, np.zeros((HEIGHT, WIDTH, 3), np.uint8), 1)
    return Perception(
        frame_set=FrameSet(Pattern.parse("rgb"), {Modality.RGB: frame}, Modality.RGB),
        label_map=np.zeros((HEIGHT, WIDTH), np.uint8),
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        scores=np.array(scores, np.float32),
        class_ids=np.ones(len(boxes), np.int64),
        scene=np.zeros(0, np.float32),
        confidence=1.0,
    )


CUP, HIDDEN, WRONG = [5.0, 5.0, 15.0, 15.0], [40.0, 5.0, 50.0, 15.0], [5.0, 20.0, 15.0, 30.0]


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32), part=st.floats(0, 1))
def test_the_share_is_that_of_the_pixels(seed: int, part: float) -> None:
    generator = np.random.default_rng(seed)
    label = np.where(generator.random((9, 13)) < part, UNLABELLED, 0).astype(np.uint8)
    fine = label.repeat(4, 0).repeat(4, 1)  # boxes that lie on quarters of pixels, counted in quarters
    corners = generator.integers(-8, 60, (20, 2, 2))
    boxes = np.concatenate([corners.min(1), corners.max(1)], axis=1)
    shares = unlabelled_share(label, boxes.astype(np.float32) / 4)
    for (x1, y1, x2, y2), share in zip(boxes.tolist(), shares, strict=True):
        inside = fine[max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0)] == UNLABELLED
        assert share == pytest.approx(inside.mean() if inside.size else 0.0, abs=1e-9)


def test_half_of_a_box_is_enough() -> None:
    boxes = np.array([[20, 0, 40, 10], [20, 0, 39.9, 10], HIDDEN, CUP, [70, 0, 80, 9]], np.float32)
    assert unjudged(half_labelled(), boxes).tolist() == [True, False, True, False, False]


def test_where_somebody_listed_the_boxes_everything_is_judged() -> None:
    boxes = np.array([HIDDEN], np.float32)
    assert unjudged(half_labelled(), boxes).tolist() == [True]
    assert unjudged(replace(half_labelled(), boxes_from_label=False), boxes).tolist() == [False]


@pytest.mark.parametrize(("extra", "map50"), [(HIDDEN, 100.0), (WRONG, 50.0)])
def test_a_box_where_nobody_looked_costs_no_precision(extra: list[float], map50: float) -> None:
    tally = Tally.of(2, ())
    tally.add(half_labelled(), found([extra, CUP], [0.9, 0.8]), Columns([], []))
    assert tally.result(Pattern.parse("rgb"), ("background", "cup")).map50 == pytest.approx(map50)
    joined = Tally.of(2, ())
    joined.join(tally.arrays())
    assert joined.detection.compute() == tally.detection.compute()


def test_it_counts_at_the_thresholds_at_which_it_is_right() -> None:
    true = np.array([[0, 0, 10, 10]], np.float32)
    boxes = np.array([[0, 0, 7.001, 10], [0, 0, 10, 10]], np.float32)
    values = {}
    for flags in ([False, False], [True, False]):
        metric = DetectionMetric()
        scores = np.array([0.9, 0.8], np.float32)
        metric.add(true, np.array([1]), boxes, np.array([1, 1]), scores, np.array(flags))
        values[flags[0]] = metric.compute()
    # Of ten thresholds it is right at the five up to 0.70; beyond, it halves the precision or is nothing.
    assert values[False] == pytest.approx((100, 75))
    assert values[True] == pytest.approx((100, 100))


def test_thresholds_leave_it_out_too() -> None:
    tally = Found()
    add_boxes(tally, half_labelled(), found([HIDDEN, CUP, WRONG], [0.9, 0.8, 0.7]))
    assert tally.hits == [True, False]
    assert tally.scores == pytest.approx([0.8, 0.7])


@pytest.mark.parametrize(("class_id", "hits"), [(1, [True, False]), (2, [False, True, False])])
def test_thresholds_leave_out_what_lies_in_a_crowd_of_its_class(class_id: int, hits: list[bool]) -> None:
    crowd = Boxes(np.array([[45, 0, 60, 40]], np.float32), np.array([class_id]))  # half of the hidden cup
    tally = Found()
    sample = replace(half_labelled(), boxes_from_label=False, crowds=crowd)
    add_boxes(tally, sample, found([HIDDEN, CUP, WRONG], [0.9, 0.8, 0.7]))
    assert tally.hits == hits
    assert tally.true_boxes == 1, "nobody can miss a crowd"


def test_a_box_without_an_area_lies_in_no_crowd() -> None:
    crowd = Boxes(np.array([[0, 0, 60, 40]], np.float32), np.array([1]))
    sample = replace(half_labelled(), crowds=crowd)
    empty = np.array([[5, 5, 5, 9]], np.float32)
    assert in_crowd(sample, empty, np.array([1])).tolist() == [False]


def test_a_folder_whose_labels_have_gaps(tmp_path: Path) -> None:
    """The model finds two cups; the one that it is surer of stands where nobody labelled anything."""
    split = tmp_path / "test"
    for folder in ("rgb", "label"):
        (split / folder).mkdir(parents=True)
    seen, label = np.zeros((64, 96, 3), np.uint8), np.zeros((64, 96), np.uint8)
    seen[:32, :32], seen[:32, 64:] = 85, 95  # evidence 1/3 is a cup
    label[:32, :32], label[:, 64:] = 1, UNLABELLED
    for name in range(3):
        seen[63, 95] = name  # or the sensor is frozen
        cv2.imwrite(str(split / "rgb" / f"{name}.png"), seen)
        cv2.imwrite(str(split / "label" / f"{name}.png"), label)
    (tmp_path / "classes.json").write_text(json.dumps({"names": ["background", "cup", "box"]}))
    engine = Engine.load(make_model(tmp_path / "model"), threads=1)

    def map50(bag: Path) -> list[float]:
        """Of the folder, and of a bag made of it."""
        folder, patterns = FolderDataset(tmp_path, "test"), (Pattern.parse("rgb"),)
        write_dataset(folder, bag, labels=True)
        source = BagSource(bag, engine.manifest.modalities, engine.manifest.class_names, ())
        reports = evaluate(engine, folder, patterns), evaluate_bag(engine, source, patterns).report
        return [report.results[0].map50 for report in reports]

    assert map50(tmp_path / "derived") == pytest.approx([100, 100])
    listed = {
        "images": [{"id": i, "file_name": f"{i}.png"} for i in range(3)],
        "annotations": [{"image_id": i, "category_id": 1, "bbox": [0, 0, 32, 32]} for i in range(3)],
    }
    (split / "boxes_coco.json").write_text(json.dumps(listed))
    assert map50(tmp_path / "listed") == pytest.approx([50, 50]), "whoever lists boxes has looked everywhere"
    listed["annotations"] += [
        {"image_id": i, "category_id": 1, "bbox": [60, 0, 36, 40], "iscrowd": 1} for i in range(3)
    ]
    (split / "boxes_coco.json").write_text(json.dumps(listed))
    assert map50(tmp_path / "crowds") == pytest.approx([100, 100]), "but where there is a crowd"
