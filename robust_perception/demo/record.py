"""What was seen of a run of the graph, for the live table and for the judgement afterwards.

The monitor fills it from its own thread while the table reads. All times are ROS time in ns. An output comes
in three messages: presence, segmentation and scene. They bear one stamp, but a change of pattern may use the
same reference frame, hence the same stamp, twice: what belongs together is the n-th message of a stamp on
each topic.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from robust_perception.evaluation.segmentation import ConfusionMatrix
from robust_perception.vocabulary import MODALITIES, Modality, Pattern

TRUTHS_KEPT = 100
"""Instants whose true label map is kept for outputs still to come."""

LabelMap = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Output:
    """One output of the graph.

    Attributes:
        published_ns: when it was published.
        stamp_ns: stamp of its reference frame.
        turn: how many outputs had the same stamp before.
        pattern: what it was made from.
        measured_ns: per modality of the pattern, end of the measurement that was used.
        states: per modality, its state and reason in words.
        rates_hz: per modality, messages a second as the node sees them.
        latency_ms: from the end of the reference frame's measurement to the publication.
        inference_ms: spent in the model.
        quality: foreground mIoU against the true label map of its stamp, percent; None without one.
        scene_right: whether the scene classes above one half are the true ones; None when unknown.
    """

    published_ns: int
    stamp_ns: int
    turn: int
    pattern: Pattern
    measured_ns: Mapping[Modality, int]
    states: Mapping[Modality, str]
    rates_hz: Mapping[Modality, float]
    latency_ms: float
    inference_ms: float
    quality: float | None = None
    scene_right: bool | None = None


class Report(NamedTuple):
    """What `/diagnostics` said of the pattern."""

    at_ns: int
    error: bool
    text: str


@dataclass
class Evidence:
    """All of a run, as far as the promises need it.

    Attributes:
        arrivals: per modality, end of the measurement of every message, in order.
        outputs: in order of publication.
        reports: what `/diagnostics` said, in order.
        origin_ns: ROS time of second 0 of the fault script; None before the first truth.
        by_pattern: pixels by true and predicted class, over all outputs of a pattern.
    """

    arrivals: dict[Modality, list[int]] = field(default_factory=lambda: {m: [] for m in MODALITIES})
    outputs: list[Output] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)
    origin_ns: int | None = None
    by_pattern: dict[Pattern, ConfusionMatrix] = field(default_factory=dict)


class Record:
    """Gathers the evidence of a run. Any thread may call.

    Args:
        class_names: of the truth; when the model's differ, label maps are not compared.
    """

    def __init__(self, class_names: tuple[str, ...]) -> None:
        self.evidence = Evidence()
        self.comparable = True
        """False when the model speaks of other classes than the truth."""
        self.ready = threading.Event()
        """Set as soon as the node has said that it is active."""
        self._class_names = class_names
        self._lock = threading.Lock()
        self._truths: dict[int, LabelMap] = {}
        self._true_scenes: dict[int, frozenset[str]] = {}
        self._turns: dict[str, Counter[int]] = {}
        self._maps: dict[tuple[int, int], LabelMap] = {}
        self._scenes: dict[tuple[int, int], frozenset[str]] = {}

    def model_classes(self, names: tuple[str, ...]) -> None:
        """The node is active; what the model's label values mean."""
        self.comparable = names == self._class_names
        self.ready.set()

    def sensor(self, modality: Modality, end_ns: int) -> None:
        """A message of a sensor came."""
        with self._lock:
            self.evidence.arrivals[modality].append(end_ns)

    def truth(self, stamp_ns: int, label: LabelMap) -> None:
        """The true label map of an instant."""
        with self._lock:
            self._truths[stamp_ns] = label
            while len(self._truths) > TRUTHS_KEPT:
                del self._truths[next(iter(self._truths))]

    def true_scene(self, stamp_ns: int, names: frozenset[str]) -> None:
        """The scene classes present at an instant."""
        with self._lock:
            self._true_scenes[stamp_ns] = names

    def script_time(self, stamp_ns: int, time_s: float) -> None:
        """The time in the fault script at an instant."""
        with self._lock:
            if self.evidence.origin_ns is None:
                self.evidence.origin_ns = stamp_ns - round(time_s * 1e9)

    def diagnosis(self, at_ns: int, error: bool, text: str) -> None:
        """What `/diagnostics` says of the pattern."""
        with self._lock:
            self.evidence.reports.append(Report(at_ns, error, text))

    def label_map(self, stamp_ns: int, label_map: LabelMap) -> None:
        """The segmentation of an output."""
        with self._lock:
            self._maps[stamp_ns, self._turn("map", stamp_ns)] = label_map
            self._settle()

    def scene(self, stamp_ns: int, names: frozenset[str]) -> None:
        """The scene classes an output gives more than one half."""
        with self._lock:
            self._scenes[stamp_ns, self._turn("scene", stamp_ns)] = names
            self._settle()

    def output(self, *, stamp_ns: int, **said: Any) -> None:
        """The presence message of an output: fields of `Output` by name."""
        with self._lock:
            turn = self._turn("output", stamp_ns)
            self.evidence.outputs.append(Output(stamp_ns=stamp_ns, turn=turn, **said))
            self._settle()

    def snapshot(self) -> Evidence:
        """The evidence so far, in lists that nobody appends to."""
        with self._lock:
            seen = self.evidence
            arrivals = {m: list(ends) for m, ends in seen.arrivals.items()}
            outputs = sorted(seen.outputs, key=lambda output: output.published_ns)
            return Evidence(arrivals, outputs, list(seen.reports), seen.origin_ns, dict(seen.by_pattern))

    def _turn(self, topic: str, stamp_ns: int) -> int:
        counter = self._turns.setdefault(topic, Counter())
        counter[stamp_ns] += 1
        return counter[stamp_ns] - 1

    def _settle(self) -> None:
        """Compare the newest outputs with the truth as soon as all of their messages are there."""
        outputs = self.evidence.outputs
        for index in range(max(0, len(outputs) - 10), len(outputs)):
            output = outputs[index]
            key = output.stamp_ns, output.turn
            if key in self._maps:
                quality = self._quality(output.pattern, output.stamp_ns, self._maps.pop(key))
                output = replace(output, quality=quality)
            if key in self._scenes:
                output = replace(output, scene_right=self._scene_right(output, self._scenes.pop(key)))
            outputs[index] = output

    def _quality(self, pattern: Pattern, stamp_ns: int, predicted: LabelMap) -> float | None:
        truth = self._truths.get(stamp_ns)
        if truth is None or not self.comparable or truth.shape != predicted.shape:
            return None
        matrix = ConfusionMatrix(len(self._class_names))
        matrix.add(truth, predicted)
        total = self.evidence.by_pattern.setdefault(pattern, ConfusionMatrix(len(self._class_names)))
        total.counts += matrix.counts
        value = matrix.foreground_miou()
        return None if np.isnan(value) else value

    def _scene_right(self, output: Output, names: frozenset[str]) -> bool | None:
        if not self._true_scenes or not self.comparable:
            return None
        # Sound alone has a stamp of its own: the instant nearest to the end of what was heard is meant.
        heard_ns = output.measured_ns.get(Modality.AUDIO, output.stamp_ns)
        nearest = min(reversed(self._true_scenes), key=lambda stamp: abs(stamp - heard_ns))
        return self._true_scenes[nearest] == names
