"""`recorder_node` as a process: what it records of live topics, and how a recording ends."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from builtin_interfaces.msg import Time
from live_graph import Graph, Process
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from std_msgs.msg import String

from robust_perception.bags import types
from robust_perception.bags.reader import BagReader, RawMessage
from robust_perception.bags.stamps import stamp_in

pytestmark = pytest.mark.ros

TALKER = str(Path(__file__).with_name("talker.py"))
SENSORS = (
    "/rgb/image:rgb:best_effort",
    "/depth/image:depth:best_effort",
    "/thermal/image:thermal:reliable",
    "/audio:audio:reliable",
    "/robot:text:latched",
)


def talk(live: Graph, frames: int, rate: float, *topics: str) -> Process:
    return live.run([sys.executable, TALKER, str(frames), str(rate), *topics], "talker")


def read(path: Path) -> tuple[dict[str, list[RawMessage]], str]:
    """Messages by topic, and what is wrong with the bag."""
    found: dict[str, list[RawMessage]] = {}
    with BagReader(path) as bag:
        for message in bag.messages():
            found.setdefault(message.topic, []).append(message)
        return found, bag.damage


def end(recorder: Process) -> None:
    recorder.signal(signal.SIGINT)
    assert recorder.wait(30) == 0, recorder.text()


@pytest.mark.parametrize(("storage", "compression"), [("mcap", "zstd"), ("sqlite3", "none")])
def test_all_topics_with_their_bytes_stamps_types_and_quality(
    storage: str, compression: str, live: Graph, tmp_path: Path
) -> None:
    path = tmp_path / "bag"
    recorder = live.start(
        "recorder_node", f"bag:={path}", f"storage:={storage}", f"compression:={compression}", "progress:=0.5"
    )
    talker = talk(live, 20, 20, *SENSORS)
    live.wait_until("all to be sent", lambda: "sent 20" in talker.text())
    live.wait_until("all to be recorded", lambda: _recorded(recorder) >= 81)
    end(recorder)
    found, damage = read(path)
    assert damage == ""
    for topic in ("/rgb/image", "/depth/image", "/thermal/image", "/audio"):
        assert len(found[topic]) == 20, recorder.text()
        stamps = [stamp_in(message.data) for message in found[topic]]
        assert np.diff(stamps).tolist() == [50_000_000] * 19
        assert found[topic][0].data[12:] == found[topic][4].data[12:], "pictures repeat after four"
    assert len(found["/robot"]) == 1, "said before the recorder came, and latched"
    picture = types.deserialize(found["/rgb/image"][5].data, types.IMAGE)
    assert (
        picture.data.tobytes()
        == np.random.default_rng(3).integers(0, 255, (2, 480, 640, 3), dtype=np.uint8)[1].tobytes()
    )
    information = yaml.safe_load((path / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    topics = {
        t["topic_metadata"]["name"]: t["topic_metadata"] for t in information["topics_with_message_count"]
    }
    quality = {
        name: (profile["reliability"], profile["durability"])
        for name, topic in topics.items()
        for profile in yaml.safe_load(topic["offered_qos_profiles"])[:1]
    }
    assert quality["/rgb/image"] == (2, 2)
    assert quality["/audio"] == (1, 2)
    assert quality["/robot"] == (1, 1)
    assert topics["/audio"]["type_description_hash"] == types.typestore().hash_rihs01(types.AUDIO)


def test_two_independent_readers_understand_a_recording(live: Graph, tmp_path: Path) -> None:
    reader = pytest.importorskip("mcap.reader")
    decoder = pytest.importorskip("mcap_ros2.decoder")
    from rosbags.highlevel import AnyReader

    path = tmp_path / "bag"
    recorder = live.start(
        "recorder_node", f"bag:={path}", "topics:=['/depth/image', 'audio']", "progress:=0.5"
    )
    talker = talk(live, 10, 20, *SENSORS[1:4])
    live.listen({"/thermal/image": Image})  # or the talker waits for ever: nobody records it
    live.wait_until("all to be sent", lambda: "sent 10" in talker.text())
    live.wait_until("all to be recorded", lambda: _recorded(recorder) >= 20)
    end(recorder)
    with (path / "bag_0.mcap").open("rb") as file:
        messages = list(
            reader.make_reader(
                file, validate_crcs=True, decoder_factories=[decoder.DecoderFactory()]
            ).iter_decoded_messages()
        )
    images = [m.decoded_message for m in messages if m.channel.topic == "/depth/image"]
    assert [(i.encoding, i.width, i.height) for i in images] == [("16UC1", 640, 480)] * 10
    assert {m.channel.topic for m in messages} == {"/depth/image", "/audio"}
    assert all(m.message.publish_time <= m.message.log_time for m in messages)
    with AnyReader([path]) as other:
        stamps = [
            other.deserialize(data, connection.msgtype).header.stamp.sec
            for connection, _, data in other.messages()
        ]
    assert len(stamps) == 20


def test_overlays_are_recorded_only_when_somebody_asks(live: Graph, tmp_path: Path) -> None:
    recorders = [
        live.start("recorder_node", f"bag:={tmp_path / name}", "progress:=0.5", *more)
        for name, more in (("all", []), ("asked", ["pattern:=."]))
    ]
    # Until both have enough: the talker begins as soon as one of them listens.
    talk(live, 100000, 20, "/fusion/overlay:rgb:reliable", "/rgb/image:rgb:reliable")
    live.wait_until("both topics", lambda: _recorded(recorders[1]) >= 40)
    live.wait_until("all but the overlay", lambda: _recorded(recorders[0]) >= 30)
    for recorder in recorders:
        end(recorder)
    assert "can be drawn again of what is: /fusion/overlay" in recorders[0].text()
    pictures = [
        sorted(t for t in read(tmp_path / n)[0] if t[1:4] in ("fus", "rgb")) for n in ("all", "asked")
    ]
    assert pictures == [["/rgb/image"], ["/fusion/overlay", "/rgb/image"]]


def test_topics_by_expression_that_join_late(live: Graph, tmp_path: Path) -> None:
    path = tmp_path / "bag"
    recorder = live.start(
        "recorder_node", f"bag:={path}", "pattern:=^/cam", "exclude:=left", "progress:=0.5", "split_mb:=1"
    )
    talk(live, 5, 20, "/cam/a:depth:reliable")
    live.wait_until("the first", lambda: _recorded(recorder) >= 5)
    talk(live, 100000, 20, "/cam/b:depth:best_effort")  # some may be lost on a busy machine
    live.wait_until("the second", lambda: _recorded(recorder) >= 10)
    assert "/rosout" not in recorder.text()
    end(recorder)
    found, _ = read(path)
    assert set(found) == {"/cam/a", "/cam/b"}
    assert len(found["/cam/a"]) == 5
    assert len(list(path.glob("*.mcap"))) == 5 + len(found["/cam/b"]) >= 10, (
        "pictures of 0.6 MB, files of 1 MiB"
    )


def test_a_publisher_that_offers_less_is_heard_too(live: Graph, tmp_path: Path) -> None:
    path = tmp_path / "bag"
    recorder = live.start("recorder_node", f"bag:={path}", "topics:=['/a']", "progress:=0.5")
    talk(live, 5, 20, "/a:text:reliable")
    live.wait_until("the first", lambda: _recorded(recorder) >= 5)
    talk(live, 100000, 20, "/a:text:best_effort")
    live.wait_until("the change", lambda: "subscribed anew, BEST_EFFORT" in recorder.text())
    live.wait_until("the second", lambda: _recorded(recorder) >= 15)
    end(recorder)


def test_a_killed_recorder_loses_the_last_second(live: Graph, tmp_path: Path) -> None:
    path = tmp_path / "bag"
    recorder = live.start("recorder_node", f"bag:={path}", "progress:=0.2", "topics:=['/rgb/image']")
    talk(live, 100000, 30, "/rgb/image:rgb:best_effort")
    live.wait_until("three seconds of it", lambda: _recorded(recorder) >= 90)
    recorder.signal(signal.SIGKILL)
    recorder.wait()
    live.processes.remove(recorder)
    found, damage = read(path)
    assert "metadata.yaml is missing" in damage
    assert len(found["/rgb/image"]) >= 90 - 33
    assert len(np.unique(np.diff([stamp_in(m.data) for m in found["/rgb/image"]]).round(-5))) <= 2
    done = subprocess.run(
        [sys.executable, "-m", "robust_perception.cli", "bag", "repair", str(path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert f"{len(found['/rgb/image'])} messages are in the bag, which is whole now" in done.stdout
    again, damage = read(path)
    assert (again, damage) == (found, "")


def test_a_full_disk_ends_the_recording_with_a_whole_bag(live: Graph, tmp_path: Path) -> None:
    path = tmp_path / "bag"
    # A limit on the size of a file is refused by the system as a full disk is: in the middle of a write.
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000_000, before[1]))
    try:
        recorder = live.start("recorder_node", f"bag:={path}", "topics:=['/rgb/image']", "progress:=0.5")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    talk(live, 100000, 30, "/rgb/image:rgb:best_effort")
    assert recorder.wait(60) == 1
    live.processes.remove(recorder)
    text = recorder.text()
    found, damage = read(path)
    assert damage == ""
    assert f"stopped: {path}: expected to write" in text
    assert f"{len(found['/rgb/image'])} messages are in the bag" in text
    assert len(found["/rgb/image"]) >= 25


def test_the_command_records_until_it_is_told_to_end(live: Graph, tmp_path: Path) -> None:
    path = tmp_path / "bag"
    words = ["record", "/a", "--out", str(path), "--compression", "lz4", "--progress", "0.5"]
    recorder = live.run([sys.executable, "-m", "robust_perception.cli", "bag", *words], "record")
    talk(live, 10, 20, "/a:text:reliable")
    live.wait_until("all", lambda: _recorded(recorder) >= 10)
    end(recorder)
    assert [types.deserialize(m.data, m.msgtype).data for m in read(path)[0]["/a"]] == list("0123012301")
    assert f"closed {path}: 1 topics, 10 messages" in recorder.text()


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        (["compression:=lz4", "storage:=sqlite3"], "parameter compression: expected one that sqlite3 has"),
        (["pattern:='('"], "parameter pattern: expected a regular expression"),
        (["bag:={there}"], "expected a new path, got one that exists"),
    ],
)
def test_what_cannot_be_recorded_is_said(
    parameters: list[str], words: str, live: Graph, tmp_path: Path
) -> None:
    recorder = live.start("recorder_node", *[p.format(there=tmp_path) for p in parameters])
    assert recorder.wait(60) == 1, "nobody waits for a recording that does not begin"
    live.processes.remove(recorder)
    assert words in recorder.text()


def test_with_the_time_of_a_simulation_nothing_is_recorded_before_there_is_one(
    live: Graph, tmp_path: Path
) -> None:
    path = tmp_path / "bag"
    clock = live.node.create_publisher(Clock, "/clock", 1)
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    live.node.create_publisher(String, "/a", latched).publish(String(data="early"))
    recorder = live.start(
        "recorder_node", f"bag:={path}", "topics:=['/a']", "use_sim_time:=true", "progress:=0.2"
    )
    live.wait_until("the wait", lambda: "waiting for the first time on /clock" in recorder.text())

    def paused_simulation() -> bool:
        # Again and again: the first may be sent before the listener, found here, has found this publisher.
        clock.publish(Clock(clock=Time(sec=1700)))
        return _recorded(recorder) >= 1

    live.wait_until("what was latched", paused_simulation)
    end(recorder)
    (early,) = read(path)[0]["/a"]
    assert early.stamp_ns == 1700 * 10**9


def _recorded(recorder: Process) -> int:
    """Messages by the newest line of progress."""
    lines = [line for line in recorder.text().splitlines() if " messages  " in line]
    return int(lines[-1].split(" messages  ")[0].split()[-1]) if lines else 0
