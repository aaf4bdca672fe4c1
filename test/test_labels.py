"""What a data folder says of classes, boxes and scenes, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from data_folder import SIZE, write, write_folder

from robust_perception.datasets import DatasetError, FolderDataset
from robust_perception.labels import boxes_of_label
from robust_perception.vocabulary import UNLABELLED


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "data")


def test_boxes_come_from_the_label_map(folder: Path) -> None:
    sample = FolderDataset(folder, "test")[0]
    assert sample.boxes is not None
    assert sample.class_ids is not None
    assert dict(zip(sample.class_ids.tolist(), sample.boxes.tolist(), strict=True)) == {
        1: [20, 15, 30, 20],
        2: [3, 2, 12, 10],
    }


def test_a_map_without_a_known_pixel_does_not_say_that_there_is_no_object(folder: Path) -> None:
    write(folder / "test" / "label" / "a.png", np.full(SIZE, UNLABELLED, np.uint8))
    write(folder / "test" / "label" / "b.png", np.zeros(SIZE, np.uint8))
    unknown, empty = FolderDataset(folder, "test")
    assert unknown.boxes is None
    assert unknown.class_ids is None
    assert empty.boxes is not None
    assert len(empty.boxes) == 0


def test_coarse_classes_map_labels_and_boxes(folder: Path) -> None:
    dataset = FolderDataset(folder, "test", "coarse")
    sample = dataset[0]
    assert dataset.class_names == ("background", "any cup")
    assert sample.label is not None
    assert sample.class_ids is not None
    assert set(np.unique(sample.label).tolist()) == {0, 1, UNLABELLED}
    assert sample.class_ids.tolist() == [1, 1]


def test_specks_have_no_box_and_diagonal_neighbours_are_one() -> None:
    label = np.zeros((40, 40), np.uint8)
    label[0:5, 0:5] = 3
    label[5:10, 5:10] = 3  # touches the first at a corner
    label[20:22, 20:22] = 3
    label[30:, 30:] = UNLABELLED
    boxes, class_ids = boxes_of_label(label)
    np.testing.assert_array_equal(boxes, [[0, 0, 10, 10]])
    assert class_ids.tolist() == [3]


def test_thirty_pixels_are_no_speck() -> None:
    label = np.zeros((9, 40), np.uint8)
    label[1, :29], label[3, :30], label[5:7, :15] = 1, 2, 3
    boxes, class_ids = boxes_of_label(label)
    np.testing.assert_array_equal(boxes, [[0, 3, 30, 4], [0, 5, 15, 7]])
    assert class_ids.tolist() == [2, 3]


def test_boxes_come_by_class_then_from_top_to_bottom_then_from_left_to_right() -> None:
    wanted = [(2, 0, 40), (2, 1, 0), (2, 1, 20), (2, 30, 60), (2, 31, 0), (7, 0, 60)]  # class, top, left
    label = np.zeros((60, 80), np.uint8)
    for class_id, top, left in reversed(wanted):
        label[top : top + 10, left : left + 10] = class_id
    boxes, class_ids = boxes_of_label(label)
    assert [(c, y, x) for c, (x, y, _, _) in zip(class_ids.tolist(), boxes.tolist(), strict=True)] == wanted


def test_without_class_table_the_names_are_given(folder: Path) -> None:
    (folder / "classes.json").unlink()
    (folder / "test" / "scene.json").unlink()
    with pytest.raises(DatasetError) as refused:
        FolderDataset(folder, "test")
    words = str(refused.value)
    assert words.startswith(f"{folder / 'classes.json'}: expected the class names of the ")
    assert f"label maps in {folder / 'test' / 'label'}, got no such file" in words
    # What the commands can be given is the file, what Python can be given is the parameter.
    assert 'write it as {"names": ["background", ...]}' in words
    assert words.endswith("or in Python give FolderDataset its parameter class_names")
    (folder / "classes.json").write_text('{"names": ["background", "x", "y"]}')
    assert FolderDataset(folder, "test").class_names == ("background", "x", "y")
    (folder / "classes.json").unlink()
    dataset = FolderDataset(folder, "test", class_names=("background", "x", "y"))
    assert dataset.class_names == ("background", "x", "y")
    assert dataset[0].label is not None


def test_a_table_may_be_as_long_as_label_values_reach(folder: Path) -> None:
    (folder / "test" / "scene.json").unlink()
    names = [str(i) for i in range(255)]
    (folder / "classes.json").write_text(json.dumps({"names": names, "ignore": 255}))
    assert FolderDataset(folder, "test").class_names == tuple(names)
    fine = [{"id": i, "name": name} for i, name in enumerate(names)]
    (folder / "classes.json").write_text(json.dumps({"fine": fine}))
    assert FolderDataset(folder, "test").class_names == tuple(names)


@pytest.mark.parametrize("names", [["road", "car", "void"], ["road", "car"]])
def test_ignored_label_of_a_name_list_is_unlabelled(names: list[str], folder: Path) -> None:
    (folder / "test" / "scene.json").unlink()
    (folder / "classes.json").write_text(json.dumps({"names": names, "ignore": 2}))
    dataset = FolderDataset(folder, "test")
    label = dataset[0].label
    assert dataset.class_names == ("road", "car")
    assert label is not None
    assert set(np.unique(label).tolist()) == {0, 1, UNLABELLED}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "expected a JSON file"),
        ("[" * 100_000, "expected a JSON file"),
        ("[]", "'fine' or 'names'"),
        ('{"fine": [{"id": 1, "name": "x"}]}', r"expected ids 0\.\.n-1"),
        ('{"fine": [{"id": 0}]}', "list of {id, name}"),
        ('{"fine": [{"id": Infinity, "name": "x"}]}', "list of {id, name}"),
        ('{"names": ["a", "b"], "ignore": 300}', "'ignore' as a label value from 0 to 255, got 300"),
        ('{"names": ["a", "b"], "ignore": "1"}', "'ignore' as a label value from 0 to 255, got '1'"),
        ('{"names": 5}', "'names' as a list of at most 255 names, got 5"),
        (json.dumps({"names": ["a"] * 300}), "'names' as a list of at most 255 names"),
        ('{"names": ["a"], "scene_names": 1}', "'scene_names' as a list of at most 255 names, got 1"),
    ],
)
def test_a_wrong_class_table_is_named(folder: Path, content: str, message: str) -> None:
    (folder / "classes.json").write_text(content)
    with pytest.raises(DatasetError, match=message) as error:
        FolderDataset(folder, "test")
    assert str(folder / "classes.json") in str(error.value)


@pytest.mark.parametrize("kind", ["fine", "names"])
def test_two_classes_of_one_name_are_refused(kind: str, folder: Path) -> None:
    names = ["background", "cup", "cup"]
    fine = [{"id": i, "name": name} for i, name in enumerate(names)]
    grouped = {"coarse_names": ["background", "any cup"], "fine_to_coarse": [0, 1, 1]}
    content = {"fine": fine, **grouped} if kind == "fine" else {"names": names}
    (folder / "test" / "scene.json").unlink()
    (folder / "classes.json").write_text(json.dumps(content))
    message = (
        r"classes\.json: expected a name of its own for every class, got 'cup' for \[1, 2\]; rename them"
    )
    with pytest.raises(DatasetError, match=message):
        FolderDataset(folder, "test")
    if kind == "fine":
        assert FolderDataset(folder, "test", "coarse").class_names == ("background", "any cup")
    alike = {"names": ["a", "b", "c"], "scene_names": ["quiet", "quiet"]}
    (folder / "classes.json").write_text(json.dumps(alike))
    with pytest.raises(DatasetError, match=r"every scene class, got 'quiet' for \[0, 1\]"):
        FolderDataset(folder, "test")


def test_a_mark_at_the_beginning_of_a_file_does_no_harm(folder: Path) -> None:
    content = (folder / "classes.json").read_text(encoding="utf-8")
    (folder / "classes.json").write_text(content, encoding="utf-8-sig")
    assert FolderDataset(folder, "test").class_names[0] == "background"


def test_scenes_of_other_names_are_not_taken_for_none(folder: Path) -> None:
    (folder / "test" / "scene.json").write_text('{"a.png": []}')
    with pytest.raises(DatasetError, match=r"scene\.json: expected names of samples such as 'a', got \['a.p"):
        FolderDataset(folder, "test")


def test_coarse_classes_that_do_not_exist_are_refused(folder: Path) -> None:
    (folder / "classes.json").write_text('{"fine": [{"id": 0, "name": "background"}]}')
    with pytest.raises(DatasetError, match="coarse_names"):
        FolderDataset(folder, "test", "coarse")


@pytest.mark.parametrize(
    ("names", "mapping", "message"),
    [
        (3, [0, 0], "'coarse_names' as a list of at most 255 names, got 3"),
        ([str(i) for i in range(300)], [0, 299], "'coarse_names' as a list of at most 255 names"),
        (["a", "b"], [0, 2], "'fine_to_coarse' with 2 indices below 2"),
    ],
)
def test_wrong_coarse_classes_are_named(folder: Path, names: object, mapping: object, message: str) -> None:
    fine = [{"id": i, "name": str(i)} for i in range(2)]
    content = {"fine": fine, "coarse_names": names, "fine_to_coarse": mapping}
    (folder / "classes.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=rf"classes\.json: expected {message}"):
        FolderDataset(folder, "test", "coarse")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": [["tone"]]}, r"expected a list out of .* for 'a', got \[\['tone'\]\]"),
        (["tone"], r"expected \{name: \[scene classes\]\}, got \['tone'\]"),
    ],
)
def test_scene_classes_of_another_form_are_refused(folder: Path, content: object, message: str) -> None:
    (folder / "test" / "scene.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=rf"scene\.json: {message}"):
        FolderDataset(folder, "test")


def test_unknown_scene_class_is_refused(folder: Path) -> None:
    (folder / "test" / "scene.json").write_text(json.dumps({"a": ["noisy"]}))
    with pytest.raises(DatasetError, match=r"scene\.json: expected a list out of .*noisy"):
        FolderDataset(folder, "test")
