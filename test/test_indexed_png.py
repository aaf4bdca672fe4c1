"""Label maps with a palette, as painting tools write them, are read by their indices."""

from __future__ import annotations

import io
import json
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from robust_perception.datasets import DatasetError, FolderDataset
from robust_perception.indexed_png import in_grey, is_indexed
from robust_perception.sample_files import read_label

Image = pytest.importorskip("PIL.Image")

Labels = npt.NDArray[np.uint8]


def indexed(labels: Labels, *, transparent: bool = False) -> bytes:
    """What a tool writes: colours of Pascal VOC's kind, of which many are the same."""
    picture = Image.fromarray(labels).convert("L")
    picture.putpalette([colour for i in range(256) for colour in (i % 3 * 90, i % 2 * 128, 0)])
    written = io.BytesIO()
    picture.save(written, "PNG", **({"transparency": 0} if transparent else {}))
    return written.getvalue()


@settings(max_examples=60)
@given(
    labels=st_numpy.arrays(np.uint8, st_numpy.array_shapes(min_dims=2, max_dims=2, max_side=20)),
    transparent=st.booleans(),
)
def test_the_values_are_the_indices(labels: Labels, transparent: bool) -> None:
    png = indexed(labels, transparent=transparent)
    assert is_indexed(png)
    found = cv2.imdecode(np.frombuffer(in_grey(png), np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(found, labels)


@settings(max_examples=60)
@given(data=st.data(), bits=st.sampled_from([1, 2, 4]), palette=st.booleans())
def test_values_of_less_than_a_byte_are_what_is_stored(
    data: st.DataObject, bits: int, palette: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    shapes = st_numpy.array_shapes(min_dims=2, max_dims=2, max_side=20)
    labels = data.draw(st_numpy.arrays(np.uint8, shapes, elements=st.integers(0, 2**bits - 1)))
    written = io.BytesIO()
    picture = Image.fromarray(labels).convert("L")
    picture.putpalette([0, 0, 0, 200, 30, 30] * 8)
    picture.save(written, "PNG", bits=bits)
    png = written.getvalue()
    assert png[24:26] == bytes([bits, 3])
    path = tmp_path_factory.mktemp("labels") / "a.png"
    path.write_bytes(png if palette else in_grey(png))
    np.testing.assert_array_equal(read_label(path), labels)


def test_a_picture_in_black_and_white_shows_one_class(tmp_path: Path) -> None:
    labels = np.eye(9, dtype=np.uint8)
    Image.fromarray(labels.astype(bool)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_label(tmp_path / "a.png"), labels)


@given(png=st.binary(max_size=80), cut=st.integers(0, 200))
def test_damaged_ones_are_no_trap(png: bytes, cut: int) -> None:
    whole = indexed(np.eye(9, dtype=np.uint8))
    for content in (png, whole[:cut], whole[:29] + png):
        if is_indexed(content):
            in_grey(content)


def test_a_picture_in_grey_is_none(tmp_path: Path) -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    cv2.imwrite(str(tmp_path / "a.png"), grey)
    assert not is_indexed((tmp_path / "a.png").read_bytes())
    np.testing.assert_array_equal(read_label(tmp_path / "a.png"), grey)


def test_a_data_folder_takes_them(tmp_path: Path) -> None:
    labels = np.zeros((24, 32), np.uint8)
    labels[4:14, 5:20], labels[-2:] = 1, 255
    for kind in ("rgb", "label"):
        (tmp_path / "train" / kind).mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "train" / "rgb" / "1.png"), np.zeros((24, 32, 3), np.uint8))
    (tmp_path / "train" / "label" / "1.png").write_bytes(indexed(labels))
    (tmp_path / "classes.json").write_text(json.dumps({"names": ["background", "gripper"]}))
    sample = FolderDataset(tmp_path, "train")[0]
    np.testing.assert_array_equal(sample.label, labels)
    assert sample.boxes is not None
    np.testing.assert_array_equal(sample.boxes, [[5, 4, 20, 14]])


@pytest.mark.parametrize("damage", ["cut", "empty", "huge"])
def test_a_damaged_one_is_named(tmp_path: Path, damage: str) -> None:
    whole = indexed(np.eye(99, dtype=np.uint8))
    contents = {"cut": whole[:-30], "empty": whole[:40], "huge": whole[:16] + b"\x7f" * 8 + whole[24:]}
    (tmp_path / "a.png").write_bytes(contents[damage])
    with pytest.raises(DatasetError, match=r"a\.png: expected a jpg or png picture, got \d+ bytes"):
        read_label(tmp_path / "a.png")
