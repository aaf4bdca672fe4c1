"""Stored sensor values to canonical units: one function each, for messages, bags and data folders alike.

A frame that went over a bag must be bit-identical to the same frame read from a folder, so nothing else in
the project converts these values.

    depth    metres = count * scale      (float32; a count of 0 is "no measurement" and becomes NaN)
    thermal  kelvin = count * scale + offset     (float32; nothing is at or below 0 K: it becomes NaN)
    audio    amplitude = count / 32768                                                    (float32)

Arithmetic is done in float64 and rounded to float32 once, so that 1500 mm is exactly 1.5 m.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from robust_perception.vocabulary import Array

DEPTH_SCALE = 0.001
"""Metres per count of a 16-bit depth image (millimetres)."""

THERMAL_SCALE = 1.0 / 64.0
"""Kelvin per count of a 16-bit thermal image in a data folder."""

THERMAL_OFFSET = 0.0
"""Kelvin of count 0 in a data folder."""

NOMINAL_KELVIN = (283.15, 313.15)
"""Temperatures given to grey values 0 and 255 of a picture that is not radiometric.

10 and 40 degrees Celsius, the range an indoor scene fills. Only the order of such temperatures means
anything.
"""

GREY_A_KELVIN = 255.0 / (NOMINAL_KELVIN[1] - NOMINAL_KELVIN[0])
"""Grey values of such a picture that stand for one kelvin."""


def depth_from_counts(counts: Array, scale: float = DEPTH_SCALE) -> npt.NDArray[np.float32]:
    """Depth counts to metres.

    Args:
        counts: uint16 (H, W), 0 = no measurement.
        scale: metres per count.

    Returns:
        float32 (H, W), metres, NaN where the count is 0.

    Raises:
        ValueError: the array is not uint16.
    """
    _expect(counts, np.uint16, "depth counts")
    metres: npt.NDArray[np.float32] = np.multiply(counts, scale, dtype=np.float64).astype(np.float32)
    metres[counts == 0] = np.nan
    return metres


def depth_from_metres(metres: Array) -> npt.NDArray[np.float32]:
    """Floating-point depth with every kind of "no measurement" (0, negative, infinite, NaN) made NaN.

    Args:
        metres: float32 (H, W).

    Returns:
        float32 (H, W), metres, NaN = invalid; the argument itself when it holds nothing else to mend.

    Raises:
        ValueError: the array is not float32.
    """
    _expect(metres, np.float32, "depth in metres")
    return _positive_or_nan(metres)


def thermal_from_counts(
    counts: Array, scale: float = THERMAL_SCALE, offset: float = THERMAL_OFFSET
) -> npt.NDArray[np.float32]:
    """Thermal counts to kelvin.

    Args:
        counts: uint16 (H, W).
        scale: kelvin per count.
        offset: kelvin of count 0.

    Returns:
        float32 (H, W), kelvin, NaN where that is 0 or below: a camera that says so measured nothing there.

    Raises:
        ValueError: the array is not uint16.
    """
    _expect(counts, np.uint16, "thermal counts")
    kelvin = np.multiply(counts, scale, dtype=np.float64)
    kelvin += offset
    return thermal_from_kelvin(kelvin.astype(np.float32))


def thermal_from_kelvin(kelvin: Array) -> npt.NDArray[np.float32]:
    """Temperatures with every kind of "no measurement" (0 K, below it, infinite, NaN) made NaN.

    Args:
        kelvin: float32 (H, W).

    Returns:
        float32 (H, W), kelvin, NaN = no measurement; the argument itself when it holds nothing else to mend.

    Raises:
        ValueError: the array is not float32.
    """
    _expect(kelvin, np.float32, "thermal in kelvin")
    return _positive_or_nan(kelvin)


def thermal_from_grey(grey: Array) -> npt.NDArray[np.float32]:
    """A thermal picture that is no temperature: grey values kept, as float32 (H, W) in 0..255.

    The frame that carries it says `radiometric=False`.

    Raises:
        ValueError: the array is not uint8.
    """
    _expect(grey, np.uint8, "a non-radiometric thermal picture")
    return grey.astype(np.float32)


def audio_from_pcm16(samples: Array) -> npt.NDArray[np.float32]:
    """Signed 16-bit samples (n,) to float32 (n,) in [-1, 1).

    Raises:
        ValueError: the array is not int16.
    """
    _expect(samples, np.int16, "16-bit audio")
    return samples.astype(np.float32) / np.float32(32768.0)


def counts_from_depth(metres: Array, scale: float = DEPTH_SCALE) -> npt.NDArray[np.uint16]:
    """Metres (H, W), NaN = invalid, to counts, rounded and kept in what 16 bits hold; 0 = no measurement."""
    return _counts16(metres.astype(np.float64) / scale)


def counts_from_thermal(
    kelvin: Array, scale: float = THERMAL_SCALE, offset: float = THERMAL_OFFSET
) -> npt.NDArray[np.uint16]:
    """Kelvin (H, W) to counts, rounded and kept in what 16 bits hold."""
    return _counts16((kelvin.astype(np.float64) - offset) / scale)


def pcm16_from_audio(samples: Array) -> npt.NDArray[np.int16]:
    """Amplitudes (n,) to signed 16-bit samples, rounded and cut off at full scale."""
    return np.clip(np.rint(samples.astype(np.float64) * 32768.0), -32768, 32767).astype(np.int16)


def _counts16(counts: npt.NDArray[np.float64]) -> npt.NDArray[np.uint16]:
    return np.clip(np.rint(np.nan_to_num(counts)), 0, np.iinfo(np.uint16).max).astype(np.uint16)


def _positive_or_nan(values: Array) -> npt.NDArray[np.float32]:
    """float32 with NaN for what is 0, negative or infinite; the argument itself where nothing is."""
    measured: npt.NDArray[np.float32] = values.astype(np.float32, copy=False)
    invalid = ~((measured > 0) & (measured < np.inf)) & ~np.isnan(measured)
    if not invalid.any():
        return measured
    measured = measured.copy()
    measured[invalid] = np.nan
    return measured


def _expect(array: Array, dtype: type[np.generic], what: str) -> None:
    if array.dtype != dtype:
        msg = f"{what}: expected {np.dtype(dtype).name}, got {array.dtype} of shape {array.shape}"
        raise ValueError(msg)
