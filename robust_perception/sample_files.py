"""The files of one sample, from disk to arrays: pictures, label maps and sound.

What cannot be decoded, or is of another form, is a DatasetError that names the file. `datasets` knows which
folder each is in and what its values mean.
"""

from __future__ import annotations

import wave
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from robust_perception import units
from robust_perception.indexed_png import in_grey, is_indexed, step_of
from robust_perception.labels import DatasetError
from robust_perception.vocabulary import AUDIO_RATE, Array, Modality


def read_rgb(path: Path) -> npt.NDArray[np.uint8]:
    """Decode a colour picture to uint8 (H, W, 3), order R G B; DatasetError when it cannot be decoded."""
    bgr = _decode(path, cv2.IMREAD_COLOR).astype(np.uint8, copy=False)
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


def read_label(path: Path) -> npt.NDArray[np.uint8]:
    """Decode the values of a label map to uint8 (H, W): grey, or the indices of a palette, as stored.

    Raises:
        DatasetError: it cannot be decoded, or has colours of its own.
    """
    content = path.read_bytes()
    if is_indexed(content):
        grey = np.frombuffer(in_grey(content), np.uint8)
        stored = _decoded(path, lambda: cv2.imdecode(grey, cv2.IMREAD_UNCHANGED))
    else:
        stored = _decode(path)
    _check_grey(path, stored, (np.uint8,))
    return (stored // step_of(content)).astype(np.uint8, copy=False)


def read_stored(path: Path, modality: Modality) -> Array:
    """Decode a depth or thermal picture to (H, W) as stored: uint16 counts, or of thermal uint8 grey.

    Raises:
        DatasetError: it cannot be decoded, or is of another type.
    """
    stored = _decode(path)
    _check_grey(path, stored, (np.uint16,) if modality is Modality.DEPTH else (np.uint16, np.uint8))
    return stored


def read_wav(path: Path) -> npt.NDArray[np.float32]:
    """Read 16 kHz mono 16-bit sound to float32 (n,) in [-1, 1); DatasetError when it is anything else."""
    return units.audio_from_pcm16(np.frombuffer(read_pcm(path), dtype="<i2").astype(np.int16, copy=False))


def read_pcm(path: Path) -> bytes:
    """Such sound as stored, samples of two bytes, little-endian; DatasetError when it is anything else."""
    try:
        with wave.open(str(path), "rb") as file:
            got = (file.getnchannels(), file.getsampwidth(), file.getframerate())
            data = file.readframes(file.getnframes())
    except (wave.Error, EOFError, OSError) as error:
        msg = f"{path}: expected a wav file, got one that cannot be read ({error})"
        raise DatasetError(msg) from None
    if got != (1, 2, AUDIO_RATE) or not data:
        msg = (
            f"{path}: expected 1 channel, 2 bytes a sample, {AUDIO_RATE} Hz, "
            f"got {got[0]}, {got[1]}, {got[2]} and {len(data)} bytes"
        )
        raise DatasetError(msg)
    return data


def _decode(path: Path, flags: int = cv2.IMREAD_UNCHANGED) -> Array:
    """Decode a picture as OpenCV does under these flags; DatasetError when it cannot be decoded."""
    return _decoded(path, lambda: cv2.imread(str(path), flags))


def _decoded(path: Path, by: Callable[[], Array | None]) -> Array:
    try:
        image = by()
    except cv2.error:  # a header of more pixels than OpenCV takes
        image = None
    if image is None:
        size = path.stat().st_size if path.exists() else 0
        msg = f"{path}: expected a jpg or png picture, got {size} bytes that cannot be decoded"
        raise DatasetError(msg)
    return image


def _check_grey(path: Path, image: Array, dtypes: tuple[type[np.generic], ...]) -> None:
    if image.ndim != 2 or image.dtype not in dtypes:
        names = " or ".join(np.dtype(d).name for d in dtypes)
        msg = f"{path}: expected a {names} picture with one channel, got {image.dtype} of shape {image.shape}"
        raise DatasetError(msg)
