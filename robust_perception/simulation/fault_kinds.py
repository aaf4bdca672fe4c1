"""The kinds of fault there are, what each takes, and one fault as a value; what they mean is in `faults`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from robust_perception.simulation.errors import FaultError
from robust_perception.vocabulary import IMAGE_MODALITIES, MODALITIES, Modality


@dataclass(frozen=True)
class Kind:
    """What a fault kind takes: the sensors it fits, and its keys with their lowest and highest value."""

    sensors: tuple[Modality, ...] = MODALITIES
    keys: tuple[tuple[str, float, float], ...] = ()


KINDS: dict[str, Kind] = {
    "loss": Kind(),
    "return": Kind(),
    "flap": Kind(keys=(("period", 0.05, 3600.0), ("duty", 0.0, 1.0))),
    "freeze": Kind(),
    "freeze_stamp": Kind(),
    "delay": Kind(keys=(("seconds", 0.0, 60.0),)),
    "noise": Kind(keys=(("sigma", 0.0, 255.0),)),
    "darkness": Kind(sensors=(Modality.RGB,), keys=(("gain", 0.0, 1.0),)),
    "smoke": Kind(sensors=IMAGE_MODALITIES, keys=(("density", 0.0, 10.0),)),
}
"""Fault kind -> what it takes; `return` is an event without a window."""


@dataclass(frozen=True)
class Fault:
    """One window of one sensor.

    Attributes:
        at: its start, seconds.
        until: its end, seconds, exclusive; infinite when nothing ends it.
        sensor: whose frames it acts on.
        kind: a key of `KINDS` but `return`.
        values: the kind's keys and their values.

    Raises:
        FaultError: any of them is out of range.
    """

    at: float
    until: float
    sensor: Modality
    kind: str
    values: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in KINDS or self.kind == "return":
            known = ", ".join(k for k in KINDS if k != "return")
            msg = f"fault: expected one of {known}, got {self.kind!r}"
            raise FaultError(msg)
        kind = KINDS[self.kind]
        if self.sensor not in kind.sensors:
            fits = ", ".join(m.value for m in kind.sensors)
            msg = f"sensor: expected one of {fits} for {self.kind}, got {self.sensor.value!r}"
            raise FaultError(msg)
        if not 0 <= self.at < math.inf:
            msg = f"at: expected seconds >= 0, got {self.at!r}"
            raise FaultError(msg)
        if not self.until > self.at:
            msg = f"until: expected seconds after at = {self.at:g}, got {self.until!r}"
            raise FaultError(msg)
        names = [name for name, _, _ in kind.keys]
        if sorted(self.values) != sorted(names):
            msg = f"{self.kind}: expected the keys {names}, got {sorted(self.values)}"
            raise FaultError(msg)
        for name, low, high in kind.keys:
            if not low <= self.values[name] <= high:
                msg = f"{name}: expected a number from {low:g} to {high:g}, got {self.values[name]!r}"
                raise FaultError(msg)

    def covers(self, t_s: float) -> bool:
        """Whether `t_s` lies in the window."""
        return self.at <= t_s < self.until

    def silences(self, t_s: float) -> bool:
        """Whether it lets nothing arrive at `t_s`."""
        if not self.covers(t_s):
            return False
        if self.kind == "flap":
            turn = (t_s - self.at) % self.values["period"] / self.values["period"]
            return turn < 1.0 - self.values["duty"]
        return self.kind == "loss"
