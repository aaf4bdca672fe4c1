"""The words every room speaks: modality, pattern, frame, frame set, perception.

Imports nothing of the project, so that any room may import it.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

UNLABELLED = 255
"""Label-map value of a pixel nobody knows the class of; ignored by losses and metrics."""

AUDIO_RATE = 16_000
"""Sample rate of canonical audio, Hz."""

Array = npt.NDArray[np.generic]


class Modality(str, enum.Enum):
    """A kind of sensor; the order of definition is the order of bits in a `Pattern`."""

    RGB = "rgb"
    DEPTH = "depth"
    THERMAL = "thermal"
    AUDIO = "audio"

    def __str__(self) -> str:
        return self.value

    @property
    def position(self) -> int:
        """Position in `MODALITIES`: 0 rgb, 1 depth, 2 thermal, 3 audio."""
        return MODALITIES.index(self)

    @property
    def is_image(self) -> bool:
        """Whether the sensor sees pixels."""
        return self is not Modality.AUDIO


MODALITIES: tuple[Modality, ...] = tuple(Modality)
IMAGE_MODALITIES: tuple[Modality, ...] = tuple(m for m in MODALITIES if m.is_image)


class Reason(str, enum.Enum):
    """Why a sensor is not part of a `FrameSet`."""

    NEVER_SEEN = "never seen"
    LATE = "late"
    FROZEN = "frozen"
    BLIND = "blind"
    ZERO_STAMP = "zero stamp"
    FUTURE_STAMP = "stamp from the future"
    BACKWARD_STAMP = "stamp went back"
    WRONG_ENCODING = "wrong encoding"
    BAD_DATA = "bad data"
    RECOVERING = "recovering"
    DISABLED = "disabled"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, order=True)
class Pattern:
    """A non-empty set of modalities, stored as a bitmask 1..15 (bit i = `MODALITIES[i]`).

    The bitmask is what exported graphs take as their `pattern` input and the row of the adapter bank.

    Raises:
        ValueError: the bitmask is outside 1..15.
    """

    bits: int

    def __post_init__(self) -> None:
        if not 1 <= self.bits < 1 << len(MODALITIES):
            msg = f"a pattern is a bitmask from 1 to {(1 << len(MODALITIES)) - 1}, got {self.bits!r}"
            raise ValueError(msg)

    @classmethod
    def of(cls, modalities: Iterable[Modality]) -> Pattern:
        """The pattern of these modalities; ValueError when there are none."""
        bits = 0
        for modality in modalities:
            bits |= 1 << modality.position
        return cls(bits)

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Read `rgb+thermal`, the form `str` prints."""
        try:
            return cls.of(Modality(name.strip()) for name in text.split("+"))
        except ValueError:
            known = ", ".join(m.value for m in MODALITIES)
            msg = f"a pattern is modalities joined by '+', out of {known}; got {text!r}"
            raise ValueError(msg) from None

    def __contains__(self, modality: Modality) -> bool:
        return bool(self.bits >> modality.position & 1)

    def __iter__(self) -> Iterator[Modality]:
        return (m for m in MODALITIES if m in self)

    def __len__(self) -> int:
        return self.bits.bit_count()

    def __str__(self) -> str:
        return "+".join(m.value for m in self)


def patterns_of(modalities: Iterable[Modality]) -> tuple[Pattern, ...]:
    """Every non-empty subset of `modalities`, richest first, then in the order of `MODALITIES`."""
    full = Pattern.of(modalities).bits
    subsets = [Pattern(bits) for bits in range(1, full + 1) if bits & full == bits]
    return tuple(sorted(subsets, key=lambda p: (-len(p), [m.position for m in p])))


ALL_PATTERNS: tuple[Pattern, ...] = patterns_of(MODALITIES)


@dataclass(frozen=True)
class SensorFrame:
    """One measurement in canonical units.

    Attributes:
        modality: which sensor.
        data: rgb uint8 (H, W, 3), order R G B | depth float32 (H, W), metres, NaN = invalid |
            thermal float32 (H, W), kelvin, NaN = no measurement, or grey value 0..255 when not
            `radiometric` |
            audio float32 (n,), 16 kHz mono in [-1, 1], oldest sample first.
        stamp_ns: time of the measurement, ns; for audio the time of the first sample.
        frame_id: coordinate frame it was taken in.
        radiometric: False for a thermal picture whose grey values are not temperatures.
    """

    modality: Modality
    data: Array
    stamp_ns: int
    frame_id: str = ""
    radiometric: bool = True

    @property
    def end_ns(self) -> int:
        """Time the measurement ended, ns: an image's stamp, the end of the last sample of sound."""
        if self.modality is not Modality.AUDIO:
            return self.stamp_ns
        return self.stamp_ns + len(self.data) * 1_000_000_000 // AUDIO_RATE


@dataclass(frozen=True)
class FrameSet:
    """What the synchronizer hands on at one instant.

    Attributes:
        pattern: the modalities in `frames`.
        frames: newest good frame of every modality that is alive.
        reference: the modality whose stamp and frame_id the output carries.
        header_age_ns: per modality in `frames`, now minus the end of its measurement (`SensorFrame.end_ns`).
        arrival_age_ns: per modality in `frames`, steady time since the frame arrived.
        absent: for every other modality, why it is not there.
    """

    pattern: Pattern
    frames: Mapping[Modality, SensorFrame]
    reference: Modality
    header_age_ns: Mapping[Modality, int] = field(default_factory=dict)
    arrival_age_ns: Mapping[Modality, int] = field(default_factory=dict)
    absent: Mapping[Modality, Reason] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if set(self.frames) != set(self.pattern):
            names = [m.value for m in self.frames]
            msg = f"the frames of a {self.pattern} frame set are its modalities, got {names}"
            raise ValueError(msg)
        if self.reference not in self.frames:
            msg = f"the reference of a frame set is one of {self.pattern}, got {self.reference}"
            raise ValueError(msg)

    @property
    def stamp_ns(self) -> int:
        """Stamp of the reference frame, ns."""
        return self.frames[self.reference].stamp_ns

    @property
    def frame_id(self) -> str:
        """Coordinate frame of the reference frame."""
        return self.frames[self.reference].frame_id


@dataclass(frozen=True)
class Perception:
    """What the engine says about one `FrameSet`.

    Attributes:
        frame_set: what it was made from: pattern, ages, reasons.
        label_map: uint8 (H, W), class index, 255 = unlabelled.
        boxes: float32 (n, 4), [x1, y1, x2, y2] in pixels of `label_map`, best score first.
        scores: float32 (n,), in [0, 1].
        class_ids: int64 (n,), index into the model's class names.
        scene: float32 (k,), probability of each scene class in [0, 1]; they need not sum to one.
        confidence: mean over pixels of the winning class's probability.
        timings_ms: milliseconds of each step, `encode/rgb`, .., `fuse` and `decode`, and `total`: sensors are
            encoded side by side, and some ahead. A latent that was reused has no entry.
    """

    frame_set: FrameSet
    label_map: npt.NDArray[np.uint8]
    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    class_ids: npt.NDArray[np.int64]
    scene: npt.NDArray[np.float32]
    confidence: float
    timings_ms: Mapping[str, float] = field(default_factory=dict)
