from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage

from robust_perception.ros import images
from robust_perception.runtime.errors import DataError, EncodingError

ARRAYS = {
    "rgb8": (np.uint8, (4, 6, 3)),
    "bgr8": (np.uint8, (4, 6, 3)),
    "rgba8": (np.uint8, (4, 6, 4)),
    "mono8": (np.uint8, (4, 6)),
    "mono16": (np.uint16, (4, 6)),
    "16UC1": (np.uint16, (4, 6)),
    "32FC1": (np.float32, (4, 6)),
}


def example(encoding: str) -> np.ndarray:
    dtype, shape = ARRAYS[encoding]
    return np.random.default_rng(1).integers(0, 200, shape).astype(dtype)


@pytest.mark.parametrize("encoding", ARRAYS)
def test_there_and_back(encoding: str) -> None:
    array = example(encoding)
    message = images.from_array(array, encoding)
    assert (message.width, message.height, message.step) == (6, 4, array[0].nbytes)
    back = images.to_array(message)
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize("encoding", ["rgb8", "16UC1", "32FC1"])
def test_padded_rows(encoding: str) -> None:
    array = example(encoding)
    message = images.from_array(array, encoding)
    rows = array.reshape(4, -1).view(np.uint8)
    message.step += 5
    message.data = np.hstack([rows, np.full((4, 5), 77, np.uint8)]).tobytes()
    np.testing.assert_array_equal(images.to_array(message), array)


@pytest.mark.parametrize("encoding", ["16UC1", "mono16", "32FC1"])
def test_big_endian(encoding: str) -> None:
    array = example(encoding)
    message = images.from_array(array, encoding)
    message.is_bigendian = 1
    message.data = array.astype(array.dtype.newbyteorder(">")).tobytes()
    np.testing.assert_array_equal(images.to_array(message), array)


def test_byte_images_have_no_byte_order() -> None:
    message = images.from_array(example("rgb8"), "rgb8")
    message.is_bigendian = 1
    np.testing.assert_array_equal(images.to_array(message), example("rgb8"))


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8", "bgra8", "mono8"])
def test_colours_become_rgb(encoding: str) -> None:
    rgb = example("rgb8")
    codes = {
        "bgr8": cv2.COLOR_RGB2BGR,
        "rgba8": cv2.COLOR_RGB2RGBA,
        "bgra8": cv2.COLOR_RGB2BGRA,
        "mono8": cv2.COLOR_RGB2GRAY,
    }
    sent = rgb if encoding == "rgb8" else cv2.cvtColor(rgb, codes[encoding])
    got = images.to_array(images.from_array(sent, encoding), "rgb8")
    expected = np.repeat(sent[..., np.newaxis], 3, axis=2) if encoding == "mono8" else rgb
    np.testing.assert_array_equal(got, expected)


def test_unknown_encoding_is_named() -> None:
    message = images.from_array(example("rgb8"), "rgb8")
    message.encoding = "bayer_rggb8"
    with pytest.raises(EncodingError, match=r"expected an encoding out of rgb8.* got 'bayer_rggb8'"):
        images.to_array(message)


def test_short_data_is_named() -> None:
    message = images.from_array(example("rgb8"), "rgb8")
    message.data = bytes(message.data)[:-1]
    with pytest.raises(DataError, match=r"expected 72 bytes \(6x4 rgb8, step 18\), got 71"):
        images.to_array(message)


@pytest.mark.parametrize(("field", "value"), [("width", 0), ("height", 0), ("step", 17)])
def test_size_that_cannot_be(field: str, value: int) -> None:
    message = images.from_array(example("rgb8"), "rgb8")
    setattr(message, field, value)
    with pytest.raises(DataError, match="expected a positive size and a step of at least"):
        images.to_array(message)


def test_array_that_is_not_of_the_encoding() -> None:
    with pytest.raises(DataError, match="expected 24 bytes for 6x4 mono8, got uint16"):
        images.from_array(example("16UC1"), "mono8")


def vast_png() -> bytes:
    """A PNG whose header declares 10^10 pixels."""
    png = bytearray(cv2.imencode(".png", np.zeros((8, 8), np.uint16))[1].tobytes())
    png[16:24] = struct.pack(">II", 100_000, 100_000)
    png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
    return bytes(png)


def vast_jpeg() -> bytes:
    """A JPEG whose header declares 65000 rows and columns."""
    jpeg = bytearray(cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes())
    start = jpeg.find(b"\xff\xc0") + 5
    jpeg[start : start + 4] = struct.pack(">HH", 65_000, 65_000)
    return bytes(jpeg)


def compressed(array: np.ndarray, suffix: str, text: str) -> CompressedImage:
    return CompressedImage(format=text, data=cv2.imencode(suffix, array)[1].tobytes())


def test_jpeg_is_rgb() -> None:
    rgb = np.zeros((16, 16, 3), np.uint8)
    rgb[..., 0] = 200
    got = images.decompress(compressed(rgb[..., ::-1], ".jpg", "rgb8; jpeg compressed bgr8"))
    assert got.shape == (16, 16, 3)
    assert (np.abs(got.astype(int) - rgb) < 8).all()


def test_png_keeps_16_bits() -> None:
    counts = example("16UC1")
    got = images.decompress(compressed(counts, ".png", "16UC1; png compressed"))
    assert got.dtype == np.uint16
    np.testing.assert_array_equal(got, counts)


def test_compressed_depth_of_integers() -> None:
    counts = example("16UC1")
    message = compressed(counts, ".png", "16UC1; compressedDepth png")
    message.data = images.COMPRESSED_DEPTH_HEADER.pack(0, 0.0, 0.0) + bytes(message.data)
    np.testing.assert_array_equal(images.decompress(message), counts)


def test_compressed_depth_of_floats_is_metres() -> None:
    metres = np.array([[1.0, 2.0, 4.0, np.nan]], np.float32)
    a, b = 100.0 * 101.0, 100.0  # what the plug-in makes of depth_quantization 100 and depth_max 10, nearly
    counts = np.where(np.isnan(metres), 0, np.rint(a / metres + b)).astype(np.uint16)
    message = compressed(counts, ".png", "32FC1; compressedDepth png")
    message.data = images.COMPRESSED_DEPTH_HEADER.pack(0, a, b) + bytes(message.data)
    got = images.decompress(message)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, metres, rtol=1e-3)


@pytest.mark.parametrize(
    ("text", "data", "error", "words"),
    [
        ("jpeg", b"", DataError, "got 0 bytes"),
        ("jpeg", b"not a picture", DataError, "none of them"),
        ("jpeg", vast_jpeg(), DataError, "announce 65000x65000"),
        ("png", vast_png(), DataError, "announce 100000x100000"),
        ("16UC1; compressedDepth png", bytes(12) + vast_png(), DataError, "announce 100000x"),
        ("16UC1; compressedDepth png", b"123", DataError, "header of 12 bytes"),
        ("16UC1; compressedDepth rvl", b"1" * 40, EncodingError, "expected compressedDepth png"),
    ],
)
def test_compressed_rubbish_is_named(text: str, data: bytes, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        images.decompress(CompressedImage(format=text, data=data))
