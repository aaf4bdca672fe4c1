"""A frame that went over a bag is the frame of the folder, to the bit."""

from __future__ import annotations

import json
import wave
from pathlib import Path

import cv2
import numpy as np
import pytest

from robust_perception import units
from robust_perception.bag import main
from robust_perception.bags import types
from robust_perception.bags.dataset import write_dataset
from robust_perception.bags.errors import BagError
from robust_perception.bags.reader import BagReader
from robust_perception.bags.sensor_topics import SENSOR_TOPICS
from robust_perception.datasets import FIRST_STAMP_NS, DatasetError, FolderDataset
from robust_perception.vocabulary import IMAGE_MODALITIES, Modality

SIZE = (24, 32)


@pytest.fixture
def dataset(tmp_path: Path) -> FolderDataset:
    """Three frames of all four sensors; the last has no depth."""
    generator = np.random.default_rng(3)
    split = tmp_path / "data" / "test"
    for kind in ("rgb", "depth", "thermal", "audio"):
        (split / kind).mkdir(parents=True)
    for index in range(3):
        name = f"{index:02}"
        cv2.imwrite(str(split / "rgb" / f"{name}.png"), generator.integers(0, 255, (*SIZE, 3), np.uint8))
        if index < 2:
            depth = generator.integers(0, 5000, SIZE).astype(np.uint16)
            cv2.imwrite(str(split / "depth" / f"{name}.png"), depth)
        kelvin = generator.integers(18000, 21000, SIZE).astype(np.uint16)
        cv2.imwrite(str(split / "thermal" / f"{name}.png"), kelvin)
        with wave.open(str(split / "audio" / f"{name}.wav"), "wb") as file:
            file.setparams((1, 2, 16000, 16000, "NONE", ""))
            file.writeframes(generator.integers(-9000, 9000, 16000).astype("<i2").tobytes())
    (tmp_path / "data" / "classes.json").write_text(json.dumps({"fine": [{"id": 0, "name": "background"}]}))
    return FolderDataset(tmp_path / "data", "test")


def pixels(message: object) -> np.ndarray:
    """The array of an Image."""
    kinds = {"rgb8": ("u1", 3), "16UC1": ("<u2", 1), "mono8": ("u1", 1)}
    dtype, channels = kinds[message.encoding]  # type: ignore[attr-defined]
    values = np.frombuffer(bytes(message.data), dtype)  # type: ignore[attr-defined]
    shape = (message.height, message.width) + ((3,) if channels == 3 else ())  # type: ignore[attr-defined]
    return values.reshape(shape)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_frames_are_those_of_the_folder(storage: str, dataset: FolderDataset, tmp_path: Path) -> None:
    assert write_dataset(dataset, tmp_path / "bag", rate=4.0, storage=storage) == 11
    convert = {
        Modality.RGB: lambda values: values,
        Modality.DEPTH: units.depth_from_counts,
        Modality.THERMAL: units.thermal_from_counts,
    }
    sensors = {topic: modality for modality, topic in SENSOR_TOPICS.items()}
    seen = 0
    with BagReader(tmp_path / "bag") as bag:
        for raw in bag.messages():
            if raw.topic not in sensors:
                continue
            index = round((raw.stamp_ns - FIRST_STAMP_NS) / 0.25e9)
            frame = dataset[index].frames[sensors[raw.topic]]
            message = types.deserialize(raw.data, raw.msgtype)
            stamp = message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec
            if frame.modality in IMAGE_MODALITIES:
                assert stamp == raw.stamp_ns
                np.testing.assert_array_equal(convert[frame.modality](pixels(message)), frame.data)
            else:
                assert stamp == raw.stamp_ns - 1_000_000_000  # of its first sample
                counts = np.frombuffer(bytes(message.audio.data), "<i2").astype(np.int16)
                np.testing.assert_array_equal(units.audio_from_pcm16(counts), frame.data)
            seen += 1
    assert seen == 11


def test_part_of_a_split(dataset: FolderDataset, tmp_path: Path) -> None:
    written = write_dataset(dataset, tmp_path / "bag", modalities=[Modality.DEPTH, Modality.RGB], limit=1)
    assert written == 2
    with BagReader(tmp_path / "bag") as bag:
        assert [topic.name for topic in bag.topics] == ["/depth/image", "/rgb/image"]


def test_what_cannot_be_written_is_named(dataset: FolderDataset, tmp_path: Path) -> None:
    with pytest.raises(BagError, match="expected a rate above 0"):
        write_dataset(dataset, tmp_path / "bag", rate=0.0)
    with pytest.raises(BagError, match="expected sensors out of rgb, depth, thermal, audio, got none"):
        write_dataset(dataset, tmp_path / "bag", modalities=[])


def test_real_radiometric_frames(shared_data: Path, tmp_path: Path) -> None:
    real = FolderDataset(shared_data / "mm5_rgbdt", "test", "coarse")
    assert write_dataset(real, tmp_path / "bag", limit=2) == 6
    with BagReader(tmp_path / "bag") as bag:
        (thermal,) = (m for m in bag.messages(["/thermal/image"]) if m.stamp_ns == FIRST_STAMP_NS)
    kelvin = units.thermal_from_counts(pixels(types.deserialize(thermal.data, thermal.msgtype)))
    np.testing.assert_array_equal(kelvin, real[0].frames[Modality.THERMAL].data)


def test_the_command_writes_and_describes(
    dataset: FolderDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bag"
    words = ["from-dataset", "--data", str(dataset.root), "--out", str(out), "--limit", "2", "--rate", "10"]
    assert main(words) == 0
    assert "8 messages of 2 frames" in capsys.readouterr().out
    assert main(["info", str(out)]) == 0
    told = capsys.readouterr().out
    assert "/thermal/image" in told
    assert "10.00 Hz" in told
    assert "latched" in told
    assert main(["info", str(tmp_path / "nothing")]) == 1
    assert "expected a bag" in capsys.readouterr().err


def test_a_picture_that_cannot_be_read_or_an_interruption_leaves_no_bag(
    dataset: FolderDataset, tmp_path: Path
) -> None:
    def interrupted(done: int, _: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_dataset(dataset, tmp_path / "bag", rate=4.0, progress=interrupted)
    assert not (tmp_path / "bag").exists()
    (tmp_path / "data" / "test" / "rgb" / "02.png").write_bytes(b"no picture")
    with pytest.raises(DatasetError):
        write_dataset(dataset, tmp_path / "bag", rate=4.0)
    assert not (tmp_path / "bag").exists()
