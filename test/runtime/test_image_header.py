"""The size in the header of a compressed image, and that a header alone takes no room."""

from __future__ import annotations

import struct
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from robust_perception.runtime import images
from robust_perception.runtime.errors import DataError
from robust_perception.runtime.image_header import announced_size

PIXELS = np.random.default_rng(2).integers(0, 255, (24, 40, 3), np.uint8)


def encoded(suffix: str, *options: int) -> bytes:
    return cv2.imencode(suffix, PIXELS, options)[1].tobytes()


def with_thumbnail(jpeg: bytes) -> bytes:
    """A JPEG in front of whose size a whole small one stands, as cameras put it there, and filling bytes."""
    small = cv2.imencode(".jpg", PIXELS[:8, :8])[1].tobytes()
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(small)) + small + b"\xff\xff" + jpeg[2:]


def big_endian_tiff() -> bytes:
    """Grey, as one strip behind a directory of what must be in it."""
    entries = [(256, 3, 40 << 16), (257, 4, 24), (258, 3, 8 << 16), (259, 3, 1 << 16), (262, 3, 1 << 16)]
    entries += [(273, 4, 122), (277, 3, 1 << 16), (278, 4, 24), (279, 4, 960)]
    rows = b"".join(struct.pack(">HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return b"MM\0\x2a" + struct.pack(">IH", 8, len(entries)) + rows + bytes(4) + PIXELS[..., 0].tobytes()


@pytest.mark.parametrize(
    "data",
    [
        encoded(".png"),
        encoded(".jpg"),
        encoded(".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_RST_INTERVAL, 1),
        with_thumbnail(encoded(".jpg")),
        encoded(".jpg")[:20] + b"of no segment" + encoded(".jpg")[20:],
        encoded(".tiff"),
        big_endian_tiff(),
    ],
)
def test_the_announced_size_is_that_of_the_picture(data: bytes) -> None:
    height, width = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED).shape[:2]
    assert announced_size(memoryview(data)) == (width, height) == (40, 24)
    for end in range(len(data)):
        assert announced_size(memoryview(data[:end])) in (None, (40, 24))


def test_other_bytes_announce_nothing() -> None:
    for data in (b"", b"not a picture", encoded(".bmp"), b"\xff\xd8" + bytes(40)):
        assert announced_size(memoryview(data)) is None


def test_a_vast_picture_is_refused_before_it_is_decoded() -> None:
    jpeg = bytearray(encoded(".jpg"))
    at = jpeg.find(b"\xff\xc0") + 5
    jpeg[at : at + 4] = struct.pack(">HH", 30_000, 30_000)  # OpenCV would take it, and 5 GB
    message = SimpleNamespace(format="jpeg", data=bytes(jpeg))
    with pytest.raises(DataError, match=r"at most 67108864 pixels, got .* bytes that announce 30000x30000"):
        images.decompress(message)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(
            b"BM"
            + struct.pack("<IHHI", 1084, 0, 0, 1078)
            + struct.pack("<IiiHHIIiiII", 40, 20_000, 20_000, 1, 8, 1, 6, 0, 0, 256, 0)
            + bytes(1024)
            + b"\0\1",
            id="bmp",
        ),
        pytest.param(encoded(".webp"), id="webp"),
    ],
)
def test_what_does_not_say_its_size_is_not_decoded(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kilobyte of BMP took 760 MB and three seconds."""
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(DataError, match=r"expected a JPEG, PNG or TIFF image .* none of them"):
        images.decompress(SimpleNamespace(format="jpeg", data=data))


def test_megabytes_of_stray_bytes_are_no_picture() -> None:
    whole = encoded(".jpg")
    assert announced_size(memoryview(whole[:2] + bytes(100) + whole[2:])) == (40, 24)
    assert announced_size(memoryview(whole[:2] + bytes(1 << 20) + whole[2:])) is None
