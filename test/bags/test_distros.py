"""Bags in the shape of Humble's, Jazzy's and Kilted's `ros2 bag` are read, message for message."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import distro_bags
import numpy as np
import pytest
from distro_bags import Shape

from robust_perception.bags import types
from robust_perception.bags.dataset import audio, audio_info, image
from robust_perception.bags.errors import BagError
from robust_perception.bags.reader import BagReader, RawMessage
from robust_perception.evaluation.bag_source import BagSource
from robust_perception.faults.script import FaultScript
from robust_perception.vocabulary import Modality

START, STEP = 1_700_000_000_123_456_789, 100_000_000
SHAPES = [
    Shape(*values)
    for values in product(("humble", "jazzy", "kilted"), ("sqlite3", "mcap"), ("", "FILE", "MESSAGE"))
]
OWN_TYPE = "somebody_msgs/msg/Own"


def recorded() -> list[RawMessage]:
    """Two sensors of 10 Hz, a latched description, and a type that nobody here knows."""
    sound = np.arange(1600, dtype="<i2").tobytes()
    messages = [RawMessage("/audio_info", types.AUDIO_INFO, audio_info(), START)]
    for i in range(6):
        stamp = START + i * STEP
        pixels = np.full((4, 6, 3), 20 * i, np.uint8)
        messages += [
            RawMessage("/rgb/image", types.IMAGE, image(pixels, "rgb8", stamp, "camera"), stamp),
            RawMessage("/audio", types.AUDIO, audio(sound, stamp - STEP, "microphone"), stamp),
            RawMessage("/own", OWN_TYPE, b"\0\1\0\0" + bytes([i]), stamp),
        ]
    return messages


@pytest.mark.parametrize("shape", SHAPES, ids="-".join)
def test_it_is_read_message_for_message(shape: Shape, tmp_path: Path) -> None:
    written = recorded()
    distro_bags.write(tmp_path / "bag", shape, written, latched=["/audio_info"], files=2)
    with BagReader(tmp_path / "bag") as bag:
        assert sorted(bag.messages()) == sorted(written)
        assert [m.stamp_ns for m in bag.messages()] == sorted(m.stamp_ns for m in written)
        assert (bag.start_ns, bag.end_ns, bag.message_count) == (START, START + 5 * STEP, len(written))
        topics = {topic.name: topic for topic in bag.topics}
    assert {name: topic.count for name, topic in topics.items()} == {
        "/audio": 6,
        "/audio_info": 1,
        "/own": 6,
        "/rgb/image": 6,
    }
    assert [name for name, topic in topics.items() if topic.latched] == ["/audio_info"]
    for topic in topics.values():
        assert topic.type_hash == (distro_bags.type_hash(topic.msgtype) if shape.new else "")
    described = "uint32 height" in topics["/rgb/image"].definition
    assert described == (shape.new or shape.storage == "mcap"), "Humble's sqlite3 has no definitions"
    assert topics["/own"].definition == ("uint8 value\n" if described else "")


@pytest.mark.parametrize("shape", [s for s in SHAPES if s.compression != "FILE"], ids="-".join)
def test_its_frames_are_those_that_were_recorded(shape: Shape, tmp_path: Path) -> None:
    distro_bags.write(tmp_path / "bag", shape, recorded(), latched=["/audio_info"])
    source = BagSource(tmp_path / "bag", tuple(Modality), (), ())
    assert source.modalities == (Modality.RGB, Modality.AUDIO)
    assert source.periods_s[Modality.RGB] == pytest.approx(0.1)
    frames = [arrival.frame for arrival in source.arrivals(FaultScript())]
    seen = [f.data[0, 0, 0] for f in frames if f.modality is Modality.RGB]  # type: ignore[union-attr]
    assert seen == [20 * i for i in range(6)]


@pytest.mark.parametrize("shape", [s for s in SHAPES if s.compression != "MESSAGE"], ids="-".join)
def test_a_single_file_of_it_is_read_too(shape: Shape, tmp_path: Path) -> None:
    written = recorded()
    distro_bags.write(tmp_path / "bag", shape, written, latched=["/audio_info"])
    (file,) = (path for path in (tmp_path / "bag").iterdir() if path.suffix != ".yaml")
    with BagReader(file) as bag:
        assert sorted(bag.messages()) == sorted(written)
        assert [topic.name for topic in bag.topics if topic.latched] == ["/audio_info"]


@pytest.mark.parametrize("shape", [s for s in SHAPES if not s.compression], ids="-".join)
def test_a_type_whose_definition_the_recorder_missed(shape: Shape, tmp_path: Path) -> None:
    written = [
        RawMessage("/rgb/image", types.IMAGE, image(np.zeros((4, 4), np.uint8), "mono8", START, "c"), START),
        RawMessage("/lost", "lost_msgs/msg/Lost", b"\0\1\0\0x", START + 1),
    ]
    distro_bags.write(tmp_path / "bag", shape, written)
    for path in (tmp_path / "bag", next((tmp_path / "bag").glob("bag_0.*"))):
        with BagReader(path) as bag:
            assert list(bag.messages()) == written
            assert (bag.start_ns, bag.end_ns, bag.message_count) == (START, START + 1, 2)
            topics = {topic.name: topic for topic in bag.topics}
        assert topics["/lost"].definition == ""
        described = shape.new or shape.storage == "mcap"
        assert ("uint32 height" in topics["/rgb/image"].definition) == described
        if path.suffix != ".mcap":  # of a single one the library does not tell
            assert topics["/lost"].type_hash == (
                distro_bags.type_hash("lost_msgs/msg/Lost") if shape.new else ""
            )


def test_definitions_in_an_unknown_language_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of services without dependencies, whose events Jazzy can record."""
    monkeypatch.setitem(distro_bags.OWN_DEFINITIONS, OWN_TYPE, ("unknown", "---"))
    distro_bags.write(tmp_path / "sql", Shape("jazzy", "sqlite3"), recorded())
    with BagReader(tmp_path / "sql") as bag:
        assert len(list(bag.messages())) == len(recorded())
    distro_bags.write(tmp_path / "mcap", Shape("jazzy", "mcap"), recorded())
    with pytest.raises(BagError, match="a type whose definition the recorder missed; leave its topic out"):
        BagReader(tmp_path / "mcap")
