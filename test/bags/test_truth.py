"""The truth of a data folder that went over a bag is the truth of the folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import small_folder
from rosbags.rosbag2 import StoragePlugin, Writer

from robust_perception.bag import main
from robust_perception.bags import truth, types
from robust_perception.bags.dataset import header, image, write_dataset
from robust_perception.bags.errors import BagError
from robust_perception.bags.reader import BagReader
from robust_perception.bags.truth import Truth, TruthReader
from robust_perception.bags.writer import BagWriter
from robust_perception.datasets import FIRST_STAMP_NS, FolderDataset
from robust_perception.labels import boxes_of_label

PIXELS = np.zeros((4, 6), np.uint8)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> FolderDataset:
    return FolderDataset(small_folder.write(tmp_path_factory.mktemp("folder") / "data"), "test")


@pytest.fixture(scope="module")
def bag(dataset: FolderDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bags") / "bag"
    write_dataset(dataset, path, rate=10.0, labels=True)
    return path


def read(path: Path, names: tuple[str, ...] = small_folder.NAMES) -> list[Truth]:
    with BagReader(path) as opened:
        return list(TruthReader(opened, names, small_folder.SCENES))


def test_truth_is_that_of_the_folder(bag: Path, dataset: FolderDataset) -> None:
    found = read(bag)
    assert [t.stamp_ns for t in found] == [FIRST_STAMP_NS + i * 100_000_000 for i in range(len(dataset))]
    for sample, known in zip(dataset, found, strict=True):
        for name in ("label", "boxes", "class_ids", "scene"):
            wanted, got = getattr(sample, name), getattr(known, name)
            np.testing.assert_array_equal(got, wanted)
            assert got.dtype == wanted.dtype, name


def test_what_is_known_of_boxes_goes_over_the_bag(tmp_path: Path) -> None:
    root = small_folder.write(tmp_path / "data", 2)
    listed = {"images": [{"id": 1, "file_name": "01.png"}], "annotations": []}
    (root / "test" / "boxes_coco.json").write_text(json.dumps(listed))
    write_dataset(FolderDataset(root, "test"), tmp_path / "bag", labels=True)
    derived, listed_one = read(tmp_path / "bag")
    assert (derived.boxes_from_label, listed_one.boxes_from_label) == (True, False)
    assert derived.boxes is not None and listed_one.boxes is not None
    assert (len(derived.boxes), len(listed_one.boxes)) == (2, 0)


def test_boxes_of_the_label_map_are_those_of_the_smaller_one_too(tmp_path: Path) -> None:
    folder = FolderDataset(small_folder.write(tmp_path / "data", 2), "test")
    write_dataset(folder, tmp_path / "bag", labels=True, size=(42, 19))
    for known in read(tmp_path / "bag"):
        assert known.label is not None and known.boxes is not None
        for value, wanted in zip((known.boxes, known.class_ids), boxes_of_label(known.label), strict=True):
            np.testing.assert_array_equal(value, wanted)
        assert len(known.boxes) == 2


def test_words_about_boxes_alone_are_no_truth(tmp_path: Path) -> None:
    kind = truth.TOPICS[truth.DETECTIONS_INFO]
    info = types.message_class(kind)(
        header=header(5, "c"), method="by hand", database_location="", database_version=0
    )
    with BagWriter(tmp_path / "bag") as writer:
        writer.write(truth.DETECTIONS_INFO, kind, types.serialize(info, kind), 5)
        writer.write("/rgb/image", types.IMAGE, image(PIXELS, "mono8", 5, "c"), 5)
    with BagReader(tmp_path / "bag") as opened:
        assert not TruthReader(opened, small_folder.NAMES, ()).known
    assert read(tmp_path / "bag") == []


def test_sensors_are_the_same_with_and_without_labels(
    bag: Path, dataset: FolderDataset, tmp_path: Path
) -> None:
    write_dataset(dataset, tmp_path / "plain", rate=10.0)
    with BagReader(tmp_path / "plain") as plain, BagReader(bag) as labelled:
        topics = [topic.name for topic in plain.topics]
        assert list(plain.messages(topics)) == list(labelled.messages(topics))
        assert not [name for name in topics if name.startswith("/truth")]


def test_the_command_writes_labels_when_asked(dataset: FolderDataset, tmp_path: Path) -> None:
    words = ["from-dataset", "--data", str(dataset.root), "--out", str(tmp_path / "bag"), "--labels"]
    assert main([*words, "--limit", "2"]) == 0
    assert len(read(tmp_path / "bag")) == 2


def test_topics_of_two_instants_may_come_mixed(tmp_path: Path) -> None:
    made = {}
    for stamp in (5, 6, 7):
        known = Truth(stamp, PIXELS + stamp - 5, np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
        stamped = header(stamp, "c")
        made[stamp] = dict(truth.messages_of(known, small_folder.NAMES, small_folder.SCENES, stamped))
    order = [(5, truth.SEGMENTATION), (6, truth.SEGMENTATION), (5, truth.DETECTIONS)]
    order += [(7, truth.DETECTIONS), (7, truth.SEGMENTATION), (6, truth.DETECTIONS)]
    with BagWriter(tmp_path / "bag") as writer:
        for received, (stamp, topic) in enumerate(order):
            writer.write(topic, truth.TOPICS[topic], made[stamp][topic], received)
    found = read(tmp_path / "bag")
    assert [known.stamp_ns for known in found] == [5, 6, 7]
    for known in found:
        assert known.label is not None
        assert known.label[0, 0] == known.stamp_ns - 5
        assert known.boxes is not None


def test_other_class_names_show_both_sides(bag: Path) -> None:
    with pytest.raises(BagError, match=r"expected the model's class names \['a', 'b'\], got \['background'"):
        read(bag, ("a", "b"))


def test_what_is_not_known_is_none_and_no_truth_is_none_at_all(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "part") as writer:
        writer.write(truth.SEGMENTATION, types.IMAGE, image(PIXELS, "mono8", 5, "c"), 5)
    (known,) = read(tmp_path / "part")
    assert (known.stamp_ns, known.boxes, known.class_ids, known.scene) == (5, None, None, None)
    with BagWriter(tmp_path / "none") as writer:
        writer.write("/rgb/image", types.IMAGE, image(PIXELS, "mono8", 5, "c"), 5)
    with BagReader(tmp_path / "none") as opened:
        reader = TruthReader(opened, small_folder.NAMES, small_folder.SCENES)
        assert not reader.known
        assert list(reader) == []


def test_a_truth_of_another_type_is_named(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        writer.write(truth.DETECTIONS, types.IMAGE, image(PIXELS, "mono8", 5, "c"), 5)
    with pytest.raises(
        BagError, match="/truth/detections: expected vision_msgs/msg/Detection2DArray, got sensor"
    ):
        read(tmp_path / "bag")


def test_label_maps_of_one_stamp_are_told_once(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        for i in range(3):  # as of a publisher that leaves its stamps at zero
            writer.write(truth.SEGMENTATION, types.IMAGE, image(PIXELS + i, "mono8", 0, "c"), i)
    said: list[str] = []
    with BagReader(tmp_path / "bag") as opened:
        (known,) = TruthReader(opened, small_folder.NAMES, (), said.append)
    assert known.label is not None
    assert known.label[0, 0] == 2
    (told,) = said
    assert told.startswith("/truth/segmentation: expected one message a stamp, got several of 0 ns")


@pytest.mark.parametrize("again", [10, 25])
def test_a_stamp_that_comes_long_after_its_turn_is_told_and_left_out(again: int, tmp_path: Path) -> None:
    stamps = [*range(10, 110, 10), again, again, *range(110, 150, 10)]
    with BagWriter(tmp_path / "bag") as writer:
        for received, stamp in enumerate(stamps):
            pixels = PIXELS + np.uint8(received >= 10)
            writer.write(truth.SEGMENTATION, types.IMAGE, image(pixels, "mono8", stamp, "c"), received)
    said: list[str] = []
    with BagReader(tmp_path / "bag") as opened:
        found = list(TruthReader(opened, small_folder.NAMES, (), said.append))
    assert [known.stamp_ns for known in found] == list(range(10, 150, 10))
    assert found[0].label is not None and not found[0].label.any(), "the first one counted already"
    (told,) = said
    assert told == (
        f"/truth/segmentation: expected stamps that go up, got {again} ns when that of 60 ns and 4 later "
        "ones had come; such messages are left out"
    )


def test_topics_of_one_stamp_are_as_they_should_be(bag: Path) -> None:
    said: list[str] = []
    with BagReader(bag) as opened:
        list(TruthReader(opened, small_folder.NAMES, small_folder.SCENES, said.append))
    assert said == []


@pytest.mark.parametrize(
    ("pixels", "encoding", "got"),
    [
        (PIXELS + np.uint8(3), "mono8", r"below 3, the number of classes, or 255, got \[3\]; give"),
        (PIXELS + np.uint16(256), "16UC1", r"below 3, .* got \[256\]; give"),  # in 8 bits, the background
        (np.zeros((4, 6, 3), np.uint8), "rgb8", r"mono8, .* got uint8 \(4, 6, 3\)"),
    ],
)
def test_a_label_map_of_no_classes_is_named_with_what_it_has(
    pixels: np.ndarray, encoding: str, got: str, tmp_path: Path
) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        writer.write(truth.SEGMENTATION, types.IMAGE, image(pixels, encoding, 5, "c"), 5)
    with pytest.raises(BagError, match=rf"bag: /truth/segmentation of 5 ns: expected .*{got}"):
        read(tmp_path / "bag")


def test_messages_of_several_types_under_one_topic_are_named(tmp_path: Path) -> None:
    store = types.typestore()
    with Writer(tmp_path / "bag", version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        for msgtype, data in (
            (types.IMAGE, image(PIXELS, "mono8", 5, "c")),
            (types.AUDIO_INFO, b"\0\1\0\0"),
        ):
            connection = writer.add_connection("/rgb/image", msgtype, typestore=store)
            writer.write(connection, 5, data)
        other = writer.add_connection("/depth/image", types.IMAGE, typestore=store)
        writer.write(other, 6, image(PIXELS, "mono8", 6, "c"))
    with BagReader(tmp_path / "bag") as opened:
        with pytest.raises(BagError, match=r"/rgb/image: expected messages of one type, got audio.* and s"):
            opened.messages(["/rgb/image"])
        assert len(list(opened.messages(["/depth/image"]))) == 1, "what is readable is read"
