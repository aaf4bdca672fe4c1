"""What is due when, and with which stamp: no ROS graph, no clock but the test's."""

from __future__ import annotations

import struct
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message
from vision_msgs.msg import Detection2D, Detection2DArray

from robust_perception.bags import types
from robust_perception.bags.arrivals import arrivals
from robust_perception.bags.dataset import header, image
from robust_perception.bags.reader import RawMessage
from robust_perception.bags.sensor_topics import SENSOR_TOPICS
from robust_perception.bags.stamps import has_headers_within, restamped, restamped_throughout, stamp_in
from robust_perception.bags.writer import BagWriter
from robust_perception.ros import messages
from robust_perception.ros.bag_player import BagPlayer, PlayerConfig

SENSORS = {topic: modality for modality, topic in SENSOR_TOPICS.items()}
S = 1_000_000_000
TRANSFORMS = "tf2_msgs/msg/TFMessage"
DETECTIONS = "vision_msgs/msg/Detection2DArray"
MARKERS = "visualization_msgs/msg/MarkerArray"


def raw(topic: str, stamp_ns: int, data: bytes = b"x", msgtype: str = types.IMAGE) -> RawMessage:
    return RawMessage(topic, msgtype, data, stamp_ns)


def picture(index: int) -> bytes:
    """A picture stamped index / 10 s; every one of other content."""
    pixels = np.random.default_rng(index).integers(0, 255, (6, 8, 3)).astype(np.uint8)
    return image(pixels, "rgb8", S + index * S // 10, "c")


@given(st.integers(0, 2**31 - 1), st.integers(0, 999_999_999), st.sampled_from("<>"), st.binary(max_size=9))
def test_restamping_changes_eight_bytes_and_nothing_else(
    seconds: int, nanoseconds: int, order: str, rest: bytes
) -> None:
    head = bytes([0, 1 if order == "<" else 0, 0, 0])
    data = head + struct.pack(f"{order}iI", seconds, nanoseconds) + rest
    before = seconds * S + nanoseconds
    moved = restamped(data, lambda stamp: stamp // 2)
    assert stamp_in(data) == before
    assert stamp_in(moved) == before // 2
    assert (moved[:4], moved[12:]) == (head, rest)


def test_a_stamp_that_is_none_stays_none() -> None:
    data = image(np.zeros((2, 2), np.uint8), "mono8", 0, "c")
    assert restamped(data, lambda stamp: stamp + 5) == data


@pytest.mark.parametrize("order", "<>")
def test_what_cannot_be_restamped_is_left_alone(order: str) -> None:
    head = bytes([0, 1 if order == "<" else 0, 0, 0])
    late = head + struct.pack(f"{order}iI", 2**31 - 1, 0)
    assert restamped(late, lambda stamp: stamp * 2) == late, "more seconds than a stamp can hold"
    for short in (b"", b"\0", head, late[:11]):
        assert restamped(short, lambda stamp: stamp + 1) == short


def transforms(*stamps_ns: int) -> bytes:
    kinds = ("TransformStamped", "Transform", "Vector3", "Quaternion")
    stamped, transform, vector, quaternion = (types.message_class(f"geometry_msgs/msg/{k}") for k in kinds)
    there = transform(vector(1.0, 2.0, 3.0), quaternion(0.0, 0.0, 0.0, 1.0))
    made = [stamped(header(stamp, "map"), f"child_{i}", there) for i, stamp in enumerate(stamps_ns)]
    return types.serialize(types.message_class(TRANSFORMS)(made), TRANSFORMS)


def test_every_transform_of_a_message_moves_and_keeps_the_rest() -> None:
    moved = restamped_throughout(transforms(5 * S, 0, 7 * S + 1), TRANSFORMS, lambda stamp: stamp + S)
    assert moved == transforms(6 * S, 0, 8 * S + 1), "zero is no stamp"
    short = transforms(5 * S)[:-9]
    assert restamped_throughout(short, TRANSFORMS, lambda stamp: stamp + S) == short


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 30)), min_size=1, max_size=30))
def test_delayed_messages_arrive_in_order_of_arrival(events: list[tuple[int, int]]) -> None:
    events = sorted(events)
    messages = [raw("/rgb/image", 100 * S + at * S, bytes([i])) for i, (at, _) in enumerate(events)]
    delays = {bytes([i]): float(delay) for i, (_, delay) in enumerate(events)}
    due = list(arrivals(iter(messages), 100 * S, lambda m, _: [(m.data, delays[m.data])]))
    assert [d.offset_ns for d in due] == sorted(d.offset_ns for d in due)
    expected = sorted((at + delay) * S for at, delay in events)
    assert [d.offset_ns for d in due] == expected


class Stage:
    """A player on a short bag; what it published, and how it ended."""

    def __init__(
        self, bag: Path, config: PlayerConfig, clock: bool = False, topics: Sequence[str] = ("/rgb/image",)
    ) -> None:
        self.published: list[bytes] = []
        self.said: list[str] = []
        self.ticks: list[int] = []
        self.ended = threading.Event()
        self.error: BaseException | None = None
        self.enough = threading.Event()
        self.wanted = 10**9
        self.player = BagPlayer(
            bag,
            topics,
            {types.IMAGE},
            config,
            lambda message, _: [(message.data, 0.0)],
            lambda: 500 * S,
            self._publish,
            self.said.append,
            self.ticks.append if clock else None,
            {"/tf_static": 2},
        )
        self.player.start(lambda: True, self._end)

    def _publish(self, topic: str, data: bytes) -> None:
        self.published.append(data)
        if len(self.published) >= self.wanted:
            self.enough.set()

    def _end(self, error: BaseException | None) -> None:
        self.error = error
        self.ended.set()


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    with BagWriter(tmp_path / "bag") as writer:
        for index in range(5):
            writer.write("/rgb/image", types.IMAGE, picture(index), 7 * S + index * S // 10)
    return tmp_path / "bag"


def test_stamps_move_to_now_and_shrink_with_the_speed(bag: Path) -> None:
    stage = Stage(bag, PlayerConfig(speed=20.0))
    assert stage.ended.wait(10)
    assert stage.error is None
    stamps = [stamp_in(data) for data in stage.published]
    assert np.diff(stamps).tolist() == [S // 200] * 4
    assert stamps[0] == 500 * S + (1 - 7) * S // 20, "what lay between stamp and reception stays, scaled"


def test_recorded_stamps_stay_and_the_clock_runs_with_them(bag: Path) -> None:
    stage = Stage(bag, PlayerConfig(speed=4.0, stamps="recorded"), clock=True)
    assert stage.ended.wait(10)
    assert stage.published == [picture(index) for index in range(5)]
    assert stage.ticks == sorted(stage.ticks)
    assert stage.ticks[0] >= 7 * S
    assert stage.ticks[-1] == 7 * S + 4 * S // 10
    assert len(stage.ticks) > 8, "the clock also runs between messages"


def test_transforms_move_with_the_rest_and_latched_ones_are_told_at_a_later_start(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        for stamp in (7 * S, 7 * S + 1, 7 * S + 2):
            writer.write("/tf_static", TRANSFORMS, transforms(stamp), stamp)
        writer.write("/tf", TRANSFORMS, transforms(8 * S), 8 * S)
    stage = Stage(tmp_path / "bag", PlayerConfig(start_s=1.0), topics=("/tf_static", "/tf"))
    assert stage.ended.wait(10)
    assert stage.error is None
    at = 500 * S - 8 * S
    assert stage.published == [transforms(stamp + at) for stamp in (7 * S + 1, 7 * S + 2, 8 * S)]


def detections(stamp_ns: int) -> Detection2DArray:
    stamped = messages.header(stamp_ns, "camera")
    return Detection2DArray(header=stamped, detections=[Detection2D(header=stamped, id="a")] * 2)


def test_markers_and_detections_of_an_instant_stay_together(tmp_path: Path) -> None:
    drawn = pytest.importorskip("visualization_msgs.msg")

    def markers(stamp_ns: int) -> Any:
        first = drawn.Marker(header=messages.header(stamp_ns, "camera"), id=1, text="cup")
        always = drawn.Marker(header=messages.header(0, "map"), id=2)
        return drawn.MarkerArray(markers=[first, always])

    with BagWriter(tmp_path / "bag") as writer:
        writer.write("/detections", DETECTIONS, serialize_message(detections(7 * S)), 7 * S)
        writer.write("/markers", MARKERS, serialize_message(markers(7 * S)), 7 * S + S // 100)
    stage = Stage(tmp_path / "bag", PlayerConfig(), topics=("/detections", "/markers"))
    assert stage.ended.wait(10)
    assert stage.error is None
    assert deserialize_message(stage.published[0], Detection2DArray) == detections(500 * S)
    assert deserialize_message(stage.published[1], drawn.MarkerArray) == markers(500 * S), "zero is no stamp"


@pytest.mark.parametrize(
    ("msgtype", "within"),
    [
        (types.IMAGE, False),
        (types.AUDIO_INFO, False),
        ("some_robot/msg/Own", False),
        ("nav_msgs/msg/Path", True),
        (MARKERS, True),
    ],
)
def test_only_a_message_with_more_than_its_own_header_is_taken_apart(msgtype: str, within: bool) -> None:
    assert has_headers_within(msgtype) is within


def test_a_hole_of_hours_is_told_with_the_start_behind_it(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        for stamp in (0, S // 10, 5_000 * S):
            writer.write("/rgb/image", types.IMAGE, picture(0), stamp)
    stage = Stage(tmp_path / "bag", PlayerConfig())
    while not stage.said:
        assert not stage.ended.wait(0.01)
    stage.player.stop()
    assert "got none for 1.4 hours after 0.100 s; start:=5000.000 goes on behind that" in stage.said[0]
    assert len(stage.published) == 2


def test_a_loop_goes_on_until_it_is_stopped(bag: Path) -> None:
    stage = Stage(bag, PlayerConfig(speed=100.0, loop=True))
    stage.wanted = 12
    assert stage.enough.wait(10)
    stage.player.stop()
    assert not stage.ended.is_set()
    assert stage.published[5][12:] == stage.published[0][12:]


def test_a_bag_that_is_gone_is_told(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "gone", PlayerConfig())
    assert stage.ended.wait(10)
    assert "expected a bag" in str(stage.error)
