"""Settings of presence: one dataclass for a sensor, one for the synchronizer. All times in nanoseconds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from robust_perception.presence.errors import ConfigError
from robust_perception.vocabulary import Modality

MILLISECOND = 1_000_000
SECOND = 1_000_000_000


TIMEOUTS_S = {Modality.RGB: 0.3, Modality.DEPTH: 0.3, Modality.THERMAL: 0.3, Modality.AUDIO: 0.5}
"""Seconds; three periods of a 10 Hz camera, five of sound in chunks of 0.1 s."""


def timeouts_s(periods_s: Mapping[Modality, float]) -> dict[Modality, float]:
    """Seconds: those of the package, or three periods of slower sensors, as config/fusion.yaml advises.

    Args:
        periods_s: per sensor, seconds between two of its frames; one that is missing is not slow.
    """
    return {m: max(default, 3.0 * periods_s.get(m, 0.0)) for m, default in TIMEOUTS_S.items()}


def _at_least(owner: str, name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{owner}.{name}", f"a whole number of at least {least}", value)


@dataclass(frozen=True)
class SensorConfig:
    """When one sensor counts as alive.

    Raises:
        ConfigError: a value is outside its range.
    """

    modality: Modality
    """Which sensor."""
    timeout_ns: int
    """Oldest a frame may be, by header (ROS time) and by arrival (steady time)."""
    frozen_after_ns: int = SECOND
    """Longest that content may stay identical, to the byte, from frame to frame; 0 switches the check off."""
    least_shown: float = 0.0
    """Least that an image must show not to be blind, in its sensor's unit (`blindness`); 0 takes all."""
    future_tolerance_ns: int = 500 * MILLISECOND
    """How far a stamp may lie ahead of the node's clock; covers clock skew and a coarse `/clock`."""
    recover_frames: int = 2
    """Good frames in a row that bring a lost sensor back."""
    recover_within_ns: int = 0
    """Longest pause between two of those frames; 0 means the timeout."""
    resume_frames: int = 3
    """Frames in a row on an earlier but running timeline after which it is accepted (a bag that loops)."""
    flap_losses: int = 3
    """Losses within `flap_window_ns` that are still forgiven; one more and the sensor is held back."""
    flap_window_ns: int = 5 * SECOND
    """Window in which losses are counted."""
    flap_hold_ns: int = 2 * SECOND
    """How long a sensor held back must deliver without a break before it is alive again."""
    check_header_age: bool = True
    """False compares no stamp with the node's clock: for sensors, or bags, that live in another time."""
    enabled: bool = True
    """Whether the sensor takes part from the start."""

    def __post_init__(self) -> None:
        if not isinstance(self.modality, Modality):
            raise ConfigError("SensorConfig.modality", "a Modality", self.modality)
        owner = f"SensorConfig({self.modality.value})"
        for name in ("timeout_ns", "recover_frames", "resume_frames"):
            _at_least(owner, name, getattr(self, name), 1)
        for name in ("frozen_after_ns", "future_tolerance_ns", "recover_within_ns"):
            _at_least(owner, name, getattr(self, name), 0)
        for name in ("flap_losses", "flap_window_ns", "flap_hold_ns"):
            _at_least(owner, name, getattr(self, name), 0)
        if not 0.0 <= self.least_shown < math.inf:
            raise ConfigError(f"{owner}.least_shown", "a number of at least 0", self.least_shown)

    @property
    def pause_ns(self) -> int:
        """Longest pause between two frames of one recovery, ns."""
        return self.recover_within_ns or self.timeout_ns


@dataclass(frozen=True)
class SynchronizerConfig:
    """Which sensors there are and when their frames make a frame set.

    Raises:
        ConfigError: no sensor, a sensor twice, or a policy no set of these sensors can meet.
    """

    sensors: tuple[SensorConfig, ...]
    """One entry a sensor; a modality without an entry is absent as `disabled`."""
    gather_ns: int = 20 * MILLISECOND
    """How long the first new frame waits for frames that are about to come."""
    reference_order: tuple[Modality, ...] = (Modality.RGB, Modality.DEPTH, Modality.THERMAL, Modality.AUDIO)
    """The reference is the first of these that is present; modalities left out come last."""
    required_any: tuple[Modality, ...] = ()
    """At least one of these must be alive; empty asks for none."""
    min_modalities: int = 1
    """Fewest sensors alive that may give output."""
    clock_back_ns: int = 100 * MILLISECOND
    """A node clock that falls back by more than this has been reset, as by a looping bag."""
    clock_leap_ns: int = SECOND
    """A node clock that gains more than this on the steady clock between two calls has leapt forward."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "sensors", tuple(self.sensors))
        object.__setattr__(self, "reference_order", tuple(self.reference_order))
        object.__setattr__(self, "required_any", tuple(self.required_any))
        modalities = [sensor.modality for sensor in self.sensors]
        names = [m.value for m in modalities]
        if not modalities or len(set(modalities)) != len(modalities):
            raise ConfigError("SynchronizerConfig.sensors", "each sensor once, and at least one", names)
        if not set(self.required_any) <= set(modalities):
            got = [str(m) for m in self.required_any]
            raise ConfigError("SynchronizerConfig.required_any", f"sensors out of {names}", got)
        if len(set(self.reference_order)) != len(self.reference_order):
            got = [str(m) for m in self.reference_order]
            raise ConfigError("SynchronizerConfig.reference_order", "each modality at most once", got)
        for name in ("gather_ns", "clock_back_ns", "clock_leap_ns"):
            _at_least("SynchronizerConfig", name, getattr(self, name), 0)
        _at_least("SynchronizerConfig", "min_modalities", self.min_modalities, 1)
        if self.min_modalities > len(modalities):
            expected = f"at most {len(modalities)}, the number of sensors"
            raise ConfigError("SynchronizerConfig.min_modalities", expected, self.min_modalities)
