"""Recorded frames as they arrive, and the truth beside them: out of a bag, or a data folder as a slide show.

Both are a `Source`, so that what plays one plays the other. A data folder has no time: each of its frames is
shown for `hold_s` seconds at `rate_hz`, all sensors at one instant, and then the next one; the truth changes
with it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

from robust_perception.bags.dataset import truth_of
from robust_perception.bags.truth import Truth
from robust_perception.datasets import FIRST_STAMP_NS, FolderDataset, Sample
from robust_perception.faults.script import FaultScript
from robust_perception.runtime.errors import MessageError
from robust_perception.vocabulary import Modality, SensorFrame

SECOND = 1_000_000_000


class Arrival(NamedTuple):
    """A message that arrives: a frame, or why it could not become one."""

    time_ns: int
    frame: SensorFrame | MessageError


class Source(Protocol):
    """Frames in time.

    Attributes:
        modalities: the sensors it has.
        periods_s: per sensor, seconds between two of its frames; missing where nobody can tell.
        scene_names: scene classes of the truth.
        check_header_age: whether stamps are held against the time of arrival.
        unfit: why frames could not have faults of content in the newest pass, by sensor.
        start_ns: its time 0, that of a script without a lead: no frame arrives before.
    """

    modalities: tuple[Modality, ...]
    periods_s: Mapping[Modality, float]
    check_header_age: bool
    scene_names: tuple[str, ...]
    start_ns: int
    unfit: Mapping[Modality, str]

    @property
    def seconds(self) -> float:
        """From `start_ns` to the end."""

    def arrivals(self, script: FaultScript, lead_s: float = 0.0) -> Iterator[Arrival]:
        """What arrives under a script, by time; the script is `lead_s` old at `start_ns`."""

    def truths(self) -> Iterator[Truth]:
        """What was really there, by stamp."""


class Slides:
    """Frames of a data folder, one after the other; see the head of this file.

    Args:
        dataset: the split.
        indices: of the samples, in the order in which they are shown.
        rate_hz: frames a second of each sensor.
        hold_s: seconds that each sample is shown.
        repeat: how often the whole is shown.
        modalities: sensors that are shown; None = all of the split.
        keep: samples that are kept decoded.
    """

    def __init__(
        self,
        dataset: FolderDataset,
        indices: Sequence[int],
        rate_hz: float = 10.0,
        hold_s: float = 1.0,
        repeat: int = 1,
        modalities: Sequence[Modality] | None = None,
        keep: int = 1,
    ) -> None:
        self._dataset, self._indices = dataset, [i for _ in range(repeat) for i in indices]
        self._period_ns = round(SECOND / rate_hz)
        self._times = max(1, round(hold_s * rate_hz))
        self.modalities = tuple(m for m in dataset.modalities if modalities is None or m in modalities)
        self.periods_s: Mapping[Modality, float] = dict.fromkeys(self.modalities, 1.0 / rate_hz)
        self.scene_names = dataset.scene_names
        self.check_header_age = True
        self.start_ns = FIRST_STAMP_NS
        self.unfit: Mapping[Modality, str] = {}
        self._keep = keep
        self._kept: OrderedDict[int, Sample] = OrderedDict()

    @property
    def seconds(self) -> float:
        """From the first arrival to the last."""
        return (len(self._indices) * self._times - 1) * self._period_ns / SECOND

    def arrivals(self, script: FaultScript, lead_s: float = 0.0) -> Iterator[Arrival]:
        """What arrives under a script, by time."""
        late: list[Arrival] = []
        for step, index in enumerate(self._indices):
            sample = self._sample(index)
            for turn in range(self._times):
                time_ns = FIRST_STAMP_NS + (step * self._times + turn) * self._period_ns
                due = [arrival for arrival in late if arrival.time_ns <= time_ns]
                late = [arrival for arrival in late if arrival.time_ns > time_ns]
                yield from sorted(due, key=lambda arrival: arrival.time_ns)
                shift_ns = time_ns - FIRST_STAMP_NS - index * SECOND
                for modality in self.modalities:
                    if modality not in sample.frames:
                        continue
                    frame = sample.frames[modality]
                    frame = replace(frame, stamp_ns=frame.stamp_ns + shift_ns)
                    time_s = (time_ns - FIRST_STAMP_NS) / SECOND + lead_s
                    for delivery in script.apply(frame, time_s):
                        arrival = Arrival(time_ns + round(delivery.delay_s * SECOND), delivery.frame)
                        if delivery.delay_s > 0:
                            late.append(arrival)
                        else:
                            yield arrival
        yield from sorted(late, key=lambda arrival: arrival.time_ns)

    def truths(self) -> Iterator[Truth]:
        """What was really there: one truth a sample."""
        for step, index in enumerate(self._indices):
            stamp_ns = FIRST_STAMP_NS + step * self._times * self._period_ns
            yield truth_of(self._dataset, self._dataset.names[index], stamp_ns)

    def _sample(self, index: int) -> Sample:
        # The same arrays for the same sample: by them an engine knows what it has seen already.
        if index not in self._kept:
            self._kept[index] = self._dataset[index]
            while len(self._kept) > self._keep:
                self._kept.popitem(last=False)
        return self._kept[index]


class TruthNow:
    """The truth of a moment: that of the newest instant not after it, and not older than `oldest_s`.

    An output is held against the moment at which it comes out. A picture that is late or frozen is compared
    with what is there by now, for that is what the robot acts in.

    Args:
        truths: by stamp.
        oldest_s: beyond this the truth is of another moment.
    """

    def __init__(self, truths: Iterator[Truth], oldest_s: float) -> None:
        self._truths = truths
        self._oldest_ns = round(oldest_s * SECOND)
        self._current: Truth | None = None
        self._next = next(truths, None)

    def at(self, time_ns: int) -> Truth | None:
        """The truth at a time; times must not go back."""
        while self._next is not None and self._next.stamp_ns <= time_ns:
            self._current, self._next = self._next, next(self._truths, None)
        current = self._current
        return current if current and time_ns - current.stamp_ns <= self._oldest_ns else None
