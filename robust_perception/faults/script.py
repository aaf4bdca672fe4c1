"""Scripted faults: what happens to which sensor when, and the frames that come out of it.

A script is a list of windows in seconds since the start. The same script and the same frames give the same
result, live, from a bag, or at another speed: chance comes from the script's seed and the time in the script.

    script = FaultScript.load(Path("config/faults/demo.yaml"))
    for delivery in script.apply(frame, t_s=12.3):
        publish(delivery.frame, after=delivery.delay_s)

| fault        | keys            | effect                                                                |
|--------------|-----------------|-----------------------------------------------------------------------|
| loss         |                 | nothing arrives                                                       |
| return       |                 | ends every earlier fault of the sensor that has no `until`            |
| flap         | period, duty    | arrives during `duty` of every `period` seconds, lost first           |
| drop         | part            | so large a part of the frames never arrives                           |
| delay        | seconds         | arrives so much later, stamp unchanged                                |
| jitter       | seconds         | arrives up to so much later, each frame by another time               |
| reorder      | part, seconds   | a part of the frames arrives so much later, later ones overtake them  |
| freeze       |                 | the window's first content repeated under live stamps                 |
| freeze_stamp |                 | the window's first frame repeated, stamp included                     |
| clock        | seconds         | the sensor's clock is ahead by so much (negative: behind)             |
| noise        | sigma           | Gaussian noise: counts (rgb), metres, kelvin, or full scale 1 (audio) |
| darkness     | gain            | rgb: light times `gain` <= 1, noise of the camera unchanged           |
| overexposure | gain            | rgb: light times `gain` >= 1, cut off at white                        |
| smoke        | density         | rgb veiled, depth loses returns, thermal flattened a little; per metre |
| dead_rows    | part            | rgb, depth, thermal: a part of the rows reads nothing                 |
| holes        | part            | depth: patches without distance, a part of the picture                |
| shutter      | period, seconds | thermal: content stands still for the first `seconds` of each `period` |
| drift        | kelvin, seconds | thermal: off by `kelvin`, growing over the first `seconds`            |
| clipping     | gain            | audio: so much louder, cut off at full scale                          |
| gaps         | part            | audio: a part of the stretches of 20 ms is silent                     |

Windows of one sensor may overlap; they act in the order of the script, delays add up.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from robust_perception.faults import arrival
from robust_perception.faults.effects import EFFECTS
from robust_perception.faults.errors import FaultError
from robust_perception.faults.file import parse
from robust_perception.faults.kinds import KINDS, Fault, Kind
from robust_perception.faults.moment import Moment
from robust_perception.vocabulary import Modality, SensorFrame

__all__ = ["KINDS", "Delivery", "Fault", "FaultScript", "Kind"]


_HOLDING = ("freeze", "freeze_stamp", "shutter")
"""Kinds that repeat a frame."""


class _Held(NamedTuple):
    turn: int
    frame: SensorFrame


class Delivery(NamedTuple):
    """A frame that arrives, and how many seconds later than it would have."""

    frame: SensorFrame
    delay_s: float


class FaultScript:
    """A schedule of faults, to be applied to every frame on its way.

    It remembers nothing but the frame that each freeze window in progress repeats, so times may jump, as they
    do when a bag starts over, and which sensors it has met.

    Args:
        faults: the windows, in the order in which they act.
        seed: of everything that is left to chance, >= 0.
        name: where it came from, for messages.

    Attributes:
        met: the sensors on whose frames it has acted since the start or the last `reset`.

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
        self.met: set[Modality] = set()
        self._held: dict[int, _Held] = {}

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
    def in_words(self) -> str:
        """What a message adds where nothing came of a source: ` under the faults of NAME`, or nothing."""
        return f" under the faults of {self.name}" if self.faults else ""

    @property
    def end_s(self) -> float:
        """When the last window ends; infinite when one never does, 0 without faults."""
        return max((fault.until for fault in self.faults), default=0.0)

    def silent(self, t_s: float) -> frozenset[Modality]:
        """The sensors of which nothing arrives at `t_s`, because of a loss, a flap or a drop."""
        return frozenset(
            fault.sensor
            for index, fault in enumerate(self.faults)
            if fault.covers(t_s) and arrival.lost(fault, Moment(self.seed, index, t_s, t_s - fault.at))
        )

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

    def apply(self, frame: SensorFrame, t_s: float, content: bool = True) -> list[Delivery]:
        """What arrives of this frame.

        Args:
            frame: as measured; never written to.
            t_s: when it was measured, seconds since the start of the script.
            content: whether faults of content act; without, only those that decide if and when it arrives.

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
            arrives = KINDS[fault.kind].nature == "arrival"
            if not (arrives or content):
                continue
            self.met.add(frame.modality)
            moment = Moment(self.seed, index, t_s, t_s - fault.at)
            if arrives:
                lost = lost or arrival.lost(fault, moment)
                delay += arrival.delay_s(fault, moment)
            elif fault.kind in _HOLDING:
                frame = self._held_frame(index, fault, frame, moment.since_s)
            elif fault.kind == "clock":
                frame = replace(frame, stamp_ns=frame.stamp_ns + round(fault.values["seconds"] * 1e9))
            else:
                frame = replace(frame, data=EFFECTS[fault.kind](frame, fault.values, moment))
        return [] if lost else [Delivery(frame, delay)]

    def _held_frame(self, index: int, fault: Fault, frame: SensorFrame, since_s: float) -> SensorFrame:
        """The frame that a window repeats instead of this one."""
        turn = 0
        if fault.kind == "shutter":
            turn = int(since_s // fault.values["period"])
            if since_s - turn * fault.values["period"] >= fault.values["seconds"]:
                return frame
        held = self._held.get(index)
        if held is None or held.turn != turn:
            held = self._held[index] = _Held(turn, frame)
        return held.frame if fault.kind == "freeze_stamp" else replace(held.frame, stamp_ns=frame.stamp_ns)

    def reset(self) -> None:
        """Forget the frames that freeze windows hold, and whom it has met."""
        self._held.clear()
        self.met.clear()
