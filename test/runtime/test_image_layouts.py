"""Pictures of any row length and byte order come out alike, whichever of the two converters there is."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from robust_perception.runtime import images

KINDS = {"rgb8": ("u1", 3), "bgra8": ("u1", 4), "mono8": ("u1", 1), "16UC1": ("u2", 1), "32FC1": ("f4", 1)}


class CvBridge:
    """The arithmetic of cv_bridge's: a shape by step and type, no strides, and numpy 1's way of swapping."""

    def imgmsg_to_cv2(self, message: Any, desired_encoding: str = "passthrough") -> np.ndarray:
        assert desired_encoding == "passthrough"
        kind, channels = KINDS[message.encoding]
        dtype = np.dtype(kind)
        columns = int(message.step / dtype.itemsize / channels)
        shape = (message.height, columns) if channels == 1 else (message.height, columns, channels)
        image = np.ndarray(shape, dtype, message.data)
        if message.is_bigendian == (sys.byteorder == "little"):
            image = image.byteswap().newbyteorder()  # type: ignore[attr-defined]  # gone from numpy 2
        return image


@pytest.fixture(params=["cv_bridge", "rosbags-image"])
def module(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module as it is where that converter is installed."""
    bridge: Any = ModuleType("cv_bridge")
    if request.param == "cv_bridge":
        bridge.CvBridge = CvBridge
    monkeypatch.setitem(sys.modules, "cv_bridge", bridge)
    spec = importlib.util.spec_from_file_location("images_as_there", images.__file__)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    assert request.param == made.CONVERTER
    return made


@pytest.mark.parametrize("encoding", KINDS)
@pytest.mark.parametrize("padding", [0, 2, 5, 64])
@pytest.mark.parametrize("big", [0, 1])
def test_rows_may_be_padded_and_bytes_in_either_order(
    module: ModuleType, encoding: str, padding: int, big: int
) -> None:
    kind, channels = KINDS[encoding]
    shape = (5, 7) if channels == 1 else (5, 7, channels)
    pixels = np.random.default_rng(padding).integers(0, 255, shape).astype(kind)
    rows = pixels.astype(pixels.dtype.newbyteorder(">" if big else "<")).reshape(5, -1).view(np.uint8)
    padded = np.hstack([rows, np.full((5, padding), 77, np.uint8)])
    message = SimpleNamespace(
        height=5, width=7, encoding=encoding, is_bigendian=big, step=padded.shape[1], data=padded.tobytes()
    )
    got = module.to_array(message)
    assert got.dtype == pixels.dtype
    np.testing.assert_array_equal(got, pixels)
