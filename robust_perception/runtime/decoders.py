"""Messages of a sensor to its frames in canonical units.

A message is anything with the fields of its type: that of rclpy, or one out of a bag. The live graph and the
evaluation of bags decode with nothing else, so both see the same frames to the bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from robust_perception import units
from robust_perception.runtime import images
from robust_perception.runtime.audio import SECOND_NS, AudioFormat, AudioStream
from robust_perception.runtime.errors import DataError, EncodingError, MessageError
from robust_perception.vocabulary import Array, Modality, Reason, SensorFrame

ENCODINGS: dict[Modality, tuple[str, ...]] = {
    Modality.RGB: ("rgb8", "bgr8", "rgba8", "bgra8", "mono8"),
    Modality.DEPTH: ("32FC1", "16UC1", "mono16"),
    Modality.THERMAL: ("16UC1", "mono16", "32FC1", "mono8", "8UC1"),
}
"""What each image sensor may send, the most usual first."""

COLD = 150.0
"""Kelvin: a picture without any pixel above it shows nothing on earth, or was not measured in kelvin."""


@dataclass(frozen=True)
class ImageUnits:
    """What the counts of integer images mean."""

    depth_scale: float = units.DEPTH_SCALE
    """Metres per count of 16UC1 depth."""
    thermal_scale: float = units.THERMAL_SCALE
    """Kelvin per count of 16UC1 thermal."""
    thermal_offset: float = units.THERMAL_OFFSET
    """Kelvin of count 0 of 16UC1 thermal."""


def stamp_to_ns(stamp: Any) -> int:
    """A message's stamp in ns."""
    return int(stamp.sec) * SECOND_NS + int(stamp.nanosec)


class ImageDecoder:
    """Image messages of one sensor to frames. Keeps the size: a stream that changes it says so.

    Args:
        modality: rgb, depth or thermal.
        image_units: called for every message, so that its values may change while it runs.
        say: told in words when the stream has a new size for good, and once that it seems to be in Celsius.
    """

    def __init__(
        self, modality: Modality, image_units: Callable[[], ImageUnits], say: Callable[[str], None]
    ) -> None:
        self._modality = modality
        self._units = image_units
        self._say = say
        self._seems_celsius = False
        self._size: tuple[int, int] | None = None
        self._candidate: tuple[int, int] | None = None

    def decode(self, message: Any) -> SensorFrame:
        """Make a frame.

        Raises:
            MessageError: encoding, size, length or content is not what this sensor may send.
        """
        try:
            if hasattr(message, "format"):
                pixels, radiometric = self._compressed(message)
            else:
                pixels, radiometric = self._raw(message)
            data = self._canonical(pixels, radiometric)
        except EncodingError as error:
            raise MessageError(self._modality, Reason.WRONG_ENCODING, str(error)) from None
        except DataError as error:
            raise MessageError(self._modality, Reason.BAD_DATA, str(error)) from None
        self._check_size(data.shape[:2])
        frame_id = str(message.header.frame_id)
        return SensorFrame(self._modality, data, stamp_to_ns(message.header.stamp), frame_id, radiometric)

    def _raw(self, message: Any) -> tuple[Array, bool]:
        allowed = ENCODINGS[self._modality]
        if message.encoding not in allowed:
            msg = f"expected an encoding out of {', '.join(allowed)}, got {message.encoding!r}"
            raise EncodingError(msg)
        target = "rgb8" if self._modality is Modality.RGB else None
        pixels = images.to_array(message, target)
        return pixels, pixels.dtype != np.uint8 or self._modality is not Modality.THERMAL

    def _compressed(self, message: Any) -> tuple[Array, bool]:
        pixels = images.decompress(message)
        if self._modality is Modality.RGB and pixels.ndim == 2 and pixels.dtype == np.uint8:
            pixels = np.repeat(pixels[..., np.newaxis], 3, axis=2)
        kinds = {
            Modality.RGB: ((3, "uint8"),),
            Modality.DEPTH: ((2, "uint16"), (2, "float32")),
            Modality.THERMAL: ((2, "uint16"), (2, "uint8")),
        }[self._modality]
        if (pixels.ndim, pixels.dtype.name) not in kinds:
            wanted = " or ".join(f"{'colour' if ndim == 3 else 'grey'} {dtype}" for ndim, dtype in kinds)
            got = f"{pixels.dtype} {pixels.shape}"
            msg = f"expected {wanted} in {message.format!r}, got {got}"
            raise EncodingError(msg)
        return pixels, pixels.dtype != np.uint8 or self._modality is not Modality.THERMAL

    def _canonical(self, pixels: Array, radiometric: bool) -> Array:
        if self._modality is Modality.RGB:
            return pixels
        now = self._units()
        rows, columns = pixels.shape
        if self._modality is Modality.DEPTH:
            if pixels.dtype == np.uint16:
                depth = units.depth_from_counts(pixels, now.depth_scale)
            else:
                depth = units.depth_from_metres(pixels)
            if np.isnan(depth).all():
                msg = f"expected distances in metres, got {columns}x{rows} with none (all 0 or NaN)"
                raise DataError(msg)
            return depth
        if not radiometric:
            return units.thermal_from_grey(pixels)
        if pixels.dtype == np.uint16:
            kelvin = units.thermal_from_counts(pixels, now.thermal_scale, now.thermal_offset)
        else:
            kelvin = units.thermal_from_kelvin(pixels)
        if np.isnan(kelvin).all():
            msg = f"expected kelvin, got {columns}x{rows} without one pixel above 0 K"
            raise DataError(msg)
        if pixels.dtype == np.float32 and not self._seems_celsius:
            self._doubt(float(np.nanmax(kelvin)))
        return kelvin

    def _doubt(self, warmest: float) -> None:
        if warmest < COLD:
            self._seems_celsius = True
            self._say(
                f"expected kelvin in 32FC1, got a picture of at most {warmest:.1f}: degrees Celsius? "
                "They are taken for kelvin; let the driver add 273.15"
            )

    def _check_size(self, size: tuple[int, ...]) -> None:
        rows, columns = size
        now = (rows, columns)
        if self._size is None or now == self._size:
            self._size, self._candidate = now, None
            return
        change = f"{self._size[1]}x{self._size[0]} to {columns}x{rows}"
        if now != self._candidate:
            self._candidate = now
            detail = f"size changed from {change}; taken when the next message has it too"
            raise MessageError(self._modality, Reason.BAD_DATA, detail)
        self._size, self._candidate = now, None
        self._say(f"size changed from {change}, going on with the new one")


class AudioDecoder:
    """Sound messages to frames of the last second.

    Args:
        fixed: format set by parameters; None = wait for AudioInfo.
        on_gap: told in words when samples are missing, or when AudioInfo contradicts the parameters.
    """

    def __init__(self, fixed: AudioFormat | None, on_gap: Callable[[str], None]) -> None:
        self._fixed = fixed is not None
        self._stream = None if fixed is None else AudioStream(fixed)
        self._refused = ""
        self._on_gap = on_gap

    @property
    def format(self) -> AudioFormat | None:
        """How chunks are read; None as long as nobody has said."""
        return None if self._stream is None else self._stream.format

    def describe(self, info: Any) -> None:
        """Take the format from the driver's description, unless parameters set it; they win, and it is said.

        Raises:
            MessageError: the format is not understood; chunks are refused until a better one comes.
        """
        if self._fixed:
            self._compare(info)
            return
        try:
            told = AudioFormat(info.sample_rate, info.channels, info.sample_format, info.coding_format)
        except EncodingError as error:
            self._stream, self._refused = None, str(error)
            raise MessageError(Modality.AUDIO, Reason.WRONG_ENCODING, f"audio_info: {error}") from None
        if told != self.format:
            self._stream, self._refused = AudioStream(told), ""

    def _compare(self, info: Any) -> None:
        try:
            told = str(AudioFormat(info.sample_rate, info.channels, info.sample_format, info.coding_format))
        except EncodingError as error:
            told = f"what is not understood here ({error})"
        if told != str(self.format):
            self._on_gap(
                f"the parameters audio.* say {self.format} and win over audio_info, which says {told}; "
                "audio.sample_rate 0 goes by audio_info"
            )

    def decode(self, message: Any) -> SensorFrame:
        """Make a frame of the last second.

        Raises:
            MessageError: the format is unknown, or the bytes are not whole samples of it.
        """
        if self._stream is None:
            detail = self._refused or (
                "expected the sample format on audio_info (latched) or in the parameters audio.sample_rate, "
                "audio.channels and audio.sample_format (of a bag: --audio-sample-rate, --audio-channels, "
                "--audio-sample-format), got neither"
            )
            raise MessageError(Modality.AUDIO, Reason.WRONG_ENCODING, detail)
        gaps = self._stream.gaps
        stamp_ns = stamp_to_ns(message.header.stamp)
        if stamp_ns <= 0:
            # Presence names it; without a time it must not move the stream.
            return SensorFrame(
                Modality.AUDIO, np.zeros(0, np.float32), stamp_ns, str(message.header.frame_id)
            )
        try:
            samples, first_ns = self._stream.push(memoryview(message.audio.data), stamp_ns)
        except DataError as error:
            raise MessageError(Modality.AUDIO, Reason.BAD_DATA, str(error)) from None
        if self._stream.gaps > gaps:
            self._on_gap(
                "samples are missing between two chunks (stamp + samples / rate is not the next stamp)"
            )
        return SensorFrame(Modality.AUDIO, samples, first_ns, str(message.header.frame_id))
