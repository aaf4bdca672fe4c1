"""Image messages to arrays: cv_bridge where it is installed, rosbags-image elsewhere.

A message is anything with the fields of sensor_msgs: that of rclpy, or one out of a bag.

Both convert with the same OpenCV codes, so both give the same array. What they check and know differs
(neither refuses short data in words, nor knows padded rows), so size, step and length are checked here first,
and both get rows without padding and the lowest byte first.
"""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from robust_perception.runtime.errors import DataError, EncodingError
from robust_perception.runtime.image_header import JPEG_START, MOST_PIXELS, announced_size
from robust_perception.vocabulary import Array

try:
    from cv_bridge import CvBridge

    CONVERTER = "cv_bridge"
except ImportError:
    from rosbags.image import ImageError, image_to_cvimage

    CONVERTER = "rosbags-image"

BYTES_PER_PIXEL = {
    "rgb8": 3,
    "bgr8": 3,
    "rgba8": 4,
    "bgra8": 4,
    "mono8": 1,
    "8UC1": 1,
    "mono16": 2,
    "16UC1": 2,
    "32FC1": 4,
}
"""Encodings understood here."""

ORDERED = {"mono16": 2, "16UC1": 2, "32FC1": 4}
"""Those whose values have several bytes, and how many."""

COMPRESSED_DEPTH_HEADER = struct.Struct("<iff")
"""In front of the PNG of a `compressedDepth` image: format, and the two parameters of its quantisation."""


def to_array(message: Any, encoding: str | None = None) -> Array:
    """The pixels of an image message.

    Args:
        message: sensor_msgs/Image; rows may be padded (`step`), 16 and 32 bit may be of either byte order.
        encoding: convert to this encoding; None = leave as they are.

    Returns:
        uint8 (H, W, 3) for rgb8 and bgr8, (H, W, 4) with alpha, (H, W) for mono8; uint16 (H, W) for 16UC1 and
        mono16; float32 (H, W) for 32FC1. A view of the message's data where nothing had to change: do not
        write to it.

    Raises:
        EncodingError: the encoding is not understood or cannot be converted.
        DataError: size, step and length of the data do not fit together.
    """
    bytes_per_pixel = BYTES_PER_PIXEL.get(message.encoding)
    if bytes_per_pixel is None:
        msg = f"expected an encoding out of {', '.join(BYTES_PER_PIXEL)}, got {message.encoding!r}"
        raise EncodingError(msg)
    row = message.width * bytes_per_pixel
    if message.width == 0 or message.height == 0 or message.step < row:
        msg = (
            f"expected a positive size and a step of at least {row} bytes, "
            f"got {message.width}x{message.height} with step {message.step}"
        )
        raise DataError(msg)
    expected = message.step * message.height
    if len(message.data) < expected:
        msg = (
            f"expected {expected} bytes ({message.width}x{message.height} {message.encoding}, "
            f"step {message.step}), got {len(message.data)}"
        )
        raise DataError(msg)
    return _convert(_plain(message, row), encoding)


def _plain(message: Any, row: int) -> Any:
    """The message with rows of this many bytes and the lowest byte first.

    cv_bridge takes rows that are padded for longer ones, and with numpy 2 it knows no other order of bytes.
    """
    data = np.frombuffer(message.data, np.uint8, message.step * message.height)
    if message.step != row:
        data = np.ascontiguousarray(data.reshape(message.height, message.step)[:, :row])
    size = ORDERED.get(message.encoding)
    # A byte has no order; some drivers set the flag all the same.
    if message.is_bigendian and size is not None:
        data = data.reshape(-1).view(f">u{size}").astype(f"<u{size}").view(np.uint8)
    return SimpleNamespace(
        height=message.height,
        width=message.width,
        encoding=message.encoding,
        step=row,
        is_bigendian=0,
        data=data.reshape(-1),
    )


if CONVERTER == "cv_bridge":  # chosen once at import: a robot has the one, a laptop the other

    def _convert(plain: Any, encoding: str | None) -> Array:
        try:
            converted: Array = CvBridge().imgmsg_to_cv2(plain, encoding or "passthrough")
        except Exception as error:  # its CvBridgeError, and cv2.error from below
            msg = f"no conversion from {plain.encoding} to {encoding}: {error}"
            raise EncodingError(msg) from None
        return converted

else:

    def _convert(plain: Any, encoding: str | None) -> Array:
        try:
            converted: Array = image_to_cvimage(plain, encoding)
        except ImageError as error:
            msg = f"no conversion from {plain.encoding} to {encoding}: {error}"
            raise EncodingError(msg) from None
        return converted


def decompress(message: Any) -> Array:
    """The pixels of a compressed image message.

    Args:
        message: JPEG, PNG or TIFF; or PNG behind the header of `compressedDepth`, 16UC1 or quantised 32FC1.

    Returns:
        Colour uint8 (H, W, 3) in the order R G B; grey uint8 or uint16 (H, W); float32 (H, W) metres from
        quantised depth, NaN = invalid.

    Raises:
        EncodingError: the format is not understood.
        DataError: the data do not decode, or announce a picture of more than `MOST_PIXELS`.
    """
    data = np.frombuffer(message.data, np.uint8)
    if "compressedDepth" not in message.format:
        return _decode(data, message.format)
    if "png" not in message.format:  # what the plug-in wrote before it knew another codec has no codec name
        known = message.format.rpartition("compressedDepth")[2].strip()
        if known:
            msg = f"expected compressedDepth png, got {message.format!r}"
            raise EncodingError(msg)
    if data.size <= COMPRESSED_DEPTH_HEADER.size:
        header = COMPRESSED_DEPTH_HEADER.size
        msg = f"expected a compressedDepth header of {header} bytes and an image, got {data.size}"
        raise DataError(msg)
    _, a, b = COMPRESSED_DEPTH_HEADER.unpack_from(data[: COMPRESSED_DEPTH_HEADER.size].tobytes())
    values = _decode(data[COMPRESSED_DEPTH_HEADER.size :], message.format)
    if not message.format.startswith("32FC1"):
        return values
    with np.errstate(divide="ignore", invalid="ignore"):
        metres = (a / (values.astype(np.float64) - b)).astype(np.float32)
    metres[values == 0] = np.nan
    depth: Array = metres
    return depth


def compress(pixels: Array, like: Any) -> npt.NDArray[np.uint8]:
    """Data for a compressed image message of the same format as another one.

    Args:
        pixels: as `decompress` gives them of such a message; what was grey may have become colour.
        like: a message that can be decompressed.

    Returns:
        JPEG where that one holds one, else PNG; behind its header where it has one.
    """
    data = np.frombuffer(like.data, np.uint8)
    packed = "compressedDepth" in like.format
    head = data[: COMPRESSED_DEPTH_HEADER.size] if packed else data[:0]
    if packed and like.format.startswith("32FC1"):
        _, a, b = COMPRESSED_DEPTH_HEADER.unpack(head.tobytes())
        with np.errstate(divide="ignore", invalid="ignore"):
            values = np.rint(a / pixels.astype(np.float64) + b)
        pixels = np.clip(np.nan_to_num(values, nan=0.0), 0, np.iinfo(np.uint16).max).astype(np.uint16)
    stored: npt.NDArray[Any] = pixels if pixels.ndim == 2 else pixels[..., ::-1]  # OpenCV writes B G R
    is_jpeg = data[:2].tobytes() == JPEG_START
    _, encoded = cv2.imencode(".jpg" if is_jpeg else ".png", np.ascontiguousarray(stored))
    return np.concatenate([head, np.asarray(encoded, np.uint8).ravel()])


def _decode(data: npt.NDArray[np.uint8], format_: str) -> Array:
    expected = f"expected a JPEG, PNG or TIFF image ({format_!r})"
    size = announced_size(data.data)
    if size is None:
        msg = f"{expected}, got {data.size} bytes that are none of them"
        raise DataError(msg)
    width, height = size
    if width * height > MOST_PIXELS:
        got = f"{data.size} bytes that announce {width}x{height}"
        msg = f"{expected} of at most {MOST_PIXELS} pixels, got {got}"
        raise DataError(msg)
    try:
        image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    except cv2.error:  # a header of more pixels than OpenCV takes
        image = None
    if image is None:
        msg = f"{expected}, got {data.size} bytes that do not decode"
        raise DataError(msg)
    if image.ndim == 3:
        code = cv2.COLOR_BGRA2RGB if image.shape[2] == 4 else cv2.COLOR_BGR2RGB
        image = cv2.cvtColor(image, code)
    pixels: Array = image
    return pixels
