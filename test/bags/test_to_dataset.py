"""A data folder that went through a bag and back is the folder it was."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import small_folder

from robust_perception.bag import main
from robust_perception.bags import truth, types
from robust_perception.bags.dataset import image
from robust_perception.bags.writer import BagWriter
from robust_perception.datasets import FolderDataset
from robust_perception.vocabulary import Modality

FRAMES = 8


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames of four sensors with holes: no depth in 02, only depth in 03, no sound from 03 on but in 07."""
    root = small_folder.write(tmp_path_factory.mktemp("folder") / "data", FRAMES)
    missing = ["depth/02.png", "rgb/03.png", "thermal/03.png", "label/05.png"]
    missing += [f"audio/{i:02}.wav" for i in range(3, 7)]
    for name in missing:
        (root / "test" / name).unlink()
    scenes = json.loads((root / "test" / "scene.json").read_text())
    del scenes["06"]
    # Of frame 04 somebody listed the boxes, those of the others come of their label maps.
    listed = {
        "images": [{"id": 1, "file_name": "04.png"}],
        "annotations": [
            {"image_id": 1, "category_id": 2, "bbox": [1, 2, 30, 20]},
            {"image_id": 1, "category_id": 1, "bbox": [5, 6, 7, 8], "iscrowd": 1},
        ],
    }
    (root / "test" / "boxes_coco.json").write_text(json.dumps(listed))
    (root / "test" / "scene.json").write_text(json.dumps(scenes))
    return root


def there_and_back(data: Path, folder: Path, *more: str) -> Path:
    bag, out = str(folder / "bag"), folder / "again"
    words = ["--data", str(data), "--split", "test", "--out", bag, "--labels", "--rate", "10"]
    assert main(["from-dataset", *words]) == 0
    assert main(["to-dataset", bag, "--out", str(out), *(more or ("--split", "test"))]) == 0
    return out


def test_there_and_back_is_the_same(data: Path, tmp_path: Path) -> None:
    before, after = FolderDataset(data, "test"), FolderDataset(there_and_back(data, tmp_path), "test")
    assert len(after) == len(before) == FRAMES
    assert (after.class_names, after.scene_names) == (before.class_names, before.scene_names)
    for old, new in zip(before, after, strict=True):
        assert new.frames.keys() == old.frames.keys(), old.name
        for modality, frame in old.frames.items():
            got = new.frames[modality]
            np.testing.assert_array_equal(got.data, frame.data)
            assert (got.data.dtype, got.radiometric) == (frame.data.dtype, frame.radiometric)
        assert new.boxes_from_label == old.boxes_from_label, old.name
        for got, wanted in zip(new.crowds, old.crowds, strict=True):
            np.testing.assert_array_equal(got, wanted)
            assert len(got) == (list(before.names).index(old.name) == 4)
        for name in ("label", "boxes", "class_ids", "scene"):
            wanted, value = getattr(old, name), getattr(new, name)
            assert (value is None) == (wanted is None), (old.name, name)
            if wanted is not None:
                np.testing.assert_array_equal(value, wanted)
                assert value.dtype == wanted.dtype


def test_times_go_there_and_back_too(data: Path, tmp_path: Path) -> None:
    again = there_and_back(data, tmp_path)
    (tmp_path / "second").mkdir()
    bag = tmp_path / "second" / "bag"
    words = ["from-dataset", "--data", str(again), "--split", "test", "--out", str(bag)]
    assert main(words) == 0
    assert main(["to-dataset", str(bag), "--out", str(tmp_path / "second" / "again"), "--split", "test"]) == 0
    first, second = (
        json.loads((folder / "test" / "times.json").read_text())
        for folder in (again, tmp_path / "second" / "again")
    )
    assert list(second.values()) == list(first.values())
    assert np.diff(list(first.values())).tolist() == [100_000_000] * (FRAMES - 1)


def test_splits_are_blocks_in_time(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = there_and_back(data, tmp_path, "--split", "train=0.5", "val=0.25", "test=0.25")
    assert "train 4 samples, val 2 samples, test 2 samples" in capsys.readouterr().out
    names = [name for split in ("train", "val", "test") for name in FolderDataset(out, split).names]
    assert names == sorted(names)
    assert len(names) == FRAMES


def test_a_split_may_have_any_plain_name(data: Path, tmp_path: Path) -> None:
    assert len(FolderDataset(there_and_back(data, tmp_path, "--split", "all"), "all")) == FRAMES


def test_part_of_it_in_another_size(data: Path, tmp_path: Path) -> None:
    out = there_and_back(data, tmp_path, "--complete", "--size", "48x32", "--limit", "2")
    small = FolderDataset(out, "train")
    assert len(small) == 2
    whole = FolderDataset(data, "test")[0]
    sample = small[0]
    assert {sample.frames[m].data.shape[:2] for m in list(Modality)[:3]} == {(32, 48)}
    assert sample.label is not None and whole.label is not None and whole.boxes is not None
    np.testing.assert_array_equal(sample.label, whole.label[::2, ::2])
    np.testing.assert_array_equal(sample.boxes, whole.boxes / 2)


def test_a_grey_thermal_picture_stays_one(tmp_path: Path) -> None:
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    with BagWriter(tmp_path / "bag") as writer:
        for i in range(3):
            stamp = (1 + i) * 10**9
            writer.write("/thermal/image", types.IMAGE, image(grey + i, "mono8", stamp, "c"), stamp)
    assert main(["to-dataset", str(tmp_path / "bag"), "--out", str(tmp_path / "out")]) == 0
    (name, *_) = FolderDataset(tmp_path / "out", "train").names
    stored = cv2.imread(str(tmp_path / "out" / "train" / "thermal" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(stored, grey)
    assert not (tmp_path / "out" / "classes.json").exists()


def test_what_the_files_cannot_hold_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    depth, kelvin = np.full((4, 6), 2.0, np.float32), np.full((4, 6), 300.0, np.float32)
    depth[0, :3], depth[1, 0], depth[1, 1] = (65.535, 65.54, 300.0), np.nan, np.inf
    kelvin[0, :4], kelvin[1, 0] = (np.nan, np.inf, -np.inf, 2000.0), 310.0
    with BagWriter(tmp_path / "bag") as writer:
        for i in range(1, 6):
            for topic, pixels in (("/depth/image", depth), ("/thermal/image", kelvin)):
                moved = np.roll(pixels, i, 0)  # or it is frozen
                writer.write(topic, types.IMAGE, image(moved, "32FC1", i * 10**8, "c"), i * 10**8)
    assert main(["to-dataset", str(tmp_path / "bag"), "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().err
    assert "10 pixels of depth beyond 65.535 m, stored as no measurement\n" in told
    assert "5 pixels of thermal beyond 1023.98 K, cut off there\n" in told
    frames = FolderDataset(tmp_path / "out", "train")[0].frames
    distances = np.roll(frames[Modality.DEPTH].data, -1, 0)
    np.testing.assert_array_equal(distances[0, :3], np.array([65.535, np.nan, np.nan], np.float32))
    assert np.isnan(distances[1, :2]).all()
    temperatures = np.roll(frames[Modality.THERMAL].data, -1, 0)
    np.testing.assert_array_equal(temperatures[0, :4], [np.nan, np.nan, np.nan, 1023.984375])
    assert (temperatures[1, 0], temperatures[2, 0]) == (310.0, 300.0)


def test_labels_that_nobody_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pixels = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
    with BagWriter(tmp_path / "bag") as writer:
        for i in range(2):
            stamp = (1 + i) * 10**9
            writer.write("/rgb/image", types.IMAGE, image(pixels + i, "rgb8", stamp, "c"), stamp)
            label = image(pixels[..., 0] % 3, "mono8", stamp, "c")
            writer.write(truth.SEGMENTATION, types.IMAGE, label, stamp)
    assert main(["to-dataset", str(tmp_path / "bag"), "--out", str(tmp_path / "out")]) == 0
    assert "no /truth/label_info that names them" in capsys.readouterr().err
    named = FolderDataset(tmp_path / "out", "train", class_names=("background", "a", "b"))
    np.testing.assert_array_equal(named[0].label, pixels[..., 0] % 3)


def test_what_cannot_be_is_one_clear_line_and_leaves_nothing(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with BagWriter(tmp_path / "sizes") as writer:
        for i in range(2):
            stamp = (1 + i) * 10**9
            for topic, shape in (("/rgb/image", (8, 8, 3)), ("/thermal/image", (4, 4))):
                pixels = np.full(shape, 9 + i, np.uint8)
                kind = "rgb8" if len(shape) == 3 else "mono8"
                writer.write(topic, types.IMAGE, image(pixels, kind, stamp, "c"), stamp)
    with BagWriter(tmp_path / "unstamped") as writer:
        writer.write("/rgb/image", types.IMAGE, image(np.zeros((4, 4, 3), np.uint8), "rgb8", 0, "c"), 10**9)
    words = ["from-dataset", "--data", str(data), "--out", str(tmp_path / "good"), "--limit", "2"]
    assert main(words) == 0
    (tmp_path / "there").mkdir()
    lost = tmp_path / "lost.yaml"
    lost.write_text("faults: [{at: 0, sensor: all, fault: loss}]")
    out = tmp_path / "out"
    for bag, more, message in (
        ("nothing", [], "expected a bag"),
        ("sizes", [], "expected pictures of one size, got rgb 8x8, thermal 4x4; give --size WIDTHxHEIGHT"),
        ("unstamped", [], "expected a frame that the live graph would take, got none"),
        ("good", ["--split", "train", "val", "test"], "expected a sample or more for 'val', got 2"),
        ("good", ["--split", "a=.5", "b", "a=.5"], "--split: expected every split once, got a b a"),
        ("good", ["--out", str(tmp_path / "there")], "expected a new path, got one that exists"),
        ("good", ["--topic", "rgb=/nothing"], "rgb: expected a topic out of"),
        ("good", ["--faults", "sever"], "faults: expected a file, or one of"),
        ("good", ["--faults", str(lost)], f"would take under the faults of {lost}, got none"),
    ):
        capsys.readouterr()
        assert main(["to-dataset", str(tmp_path / bag), "--out", str(out), *more]) == 1, message
        error = capsys.readouterr().err
        assert message in error.splitlines()[-1]
        assert not out.exists()
        assert not (tmp_path / ".out.part").exists()
    for words, said in (
        (["--size", "320"], "expected WIDTHxHEIGHT in pixels"),
        (["--split", "a/b"], "expected SPLIT or SPLIT=SHARE"),
        (["--split", "train=0"], "expected a number above 0"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["to-dataset", "bag", "--out", "out", *words])
        assert ended.value.code == 2
        assert said in capsys.readouterr().err
