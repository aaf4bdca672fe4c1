"""A sensor that sends rubbish: named with what was expected and what came, and the others go on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from live_graph import Graph, Process, pattern_of, values
from sensors import Sensors, Spoil

from robust_perception.ros import images
from robust_perception.vocabulary import MODALITIES, Modality, Pattern

pytestmark = pytest.mark.ros

EVERYTHING = str(Pattern.of(MODALITIES))


def wrong_encoding(message: Any) -> Any:
    message.encoding = "yuv422"
    return message


def short(message: Any) -> Any:
    message.data = bytes(message.data)[:-100]
    return message


def depth_of(value: float) -> Spoil:
    def spoil(message: Any) -> Any:
        array = np.full((message.height, message.width), value, np.float32)
        changed = images.from_array(array, "32FC1")
        changed.header = message.header
        return changed

    return spoil


def specks(message: Any) -> Any:
    array = np.full((message.height, message.width), np.nan, np.float32)
    array.flat[np.random.default_rng().permutation(array.size)[: array.size // 50]] = 2.0
    changed = images.from_array(array, "32FC1")
    changed.header = message.header
    return changed


def zero_counts(message: Any) -> Any:
    message.data = bytes(len(message.data))
    return message


def zero_stamp(message: Any) -> Any:
    message.header.stamp.sec = message.header.stamp.nanosec = 0
    return message


def future_stamp(message: Any) -> Any:
    message.header.stamp.sec += 5
    return message


def odd_bytes(message: Any) -> Any:
    message.audio.data = bytes(message.audio.data)[:-1]
    return message


class SizeChanges:
    """Another size with every message."""

    def __init__(self) -> None:
        self._rows = 10

    def __call__(self, message: Any) -> Any:
        self._rows = 10 + (self._rows + 1) % 7
        message.height = self._rows
        message.data = bytes(message.data)[: self._rows * message.step]
        return message


RUBBISH = [
    (Modality.RGB, wrong_encoding, "wrong encoding", ("expected an encoding out of rgb8", "got 'yuv422'")),
    (Modality.RGB, short, "bad data", ("expected 18432 bytes (96x64 rgb8, step 288)", "got 18332")),
    (Modality.THERMAL, SizeChanges(), "bad data", ("size changed from 96x64 to 96x",)),
    (Modality.DEPTH, depth_of(float("nan")), "bad data", ("expected distances in metres", "0 or NaN")),
    (Modality.DEPTH, depth_of(0.0), "bad data", ("expected distances in metres", "0 or NaN")),
    (Modality.DEPTH, zero_counts, "bad data", ("expected distances in metres", "0 or NaN")),
    (Modality.DEPTH, specks, "blind", ("distances in 2.0% of the pixels", "depth.min_measured")),
    (Modality.DEPTH, zero_stamp, "zero stamp", ("the stamp is 0 ns",)),
    (Modality.THERMAL, future_stamp, "stamp from the future", ("ahead, at most 0.500 s is allowed",)),
    (
        Modality.AUDIO,
        odd_bytes,
        "bad data",
        ("expected a positive multiple of 2 bytes (S16LE 16000 Hz x1), got ",),
    ),
    (Modality.AUDIO, zero_stamp, "zero stamp", ("the stamp is 0 ns",)),
]


@pytest.fixture(scope="module")
def running(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Graph, Sensors, Process]]:
    """One graph for all cases: that it serves through all of them is part of the test."""
    with Graph(tmp_path_factory.mktemp("bad_input")) as live:
        process = live.start_fusion(tiny, "depth.min_measured:=0.05")
        with Sensors(live) as sensors:
            yield live, sensors, process


@pytest.mark.parametrize(
    ("modality", "spoil", "reason", "words"),
    RUBBISH,
    ids=[f"{m}-{r}-{i}" for i, (m, _, r, _) in enumerate(RUBBISH)],
)
def test_rubbish_is_named_and_the_others_go_on(
    modality: Modality,
    spoil: Spoil,
    reason: str,
    words: tuple[str, ...],
    running: tuple[Graph, Sensors, Process],
) -> None:
    live, sensors, process = running
    rest = str(Pattern.of(m for m in MODALITIES if m is not modality))
    before = live.wait_for("/fusion/presence", EVERYTHING, lambda m: pattern_of(m) == EVERYTHING, 10.0).at
    sensors.spoil(modality, spoil)
    try:
        status = live.diagnosis(modality, reason, lambda s: values(s)["reason"] == reason)
        assert status.level == DiagnosticStatus.WARN
        for part in words:
            assert part in status.message
        live.wait_for("/fusion/presence", rest, lambda m: pattern_of(m) == rest, 5.0, since=before)
    finally:
        sensors.spoil(modality, None)
    back = sensors.regain(modality)
    live.wait_for("/fusion/presence", EVERYTHING, lambda m: pattern_of(m) == EVERYTHING, 5.0, since=back)
    assert process.running
    log = [line for line in process.text().splitlines() if f" {modality}" in line and reason in line]
    assert log, f"expected a log line that names {modality} and {reason!r}:\n{process.text()[-2000:]}"


def test_new_size_for_good_is_taken(running: tuple[Graph, Sensors, Process]) -> None:
    live, sensors, process = running
    live.wait_for("/fusion/presence", EVERYTHING, lambda m: pattern_of(m) == EVERYTHING, 10.0)

    def half(message: Any) -> Any:
        array = np.array(images.to_array(message))[::2, ::2]
        changed = images.from_array(array, message.encoding)
        changed.header = message.header
        return changed

    since = sensors.regain(Modality.RGB)
    sensors.spoil(Modality.RGB, half)
    try:
        live.wait_for(
            "/fusion/segmentation",
            "a label map of the new size",
            lambda m: (m.width, m.height) == (48, 32) and m.header.frame_id == "rgb_frame",
            5.0,
            since=since,
        )
        assert "size changed from 96x64 to 48x32" in process.text()
    finally:
        sensors.spoil(Modality.RGB, None)
