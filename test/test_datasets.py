"""Reading data folders: small ones written here, and the real one."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from data_folder import SIZE, write, write_folder, write_wav

from robust_perception.bags.dataset import write_dataset
from robust_perception.datasets import DatasetError, FolderDataset
from robust_perception.vocabulary import Modality


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "data")


def test_frames_are_in_canonical_units(folder: Path) -> None:
    dataset = FolderDataset(folder, "test")
    assert len(dataset) == 2
    assert dataset.modalities == tuple(Modality)
    assert dataset.class_names == ("background", "cup", "bad cup")
    sample = dataset[0]
    frames = sample.frames
    assert frames[Modality.RGB].data.dtype == np.uint8
    np.testing.assert_array_equal(frames[Modality.RGB].data[0, 0], [200, 0, 0])
    assert np.isnan(frames[Modality.DEPTH].data[0, 0])
    assert frames[Modality.DEPTH].data[1, 1] == np.float32(1.5)
    assert (frames[Modality.THERMAL].data == 300).all()
    assert frames[Modality.THERMAL].radiometric
    assert frames[Modality.AUDIO].data.shape == (8000,)
    assert (frames[Modality.AUDIO].data == 0.5).all()


def test_sound_ends_at_the_images_stamp(folder: Path) -> None:
    frames = FolderDataset(folder, "test")[0].frames
    assert frames[Modality.RGB].stamp_ns - frames[Modality.AUDIO].stamp_ns == 500_000_000


def test_stamps_differ_between_samples_and_are_never_zero(folder: Path) -> None:
    samples = list(FolderDataset(folder, "test"))
    assert len({s.frames[Modality.RGB].stamp_ns for s in samples}) == 2
    assert min(f.stamp_ns for s in samples for f in s.frames.values()) > 0


def test_missing_files_are_missing_frames(folder: Path) -> None:
    sample = FolderDataset(folder, "test")[1]
    assert set(sample.frames) == {Modality.RGB, Modality.THERMAL}
    assert sample.scene is None


def test_scene_classes_are_marked(folder: Path) -> None:
    sample = FolderDataset(folder, "test")[0]
    assert sample.scene is not None
    np.testing.assert_array_equal(sample.scene, [0, 1])


def test_what_macos_puts_beside_a_file_is_no_sample(folder: Path) -> None:
    names = FolderDataset(folder, "test").names
    for kind in ("rgb", "label"):
        (folder / "test" / kind / f"._{names[0]}.png").write_bytes(b"\0\5\x16\7Mac OS X")
    assert FolderDataset(folder, "test").names == names


def test_grey_thermal_is_not_radiometric(folder: Path) -> None:
    write(folder / "test" / "thermal" / "a.png", np.full(SIZE, 128, np.uint8))
    frame = FolderDataset(folder, "test")[0].frames[Modality.THERMAL]
    assert not frame.radiometric
    assert (frame.data == 128).all()


@pytest.mark.parametrize(
    ("file", "image", "message"),
    [
        ("depth/a.png", np.zeros(SIZE, np.uint8), r"a\.png: expected a uint16.*got uint8"),
        (
            "thermal/a.png",
            np.zeros((*SIZE, 3), np.uint8),
            r"a\.png: expected a uint16 or uint8.*got uint8 of shape",
        ),
        ("thermal/a.png", np.zeros(SIZE, np.uint16), r"a\.png: expected temperatures.*got 0 everywhere"),
        (
            "label/a.png",
            np.full(SIZE, 9, np.uint8),
            r"a\.png: expected label values below 3 or 255 \(the classes of .*\.json\), got \[9\]; give",
        ),
        (
            "rgb/a.png",
            np.zeros((10, 10, 3), np.uint8),
            r"one size for 'a', got rgb/a\.png 10x10, depth/a\.png 24x32",
        ),
    ],
)
def test_a_wrong_picture_is_named(folder: Path, file: str, image: np.ndarray, message: str) -> None:
    write(folder / "test" / file, image)
    dataset = FolderDataset(folder, "test")
    with pytest.raises(DatasetError, match=message):
        dataset[0]
    assert dataset[1].name == "b", "the other samples can still be read"


def test_a_damaged_picture_is_named(folder: Path) -> None:
    path = folder / "test" / "rgb" / "a.png"
    path.write_bytes(b"version https://example.org/placeholder")
    with pytest.raises(DatasetError, match=r"rgb/a\.png: expected a jpg or png picture, got 39 bytes"):
        FolderDataset(folder, "test")[0]


@pytest.mark.parametrize("kind", ["rgb", "depth"])
def test_a_picture_that_announces_more_than_can_be_is_named(kind: str, folder: Path) -> None:
    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    (folder / "test" / kind / "a.png").write_bytes(png)
    dataset = FolderDataset(folder, "test")
    for read in (lambda: dataset[0], lambda: write_dataset(dataset, folder / "bag")):
        with pytest.raises(
            DatasetError, match=rf"{kind}/a\.png: expected a jpg or png picture, got 33 bytes"
        ):
            read()


def test_sound_of_another_rate_is_named(folder: Path) -> None:
    write_wav(folder / "test" / "audio" / "a.wav", np.zeros(10), rate=44100)
    with pytest.raises(DatasetError, match=r"a\.wav: expected 1 channel.*16000 Hz, got 1, 2, 44100"):
        FolderDataset(folder, "test")[0]


def test_damaged_sound_is_named(folder: Path) -> None:
    (folder / "test" / "audio" / "a.wav").write_bytes(b"RIFF")
    with pytest.raises(DatasetError, match=r"a\.wav: expected a wav file"):
        FolderDataset(folder, "test")[0]


def test_a_missing_split_lists_what_is_there(folder: Path) -> None:
    with pytest.raises(DatasetError, match=r"val: expected a folder, got none; .* the folders \['test'\]"):
        FolderDataset(folder, "val")


def test_what_is_no_data_folder_is_named_itself(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"typo: expected a data folder, got nothing; check the path"):
        FolderDataset(tmp_path / "typo", "test")
    with pytest.raises(DatasetError, match=r"classes\.json: expected a data folder, got a file"):
        FolderDataset(folder / "classes.json", "test")
    with pytest.raises(DatasetError, match=r"rgb/test: expected a folder, got none; .* the folders none"):
        FolderDataset(folder / "test" / "rgb", "test")


def test_real_data_is_read_whole(shared_data: Path) -> None:
    dataset = FolderDataset(shared_data / "mm5_rgbdt", "test", "coarse")
    assert len(dataset) == 38
    assert dataset.modalities == (Modality.RGB, Modality.DEPTH, Modality.THERMAL)
    assert len(dataset.class_names) == 13
    for sample in dataset:
        assert sample.label is not None
        assert sample.boxes is not None
        assert sample.class_ids is not None
        assert sample.label.max() < 13
        kelvin = sample.frames[Modality.THERMAL].data
        assert 270 < kelvin.min() <= kelvin.max() < 400
        assert np.nanmax(sample.frames[Modality.DEPTH].data) < 10
        # Every box must lie on pixels of its class: the class mapping of boxes and of labels is the same.
        for (x1, y1, x2, y2), class_id in zip(
            sample.boxes.astype(int).tolist(), sample.class_ids, strict=True
        ):
            assert (sample.label[y1 : y2 + 1, x1 : x2 + 1] == class_id).any()
