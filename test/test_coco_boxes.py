"""Boxes that somebody listed beside a data folder's pictures, and what is refused of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from data_folder import write_folder

from robust_perception.coco_boxes import NO_BOXES
from robust_perception.datasets import DatasetError, FolderDataset


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "data")


def test_coco_boxes_win_over_the_label_map(folder: Path) -> None:
    content = {
        "images": [{"id": 7, "file_name": "test/rgb/a.png"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 2, "bbox": [1.5, 2, 10, 20]},
            {"id": 2, "image_id": 7, "category_id": 1, "bbox": [0, 0, 5, 5], "iscrowd": 1},
            {"id": 3, "image_id": 7, "category_id": 0, "bbox": [0, 0, 9, 9]},
            {"id": 4, "image_id": 7, "category_id": 0, "bbox": [0, 0, 9, 9], "iscrowd": 1},
        ],
    }
    (folder / "test" / "boxes_coco.json").write_text(json.dumps(content))
    first, second = FolderDataset(folder, "test", "coarse")
    assert first.boxes is not None
    assert first.class_ids is not None
    assert second.boxes is not None
    np.testing.assert_array_equal(first.boxes, [[1.5, 2, 11.5, 22]])
    assert first.class_ids.tolist() == [1]
    assert len(second.boxes) == 2, "a frame the file does not list has the boxes of its label map"
    assert (first.boxes_from_label, second.boxes_from_label) == (False, True)
    np.testing.assert_array_equal(first.crowds.corners, [[0, 0, 5, 5]])
    assert first.crowds.class_ids.tolist() == [1]
    assert second.crowds is NO_BOXES


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"images": [], "annotations": [{"category_id": 9, "bbox": [0, 0, 1, 1]}]},
            "'category_id' below 3, got 9",
        ),
        (
            {"images": [], "annotations": [{"category_id": 3, "bbox": [0, 0, 1, 1]}]},
            "'category_id' below 3, got 3",
        ),
        (
            {"images": [], "annotations": [{"category_id": 1.5, "bbox": [0, 0, 1, 1]}]},
            "expected a whole 'category_id' below 3, got 1.5",
        ),
        ({"images": []}, "COCO's images and annotations, got KeyError"),
        (
            {"images": [], "annotations": [{"category_id": 1, "bbox": [0, 0, 1]}]},
            r"boxes_coco\.json: expected 'bbox' as \[x, y, width, height\], got \[0, 0, 1\]",
        ),
        (
            {"images": [], "annotations": [{"category_id": 1, "bbox": ["a", 0, 1, 1]}]},
            r"boxes_coco\.json: expected 'bbox' as \[x, y, width, height\], got \['a', 0, 1, 1\]",
        ),
        (
            {"images": [], "annotations": [{"category_id": "warm", "bbox": [0, 0, 1, 1]}]},
            r"boxes_coco\.json: expected a whole 'category_id' below 3, got 'warm'",
        ),
        (
            {"images": [], "annotations": [{"category_id": 1, "bbox": [9, 9, 1e300, 1]}]},
            r"boxes_coco\.json: expected 'bbox' within 1e\+06 pixels, got \[9, 9, 1e\+300, 1\]",
        ),
        (
            {"images": [], "annotations": [{"category_id": 1, "bbox": [9, 9, 10**400, 1]}]},
            r"boxes_coco\.json: expected 'bbox' as \[x, y, width, height\], got \[9, 9, 100",
        ),
        (
            {"images": [{"id": 1, "file_name": "b-of-another-folder.png"}], "annotations": []},
            r"boxes_coco\.json: expected names of samples such as 'a', got \['b-of-another-folder'\]",
        ),
        (
            {"images": [], "annotations": [{"category_id": 1, "bbox": [9, 9, -5, 1]}]},
            r"boxes_coco\.json: expected 'bbox' with a width and height >= 0, got \[9, 9, -5, 1\]",
        ),
        (
            {
                "images": [{"id": 1, "file_name": "rgb/a.png"}, {"id": 2, "file_name": "thermal/a.png"}],
                "annotations": [],
            },
            r"expected one image of each sample, got 'rgb/a.png' and 'thermal/a.png' of 'a'; list its boxes",
        ),
        (
            {
                "images": [{"id": 1, "file_name": "a.png"}],
                "annotations": [{"image_id": 1, "category_id": 0, "bbox": [0, 0, 1, 1]}],
                "categories": [{"id": 0, "name": "cup"}, {"id": 1, "name": "bad cup"}],
            },
            "expected the category 0 to be 'background', the name of this label value, got 'cup'; give",
        ),
        (
            {
                "images": [{"id": 1, "file_name": "a.png"}],
                "annotations": [{"image_id": 1, "category_id": "1", "bbox": [0, 0, 1, 1]}],
                "categories": [{"id": 1, "name": "bad cup"}],
            },
            "expected the category 1 to be 'cup', the name of this label value, got 'bad cup'; give",
        ),
        (
            {
                "images": [{"id": 1, "file_name": "a.png"}],
                "annotations": [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1]}],
                "categories": [{"id": "1", "name": "bad cup"}],
            },
            "expected the category 1 to be 'cup', the name of this label value, got 'bad cup'; give",
        ),
    ],
)
def test_wrong_coco_boxes_are_named(folder: Path, content: object, message: str) -> None:
    (folder / "test" / "boxes_coco.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=message):
        FolderDataset(folder, "test")


def test_categories_that_no_box_has_may_be_named_as_they_like(folder: Path) -> None:
    content = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "annotations": [
            {"image_id": 1, "category_id": 2, "bbox": [0, 0, 1, 0]},
            {"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1]},
        ],
        "categories": [
            {"id": 0, "name": "things"},
            {"id": 1},
            {"id": 2, "name": "bad cup"},
            {"id": 90, "name": "else"},
            {"id": "x", "name": "else"},
        ],
    }
    (folder / "test" / "boxes_coco.json").write_text(json.dumps(content))
    boxes = FolderDataset(folder, "test")[0].boxes
    assert boxes is not None and len(boxes) == 2


def test_boxes_without_any_names_of_classes_say_which_file_is_missing(folder: Path) -> None:
    content = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1]}],
    }
    (folder / "test" / "boxes_coco.json").write_text(json.dumps(content))
    (folder / "classes.json").unlink()
    for path in (folder / "test" / "label").iterdir():
        path.unlink()
    with pytest.raises(
        DatasetError, match=r"names of its classes in classes\.json .*, got no such file; write"
    ):
        FolderDataset(folder, "test")
