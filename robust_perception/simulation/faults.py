"""Scripted faults: what happens to which sensor when, and the frames that come out of it.

A script is a list of windows in seconds since the start. The same script and the same frames give the same
result, live, from a bag, or at another speed: chance comes from the script's seed and the time in the script.

    script = FaultScript.load(Path("config/faults/demo.yaml"))
    for delivery in script.apply(frame, t_s=12.3):
        publish(delivery.frame, after=delivery.delay_s)

| fault        | keys           | effect                                                                 |
|--------------|----------------|------------------------------------------------------------------------|
| loss         |                | nothing arrives                                                        |
| return       |                | ends every earlier fault of the sensor that has no `until`             |
| flap         | period, duty   | arrives during `duty` of every `period` seconds, lost first            |
| freeze       |                | the window's first content repeated under live stamps                  |
| freeze_stamp |                | the window's first frame repeated, stamp included                      |
| delay        | seconds        | arrives so much later, stamp unchanged                                 |
| noise        | sigma          | Gaussian noise: counts (rgb), metres, kelvin, or full scale 1 (audio)  |
| darkness     | gain           | rgb only: light times `gain`, noise of the camera unchanged            |
| smoke        | density        | rgb veiled, depth loses returns, thermal flattened a little; per metre |

Windows of one sensor may overlap; they act in the order of the script, delays add up.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from robust_perception.simulation import fault_effects
from robust_perception.simulation.errors import FaultError
from robust_perception.simulation.fault_file import parse
from robust_perception.simulation.fault_kinds import KINDS, Fault, Kind
from robust_perception.vocabulary import Modality, SensorFrame

__all__ = ["KINDS", "Delivery", "Fault", "FaultScript", "Kind"]


class Delivery(NamedTuple):
    """A frame that arrives, and how many seconds later than it would have."""

    frame: SensorFrame
    delay_s: float


class FaultScript:
    """A schedule of faults, to be applied to every frame on its way.

    It remembers nothing but the frame that each freeze window in progress repeats, so times may jump, as they
    do when a bag starts over.

    Args:
        faults: the windows, in the order in which they act.
        seed: of noise and smoke, >= 0.
        name: where it came from, for messages.

    Raises:
        FaultError: the seed is negative.
    """

    def __init__(self, faults: Iterable[Fault] = (), seed: int = 0, name: str = "no faults") -> None:
        if seed < 0:
            msg = f"{name}: seed: expected an integer >= 0, got {seed}"
            raise FaultError(msg)
        self.faults = tuple(faults)
        self.seed = seed
        self.name = name
        self._held: dict[int, SensorFrame] = {}

    @classmethod
    def load(cls, path: Path | str) -> FaultScript:
        """Read a script; FaultError names file, line, key, what was expected and what came."""
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            msg = f"{path}: expected a readable YAML file with 'faults', got {error}"
            raise FaultError(msg) from None
        faults, seed = parse(text, str(path))
        return cls(faults, seed, str(path))

    @property
    def end_s(self) -> float:
        """When the last window ends; infinite when one never does, 0 without faults."""
        return max((fault.until for fault in self.faults), default=0.0)

    def silent(self, t_s: float) -> frozenset[Modality]:
        """The sensors of which nothing arrives at `t_s`, because of a loss or a flap."""
        return frozenset(fault.sensor for fault in self.faults if fault.silences(t_s))

    def active(self, t_s: float) -> tuple[Fault, ...]:
        """The windows that cover `t_s`, in order."""
        return tuple(fault for fault in self.faults if fault.covers(t_s))

    def losses(self, sensor: Modality) -> tuple[tuple[float, float], ...]:
        """Start and end of every stretch in which `loss` silences this sensor, joined where they touch."""
        windows = sorted((f.at, f.until) for f in self.faults if f.sensor is sensor and f.kind == "loss")
        joined: list[tuple[float, float]] = []
        for start, end in windows:
            if joined and start <= joined[-1][1]:
                joined[-1] = (joined[-1][0], max(joined[-1][1], end))
            else:
                joined.append((start, end))
        return tuple(joined)

    def apply(self, frame: SensorFrame, t_s: float) -> list[Delivery]:
        """What arrives of this frame.

        Args:
            frame: as measured; never written to.
            t_s: when it was measured, seconds since the start of the script.

        Returns:
            Nothing, or one delivery.
        """
        delay = 0.0
        lost = False
        for index, fault in enumerate(self.faults):
            if fault.sensor is not frame.modality:
                continue
            if not fault.covers(t_s):
                self._held.pop(index, None)
                continue
            if fault.kind in ("freeze", "freeze_stamp"):
                held = self._held.setdefault(index, frame)
                frame = held if fault.kind == "freeze_stamp" else replace(held, stamp_ns=frame.stamp_ns)
            elif fault.kind == "delay":
                delay += fault.values["seconds"]
            elif fault.kind in ("loss", "flap"):
                lost = lost or fault.silences(t_s)
            else:
                rng = np.random.default_rng([self.seed, index, max(round(t_s * 1e6), 0)])
                effect = fault_effects.EFFECTS[fault.kind]
                (amount,) = fault.values.values()
                frame = replace(frame, data=effect(frame, amount, t_s, rng))
        return [] if lost else [Delivery(frame, delay)]

    def reset(self) -> None:
        """Forget the frames that freeze windows hold."""
        self._held.clear()
