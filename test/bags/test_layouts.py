"""The layouts of recordings: MM5's splits, RoadScene's sizes, 7-Scenes' single sequence with its times."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from robust_perception.bag import main
from robust_perception.bags import types
from robust_perception.bags.layouts import open_folder, times_of
from robust_perception.bags.reader import BagReader
from robust_perception.bags.sensor_topics import audio_info_topics
from robust_perception.datasets import FIRST_STAMP_NS, DatasetError


def picture(path: Path, shape: tuple[int, ...], dtype: type = np.uint8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    high = 255 if dtype is np.uint8 else 4000
    generator = np.random.default_rng(len(path.name))
    cv2.imwrite(str(path), generator.integers(1, high, shape).astype(dtype))


@pytest.fixture
def sequence(tmp_path: Path) -> Path:
    """As 7-Scenes lies there: every second frame of 30 Hz, no splits."""
    root = tmp_path / "scenes"
    for number in (0, 2, 4):
        picture(root / "rgb" / f"{number:06}.jpg", (12, 16, 3))
        picture(root / "depth" / f"{number:06}.png", (12, 16), np.uint16)
    frames = [{"frame": n, "stamp": round(n / 30, 4), "cam_to_world": []} for n in (0, 2, 4)]
    (root / "poses.json").write_text(json.dumps({"fps": 15, "frames": frames}))
    return root


@pytest.fixture
def road(tmp_path: Path) -> Path:
    """As RoadScene lies there: pairs, each of its own size, thermal pictures that are no temperatures."""
    root = tmp_path / "road"
    for name, shape in (("FLIR_1", (20, 32)), ("FLIR_2", (24, 30)), ("FLIR_video_3", (20, 32))):
        picture(root / "train" / "rgb" / f"{name}.jpg", (*shape, 3))
        picture(root / "train" / "thermal" / f"{name}.png", shape)
    return root


def stamps(path: Path, topic: str = "/rgb/image") -> list[int]:
    with BagReader(path) as bag:
        return [message.stamp_ns - FIRST_STAMP_NS for message in bag.messages([topic])]


def test_a_sequence_keeps_its_times(sequence: Path, tmp_path: Path) -> None:
    assert main(["from-dataset", "--data", str(sequence), "--out", str(tmp_path / "bag")]) == 0
    assert stamps(tmp_path / "bag") == [0, 66_700_000, 133_300_000]
    assert (
        main(["from-dataset", "--data", str(sequence), "--out", str(tmp_path / "slow"), "--rate", "4"]) == 0
    )
    assert stamps(tmp_path / "slow", "/depth/image") == [0, 250_000_000, 500_000_000]


def test_frames_of_one_time_are_told(
    sequence: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (sequence / "times.json").write_text(json.dumps({"000000": 5, "000002": 9, "000004": 9}))
    assert main(["from-dataset", "--data", str(sequence), "--out", str(tmp_path / "bag")]) == 0
    assert "bag: 1 frames have the time of another" in capsys.readouterr().err


def test_pictures_of_many_sizes_can_be_made_one(
    road: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["from-dataset", "--data", str(road), "--split", "train"]
    assert main([*words, "--out", str(tmp_path / "many")]) == 0
    assert "pictures are of 2 sizes, and a live graph takes those of one; --size" in capsys.readouterr().err
    assert main([*words, "--out", str(tmp_path / "one"), "--size", "32x24"]) == 0
    assert not capsys.readouterr().err
    with BagReader(tmp_path / "one") as bag:
        messages = [types.deserialize(m.data, m.msgtype) for m in bag.messages()]
    assert {(m.width, m.height) for m in messages} == {(32, 24)}
    assert {m.encoding for m in messages} == {"rgb8", "mono8"}
    assert main(["to-dataset", str(tmp_path / "one"), "--out", str(tmp_path / "back")]) == 0
    assert [len(sample.frames) for sample in open_folder(tmp_path / "back", "train")] == [2, 2, 2]


def test_a_folder_with_the_split_asked_for_is_not_flat(road: Path, sequence: Path) -> None:
    assert open_folder(road, "train").folder == road / "train"
    assert times_of(open_folder(road, "train")) is None
    assert len(open_folder(sequence, "test")) == 3
    with pytest.raises(DatasetError, match="expected a folder, got none"):
        open_folder(road, "test")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("poses.json", {"frames": [{"frame": 0}]}, "expected frames with 'frame' and 'stamp' in seconds"),
        (
            "poses.json",
            {"frames": [{"frame": 0, "stamp": 0.0}]},
            "expected a time of every frame, got none of",
        ),
        ("times.json", {"000000": 0.5}, "expected {NAME: nanoseconds}, got"),
        ("times.json", [], "expected {NAME: nanoseconds}, got"),
    ],
)
def test_times_that_are_none_are_named(
    name: str, content: object, message: str, sequence: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (sequence / name).write_text(json.dumps(content))
    assert main(["from-dataset", "--data", str(sequence), "--out", str(sequence / "bag")]) == 1
    assert message in capsys.readouterr().err


def test_real_recordings_of_every_layout(shared_data: Path, tmp_path: Path) -> None:
    for folder, more, topics in (
        ("mm5_rgbdt", ["--labels", "--classes", "coarse"], 6),
        ("sevenscenes_rgbd_replay", [], 2),
        ("roadscene_rgbt", ["--split", "val", "--size", "320x240"], 2),
    ):
        bag, out = tmp_path / folder, tmp_path / f"{folder}_back"
        words = ["from-dataset", "--data", str(shared_data / folder), "--out", str(bag), "--limit", "5"]
        assert main([*words, *more]) == 0
        with BagReader(bag) as opened:
            assert len([topic for topic in opened.topics if topic.count]) == topics
        assert main(["to-dataset", str(bag), "--out", str(out)]) == 0
        assert len(open_folder(out, "train")) == 5


def test_the_format_of_sound_is_looked_for_where_the_launch_file_does() -> None:
    assert audio_info_topics("/mic/audio_stamped") == (
        "/mic/audio_stamped_info",
        "/mic/audio_info",
        "/audio_info",
    )
    assert audio_info_topics("/audio") == ("/audio_info",)
