"""The kinds of fault there are, what each takes, and one fault as a value; what they mean is in `script`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from robust_perception.faults.errors import FaultError
from robust_perception.vocabulary import IMAGE_MODALITIES, MODALITIES, Modality

Nature = Literal["arrival", "content"]
"""Whether a fault decides only if and when a frame arrives, or changes what is in it, its stamp included."""


@dataclass(frozen=True)
class Kind:
    """What a fault kind takes: the sensors it fits, its keys with lowest and highest value, its nature."""

    sensors: tuple[Modality, ...] = MODALITIES
    keys: tuple[tuple[str, float, float], ...] = ()
    nature: Nature = "content"


_PART = ("part", 0.0, 1.0)

KINDS: dict[str, Kind] = {
    "loss": Kind(nature="arrival"),
    "return": Kind(nature="arrival"),
    "flap": Kind(keys=(("period", 0.05, 3600.0), ("duty", 0.0, 1.0)), nature="arrival"),
    "drop": Kind(keys=(_PART,), nature="arrival"),
    "delay": Kind(keys=(("seconds", 0.0, 60.0),), nature="arrival"),
    "jitter": Kind(keys=(("seconds", 0.0, 60.0),), nature="arrival"),
    "reorder": Kind(keys=(_PART, ("seconds", 0.0, 60.0)), nature="arrival"),
    "freeze": Kind(),
    "freeze_stamp": Kind(),
    "clock": Kind(keys=(("seconds", -3600.0, 3600.0),)),
    "noise": Kind(keys=(("sigma", 0.0, 255.0),)),
    "darkness": Kind((Modality.RGB,), (("gain", 0.0, 1.0),)),
    "overexposure": Kind((Modality.RGB,), (("gain", 1.0, 1000.0),)),
    "smoke": Kind(IMAGE_MODALITIES, (("density", 0.0, 10.0),)),
    "dead_rows": Kind(IMAGE_MODALITIES, (_PART,)),
    "holes": Kind((Modality.DEPTH,), (_PART,)),
    "shutter": Kind((Modality.THERMAL,), (("period", 0.05, 3600.0), ("seconds", 0.0, 3600.0))),
    "drift": Kind((Modality.THERMAL,), (("kelvin", -100.0, 100.0), ("seconds", 0.0, 3600.0))),
    "clipping": Kind((Modality.AUDIO,), (("gain", 1.0, 1000.0),)),
    "gaps": Kind((Modality.AUDIO,), (_PART,)),
}
"""Fault kind -> what it takes; `return` is an event without a window. What each does is told in `script`."""


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
