"""Chunks of sound as they come over the wire to a rolling last second at 16 kHz, mono.

A chunk's stamp is the time of its first sample. The stream has a time of its own: a chunk of n samples at
rate r moves it on by n / r, and it follows the stamps by `DRIFT` of that at most, since no two clocks run
alike. That time is handed on, so that sound keeps its time while stamps jitter; a stamp that comes again
gives the time of before, which shows that the driver repeats itself.

A stamp that is off by more than `GAP_TOLERANCE_NS` means that samples are missing (or the clock was set). So
do `CONFIRMED` stamps in a row that are behind by more than half a chunk: a stamp that jitters comes back, a
lost chunk does not. A hole is filled with silence, which gives what comes after it its time; a jump back, or
of a second and more, starts the second over.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from robust_perception.runtime.errors import DataError, EncodingError
from robust_perception.runtime.resample import MOST_ENTRIES, Resampler, table_entries
from robust_perception.units import audio_from_pcm16, pcm16_from_audio
from robust_perception.vocabulary import AUDIO_RATE, Array

SECOND_NS = 1_000_000_000

GAP_TOLERANCE_NS = 30_000_000
"""How far a stamp may be from the time of the stream; capture drivers jitter by a few ms."""

CONFIRMED = 3
"""Stamps in a row that make a hole shorter than that one."""

DRIFT = 0.005
"""Part of its duration by which a chunk may move the time of the stream: ten times what clocks are off."""

WINDOW = AUDIO_RATE
"""Samples kept: one second."""

SAMPLE_TYPES = {
    "S16LE": "<i2",
    "S16BE": ">i2",
    "S32LE": "<i4",
    "S32BE": ">i4",
    "F32LE": "<f4",
    "F32BE": ">f4",
    "F32": "<f4",
}
"""Sample formats understood, in the words of GStreamer and ALSA without underscores, and numpy's."""

PLAIN_CODINGS = ("", "wave", "wav", "raw", "pcm")
"""Codings that are plain samples; compressed sound is not decoded here."""


@dataclass(frozen=True)
class AudioFormat:
    """How to read the bytes of a chunk.

    Raises:
        EncodingError: a value that cannot be, or is not understood.
    """

    sample_rate: int
    """Samples a second of one channel, Hz."""
    channels: int = 1
    """Interleaved channels; they are averaged."""
    sample_format: str = "S16LE"
    """A key of `SAMPLE_TYPES`, in any case."""
    coding_format: str = ""
    """One of `PLAIN_CODINGS`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "sample_format", self.sample_format.upper().replace("_", ""))
        if not 1000 <= self.sample_rate <= 384_000:
            msg = f"expected a sample rate of 1000 to 384000 Hz, got {self.sample_rate}"
            raise EncodingError(msg)
        if table_entries(self.sample_rate) > MOST_ENTRIES:
            msg = (
                f"expected a sample rate that is a multiple of 25 Hz or has another common measure with "
                f"{AUDIO_RATE} Hz, got {self.sample_rate}; let the driver sample at 44100 or 48000"
            )
            raise EncodingError(msg)
        if not 1 <= self.channels <= 64:
            msg = f"expected 1 to 64 channels, got {self.channels}"
            raise EncodingError(msg)
        if self.sample_format not in SAMPLE_TYPES:
            msg = f"expected a sample format out of {', '.join(SAMPLE_TYPES)}, got {self.sample_format!r}"
            raise EncodingError(msg)
        if self.coding_format.lower() not in PLAIN_CODINGS:
            msg = f"expected plain samples (coding format wave or raw), got {self.coding_format!r}"
            raise EncodingError(msg)

    def __str__(self) -> str:
        return f"{self.sample_format} {self.sample_rate} Hz x{self.channels}"

    def decode(self, data: bytes | memoryview) -> npt.NDArray[np.float32]:
        """Bytes of whole sample frames to mono float32 (n,) in [-1, 1].

        Raises:
            DataError: no sample, a part of one, or a value that is no number.
        """
        dtype = np.dtype(SAMPLE_TYPES[self.sample_format])
        frame_bytes = dtype.itemsize * self.channels
        if len(data) == 0 or len(data) % frame_bytes:
            msg = f"expected a positive multiple of {frame_bytes} bytes ({self}), got {len(data)}"
            raise DataError(msg)
        raw = np.frombuffer(data, dtype).reshape(-1, self.channels)
        native = raw.astype(dtype.newbyteorder("="), copy=False)
        if dtype.kind == "f":
            samples = native.astype(np.float32, copy=False)
            broken = samples.size - int(np.isfinite(samples).sum())
            if broken:
                msg = f"expected finite samples, got {broken} NaN or infinite of {samples.size}"
                raise DataError(msg)
            samples = np.clip(samples, -1.0, 1.0)
        elif dtype.itemsize == 2:
            samples = audio_from_pcm16(native)
        else:
            samples = (native / 2147483648.0).astype(np.float32)
        mono: npt.NDArray[np.float32] = samples[:, 0] if self.channels == 1 else samples.mean(axis=1)
        return mono

    def encode(self, samples: Array) -> bytes:
        """Amplitudes (n,), interleaved where there are channels, as bytes, cut off at full scale."""
        dtype = np.dtype(SAMPLE_TYPES[self.sample_format])
        if dtype.kind == "f":
            return np.clip(samples, -1.0, 1.0).astype(dtype).tobytes()
        if dtype.itemsize == 2:
            return pcm16_from_audio(samples).astype(dtype).tobytes()
        counts = np.rint(samples.astype(np.float64) * 2147483648.0)
        return np.clip(counts, -2147483648, 2147483647).astype(dtype).tobytes()


class AudioStream:
    """The last second of one microphone.

    Attributes:
        gaps: holes found since the start.
    """

    def __init__(self, format_: AudioFormat) -> None:
        self.format = format_
        self.gaps = 0
        self._resampler = None if format_.sample_rate == AUDIO_RATE else Resampler(format_.sample_rate)
        self._window = np.zeros(WINDOW, dtype=np.float32)
        self._expected_ns: int | None = None  # time of the stream: where the next chunk begins
        self._stamp_ns: int | None = None  # of the last chunk
        self._first_ns = 0  # of the last window
        self._behind_ns: list[int] = []  # of the last stamps in a row that may have lost a short chunk

    def push(self, data: bytes | memoryview, stamp_ns: int) -> tuple[npt.NDArray[np.float32], int]:
        """Take in a chunk.

        Args:
            data: whole sample frames in the stream's format.
            stamp_ns: time of the chunk's first sample.

        Returns:
            The last second, float32 (16000,) at 16 kHz with silence before the first chunk; and the time of
            its first sample.

        Raises:
            DataError: the bytes are not whole samples; the stream goes on as if nothing had come.
        """
        chunk = self.format.decode(data)
        duration_ns = chunk.size * SECOND_NS // self.format.sample_rate
        self._expected_ns = self._bridge(stamp_ns, duration_ns) + duration_ns
        self._append(chunk)
        if stamp_ns != self._stamp_ns:
            lag = 0.0 if self._resampler is None else self._resampler.lag
            end_ns = self._expected_ns - round(lag * SECOND_NS / self.format.sample_rate)
            self._first_ns = end_ns - self._window.size * SECOND_NS // AUDIO_RATE
        self._stamp_ns = stamp_ns
        return self._window, self._first_ns

    def _bridge(self, stamp_ns: int, duration_ns: int) -> int:
        """Fill the hole before a chunk, if there is one; the time of the stream at the chunk's beginning."""
        if self._expected_ns is None:
            return stamp_ns
        hole_ns = stamp_ns - self._expected_ns
        if abs(hole_ns) <= GAP_TOLERANCE_NS:
            self._behind_ns = [*self._behind_ns, hole_ns] if 2 * hole_ns > duration_ns else []
            if len(self._behind_ns) < CONFIRMED:
                most_ns = round(DRIFT * duration_ns)
                return self._expected_ns + max(-most_ns, min(hole_ns, most_ns))
            hole_ns = min(self._behind_ns)
        self._behind_ns = []
        if -SECOND_NS < hole_ns < -GAP_TOLERANCE_NS:
            return stamp_ns  # on time again after stamps that came late: what was heard is whole
        self.gaps += 1
        if not 0 < hole_ns < SECOND_NS:
            self._forget()
            return stamp_ns
        # Rounded: stamps are cut to whole ns, and a hole of n samples is often 1 ns short of them.
        missing = (hole_ns * self.format.sample_rate + SECOND_NS // 2) // SECOND_NS
        self._append(np.zeros(missing, dtype=np.float32))
        return self._expected_ns + hole_ns

    def _append(self, samples: npt.NDArray[np.float32]) -> None:
        if self._resampler is not None:
            samples = self._resampler.push(samples)
        # A new array each time: frames made of earlier windows are still in use elsewhere.
        self._window = np.concatenate((self._window, samples))[-WINDOW:]

    def _forget(self) -> None:
        # A whole second from the start, so that its first sample's time moves on with every chunk.
        self._window = np.zeros(WINDOW, dtype=np.float32)
        if self._resampler is not None:
            self._resampler.reset()
