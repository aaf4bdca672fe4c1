"""Arrays to image messages; the way from a message to an array is that of `runtime.images`."""

from __future__ import annotations

import numpy as np
from sensor_msgs.msg import Image

from robust_perception.runtime.errors import DataError
from robust_perception.runtime.images import (
    BYTES_PER_PIXEL,
    COMPRESSED_DEPTH_HEADER,
    CONVERTER,
    decompress,
    to_array,
)
from robust_perception.vocabulary import Array

__all__ = ["BYTES_PER_PIXEL", "COMPRESSED_DEPTH_HEADER", "CONVERTER", "decompress", "from_array", "to_array"]


def from_array(array: Array, encoding: str) -> Image:
    """An image message without header; the array's type and shape must be those of the encoding."""
    contiguous = np.ascontiguousarray(array)
    height, width = contiguous.shape[:2]
    step = width * BYTES_PER_PIXEL[encoding]
    if contiguous.nbytes != step * height:
        msg = (
            f"expected {step * height} bytes for {width}x{height} {encoding}, got {array.dtype} {array.shape}"
        )
        raise DataError(msg)
    message = Image(height=height, width=width, encoding=encoding, step=step, is_bigendian=0)
    message.data = contiguous.tobytes()  # an array here would be checked element by element: 100 times slower
    return message
