"""A bag as a source of frames: messages decoded as the live graph decodes them, with no ROS installed.

Faults act on the recorded messages, as they do when a bag is replayed live.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from statistics import median
from typing import Any

from robust_perception.bags import types
from robust_perception.bags.arrivals import arrivals
from robust_perception.bags.errors import BagError
from robust_perception.bags.reader import BagReader, RawMessage, Topic
from robust_perception.bags.recorded_faults import RecordedFaults
from robust_perception.bags.sensor_topics import SENSOR_TOPICS, audio_info_topics
from robust_perception.bags.stamps import stamp_in
from robust_perception.bags.truth import Truth, TruthReader
from robust_perception.evaluation.stream import SECOND, Arrival
from robust_perception.faults.script import FaultScript
from robust_perception.runtime.audio import AudioFormat
from robust_perception.runtime.decoders import AudioDecoder, ImageDecoder, ImageUnits
from robust_perception.runtime.errors import MessageError
from robust_perception.vocabulary import MODALITIES, Modality, SensorFrame

LOOKED_AT = 200
"""Messages from which it is taken how far apart the clocks are."""

LOOKED_AT_EACH = 20
"""Messages of a sensor from which its period is taken."""


@dataclass(frozen=True)
class BagConfig:
    """How a bag is read.

    Attributes:
        topics: sensor -> topic, where it is not the usual one.
        units: what the counts of integer images mean.
        seconds: only the first so many; None = all.
        check_header_age: whether stamps are compared with the time of reception. Without, time is that of the
            stamps: as far behind the recorder's as makes the quickest message arrive at once.
        audio: how sound is stored; None = as the bag's AudioInfo says.
    """

    topics: Mapping[Modality, str] = field(default_factory=dict)
    units: ImageUnits = field(default_factory=ImageUnits)
    seconds: float | None = None
    check_header_age: bool = True
    audio: AudioFormat | None = None


class BagSource:
    """A bag as frames in time; opened anew for every pass.

    Args:
        path: folder or storage file.
        modalities: sensors of the model.
        class_names: the model's, for the truth in the bag.
        scene_names: the model's.
        config: how it is read.

    Attributes:
        topics: of the sensors that model and bag both have.
        modalities: these sensors.
        periods_s: per sensor, median seconds between its first messages.
        scene_names: the model's, when the bag has a truth about them.
        check_header_age: as the config has it.
        start_ns: when the recording begins, by the clock that the arrivals have.
        has_truth: whether the bag has any truth.
        damage: what is wrong with it, of which whatever can be read is played; empty = it is whole.
        unfit: see `Source`.
        said: what could not be done, in words.

    Raises:
        BagError: no bag, no sensor in it, a named topic missing or named for two sensors, a topic of another
            type.
    """

    def __init__(
        self,
        path: Path,
        modalities: Sequence[Modality],
        class_names: Sequence[str],
        scene_names: Sequence[str],
        config: BagConfig | None = None,
    ) -> None:
        self.path, self._config = path, config or BagConfig()
        self._class_names, self._scene_names = tuple(class_names), tuple(scene_names)
        self.check_header_age = self._config.check_header_age
        self.said: list[str] = []
        self.unfit: Mapping[Modality, str] = {}
        self._lost: set[Modality] = set()
        """Sensors that a fault of the newest pass may have silenced."""
        with BagReader(path) as bag:
            self.topics: Mapping[Modality, str] = self._find(bag, modalities)
            self.modalities = tuple(m for m in MODALITIES if m in self.topics)
            self.periods_s: Mapping[Modality, float] = _periods(bag, self.topics)
            self._behind_ns = 0 if self.check_header_age else _behind_ns(bag, self.topics)
            truth = TruthReader(bag, class_names, scene_names)
            self.has_truth = truth.known
            self.damage = bag.damage
            self._start_ns, self._end_ns = bag.start_ns, bag.end_ns
            self.start_ns = self._start_ns - self._behind_ns
            self._audio_info = self._find_audio_info(bag)
            self._there = sorted(topic.name for topic in bag.topics if topic.count)
            scene = any(topic.name == "/truth/scene" and topic.count for topic in bag.topics)
        self.scene_names = self._scene_names if scene else ()

    @property
    def seconds(self) -> float:
        """From the first message to the last that is played."""
        whole = (self._end_ns - self._start_ns) / SECOND
        return whole if self._config.seconds is None else min(whole, self._config.seconds)

    def arrivals(self, script: FaultScript, lead_s: float = 0.0) -> Iterator[Arrival]:
        """What arrives under a script, by time; BagError on a damaged bag."""
        decoders = self._decoders()
        sensors = {topic: modality for modality, topic in self.topics.items()}
        topics = [*sensors, *([self._audio_info] if self._audio_info else [])]
        last_ns = self._start_ns + round(self.seconds * SECOND)
        faults = RecordedFaults(script, sensors, lambda: self._config.units, self._say, self._config.audio)
        self.unfit = faults.unfit
        self._lost = {fault.sensor for fault in script.faults}
        if unreached := _unreached(script, self.seconds + lead_s):
            self._say(unreached)

        def alter(message: RawMessage, time_s: float) -> list[tuple[bytes, float]]:
            return faults(message, time_s + lead_s)

        with BagReader(self.path) as bag:
            played = (m for m in bag.messages(topics) if m.stamp_ns <= last_ns)
            for due in arrivals(played, self._start_ns, alter):
                message = types.deserialize(due.data, due.msgtype)
                time_ns = self.start_ns + due.offset_ns
                if due.topic == self._audio_info:
                    try:
                        decoders[Modality.AUDIO].describe(message)
                    except MessageError as error:  # refused, as in the live graph
                        yield Arrival(time_ns, error)
                    continue
                yield Arrival(time_ns, _decoded(decoders[sensors[due.topic]], message))

    def check_named(self, arrived: Collection[Modality], refused: Mapping[str, int]) -> None:
        """Find out after a pass whether sensors gave anything whose topics somebody has named.

        Args:
            arrived: the sensors of which a frame came.
            refused: why messages could not become frames, beginning with the sensor, and how often.

        Raises:
            BagError: one gave nothing, and no fault made it so.
        """
        for modality in self.modalities:
            named = modality in self._config.topics
            if not named or modality in arrived or modality in self._lost:
                continue
            why = [f"{count} x {text}" for text, count in refused.items() if text.startswith(f"{modality}: ")]
            msg = (
                f"{self.path}: {modality}: expected frames on {self.topics[modality]}, which was named for "
                f"it, got none in {self.seconds:.1f} s{''.join(f'; {text}' for text in why)}; "
                f"the bag has the topics {self._there}"
            )
            raise BagError(msg)

    def truths(self) -> Iterator[Truth]:
        """What was really there, by stamp; BagError on a truth that cannot be read."""
        with BagReader(self.path) as bag:
            yield from TruthReader(bag, self._class_names, self._scene_names, self._say)

    def _find(self, bag: BagReader, modalities: Sequence[Modality]) -> dict[Modality, str]:
        there = {topic.name: topic for topic in bag.topics if topic.count}
        found = {}
        named: dict[str, Modality] = {}
        for modality, name in self._config.topics.items():
            if name in named:
                msg = f"{bag.path}: expected one sensor on {name}, got {named[name]} and {modality}"
                raise BagError(msg)
            if modality in modalities:
                named[name] = modality
            else:
                self._say(f"{modality}: expected a sensor of the model, got none; {name} is not read")
        for modality in modalities:
            told = self._config.topics.get(modality)
            if told is not None and told not in there:
                msg = f"{bag.path}: {modality}: expected a topic out of {sorted(there)}, got {told!r}"
                raise BagError(msg)
            name = told or SENSOR_TOPICS[modality]
            if told is None and name in named and name in there:
                self._say(
                    f"{modality}: expected it on {name}, which was named for {named[name]}; it is left out, "
                    f"unless --topic {modality}=TOPIC says where it is"
                )
            elif name in there:
                _check_type(bag.path, modality, there[name])
                found[modality] = name
        if not found:
            usual = ", ".join(SENSOR_TOPICS[m] for m in modalities)
            msg = (
                f"{bag.path}: expected a topic of a sensor ({usual}), got {sorted(there)}; "
                "say which is which with --topic SENSOR=TOPIC"
            )
            raise BagError(msg)
        bag.messages(list(found.values()))  # says which topic has messages of several types
        return found

    def _find_audio_info(self, bag: BagReader) -> str | None:
        topic = self.topics.get(Modality.AUDIO)
        names = {t.name for t in bag.topics}
        wanted = () if topic is None else audio_info_topics(topic)
        return next((name for name in wanted if name in names), None)

    def _decoders(self) -> dict[Modality, Any]:
        units = self._config.units
        decoders: dict[Modality, Any] = {}
        for modality in self.modalities:
            if modality is Modality.AUDIO:
                decoders[modality] = AudioDecoder(self._config.audio, partial(self._note, modality))
            else:
                decoders[modality] = ImageDecoder(modality, lambda: units, partial(self._note, modality))
        return decoders

    def _note(self, modality: Modality, text: str) -> None:
        self._say(f"{modality}: {text}")

    def _say(self, text: str) -> None:
        if text not in self.said:
            self.said.append(text)


def _unreached(script: FaultScript, seconds: float) -> str:
    """Which windows of a script a recording is too short for, in words; empty when it is not."""
    ends = [until for fault in script.faults if (until := fault.until) < math.inf]
    never = {f"{f.kind} from {f.at:g} s": None for f in script.faults if f.at >= seconds}
    partly = {f"{f.kind} from {f.at:g} s": None for f in script.faults if f.at < seconds < f.until < math.inf}
    if not never and not partly:
        return ""
    words = [f"{how}: {', '.join(which)}" for how, which in (("never", never), ("in part", partly)) if which]
    last_s = max([*ends, *(fault.at for fault in script.faults)])
    where = Path(script.name).name
    return f"{where}: expected {last_s:g} s for all its faults, got {seconds:.1f} s; {'; '.join(words)}"


def _decoded(decoder: Any, message: Any) -> SensorFrame | MessageError:
    try:
        frame: SensorFrame = decoder.decode(message)
    except MessageError as error:
        return error
    return frame


def _check_type(path: Path, modality: Modality, topic: Topic) -> None:
    allowed = (types.IMAGE, types.COMPRESSED) if modality.is_image else (types.AUDIO,)
    if topic.msgtype not in allowed:
        msg = f"{path}: {topic.name}: expected {' or '.join(allowed)} for {modality}, got {topic.msgtype}"
        raise BagError(msg)


def _behind_ns(bag: BagReader, topics: Mapping[Modality, str]) -> int:
    """How far the clock of the stamps is behind the recorder's, if the quickest message took no time."""
    first = islice(bag.messages(list(topics.values())), LOOKED_AT)
    behind = (m.stamp_ns - stamp for m in first if (stamp := stamp_in(m.data)) > 0)
    return min(behind, default=0)


def _periods(bag: BagReader, topics: Mapping[Modality, str]) -> dict[Modality, float]:
    """Of each sensor by itself: a slow one may begin when others have sent hundreds of messages."""
    periods = {}
    for modality, topic in topics.items():
        stamps = [message.stamp_ns for message in islice(bag.messages([topic]), LOOKED_AT_EACH)]
        intervals = [b - a for a, b in pairwise(stamps)]
        if intervals:
            periods[modality] = median(intervals) / SECOND
    return periods
