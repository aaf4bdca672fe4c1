"""What is due when, and with which stamp: no ROS graph, no clock but the test's."""

from __future__ import annotations

import struct
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message
from vision_msgs.msg import Detection2D, Detection2DArray

from robust_perception.bags import types
from robust_perception.bags.arrivals import arrivals
from robust_perception.bags.dataset import audio, header, image
from robust_perception.bags.reader import RawMessage
from robust_perception.bags.recorded_faults import RecordedFaults
from robust_perception.bags.sensor_topics import SENSOR_TOPICS
from robust_perception.bags.stamps import has_headers_within, restamped, restamped_throughout, stamp_in
from robust_perception.bags.writer import BagWriter
from robust_perception.faults.file import parse
from robust_perception.faults.script import FaultScript
from robust_perception.ros import messages
from robust_perception.ros.bag_player import BagPlayer, PlayerConfig
from robust_perception.runtime.decoders import ImageUnits
from robust_perception.runtime.images import decompress
from robust_perception.vocabulary import Modality

SENSORS = {topic: modality for modality, topic in SENSOR_TOPICS.items()}
S = 1_000_000_000
TRANSFORMS = "tf2_msgs/msg/TFMessage"
DETECTIONS = "vision_msgs/msg/Detection2DArray"
MARKERS = "visualization_msgs/msg/MarkerArray"


def raw(topic: str, stamp_ns: int, data: bytes = b"x", msgtype: str = types.IMAGE) -> RawMessage:
    return RawMessage(topic, msgtype, data, stamp_ns)


def faults(text: str, said: list[str] | None = None, scales: ImageUnits | None = None) -> RecordedFaults:
    windows, seed = parse(f"faults: [{text}]", "script")
    say = ([] if said is None else said).append
    return RecordedFaults(FaultScript(windows, seed), SENSORS, lambda: scales or ImageUnits(), say)


def described(sample_format: str, channels: int = 1) -> RawMessage:
    told = types.message_class(types.AUDIO_INFO)(channels, 16000, sample_format, 0, "wave")
    return raw("/audio_info", 0, types.serialize(told, types.AUDIO_INFO), types.AUDIO_INFO)


def picture(index: int, encoding: str = "rgb8") -> bytes:
    """A picture stamped index / 10 s; every one of other content."""
    shape = (6, 8, 3) if encoding == "rgb8" else (6, 8)
    values = np.random.default_rng(index).integers(800, 3000, shape)
    dtype = {"rgb8": np.uint8, "16UC1": np.uint16, "32FC1": np.float32}[encoding]
    pixels = (values % 256 if dtype is np.uint8 else values).astype(dtype)
    return image(pixels, encoding, S + index * S // 10, "c")


def content(data: bytes) -> tuple[str, int, int, bytes]:
    """All of a picture but its header; bytes that only align, nobody defines."""
    message = types.deserialize(data, types.IMAGE)
    return message.encoding, message.height, message.width, message.data.tobytes()


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


def test_faults_of_arrival_leave_bytes_alone() -> None:
    alter = faults(
        "{at: 1.0, until: 2.0, sensor: rgb, fault: loss}, {at: 3.0, sensor: rgb, fault: delay, seconds: 0.5}"
    )
    message = raw("/rgb/image", 0, b"not even a picture")
    assert alter(message, 0.5) == [(message.data, 0.0)]
    assert alter(message, 1.5) == []
    assert alter(message, 3.5) == [(message.data, 0.5)]
    assert alter(raw("/depth/image", 0, b"y"), 1.5) == [(b"y", 0.0)]
    assert alter(raw("/other", 0, b"z"), 1.5) == [(b"z", 0.0)]


@pytest.mark.parametrize("encoding", ["16UC1", "32FC1"])
def test_a_frozen_picture_repeats_its_content_under_live_stamps(encoding: str) -> None:
    alter = faults("{at: 1.0, until: 2.0, sensor: depth, fault: freeze}")
    ((first, _),) = alter(raw("/depth/image", 0, picture(10, encoding)), 1.0)
    ((second, _),) = alter(raw("/depth/image", 0, picture(11, encoding)), 1.1)
    assert content(first) == content(picture(10, encoding)), "taken apart and put together, it is the same"
    assert stamp_in(second) == S + 11 * S // 10
    assert content(second) == content(first)
    assert alter(raw("/depth/image", 0, picture(20, encoding)), 2.0) == [(picture(20, encoding), 0.0)]


@pytest.mark.parametrize(("encoding", "sensor"), [("bgr8", "rgb"), ("mono16", "depth")])
def test_a_changed_picture_keeps_its_encoding(encoding: str, sensor: str) -> None:
    alter = faults(f"{{at: 1.0, until: 2.0, sensor: {sensor}, fault: freeze}}")
    twin = {"bgr8": "rgb8", "mono16": "16UC1"}[encoding]
    message = types.deserialize(picture(10, twin), types.IMAGE)
    message.encoding = encoding
    data = types.serialize(message, types.IMAGE)
    topic = f"/{sensor}/image"
    ((changed, _),) = alter(raw(topic, 0, data), 1.0)
    assert content(changed) == content(data)


def test_a_bag_that_begins_again_forgets_what_was_frozen() -> None:
    alter = faults("{at: 1.0, until: 2.0, sensor: rgb, fault: freeze}")
    alter(raw("/rgb/image", 0, picture(10)), 1.0)
    ((again, _),) = alter(raw("/rgb/image", 0, picture(12)), 0.99 + 0.01)
    assert content(again) == content(picture(10))
    alter(raw("/rgb/image", 0, picture(0)), 0.0)
    ((fresh, _),) = alter(raw("/rgb/image", 0, picture(13)), 1.0)
    assert content(fresh) == content(picture(13))


def test_noise_changes_sound_and_darkness_a_picture() -> None:
    dark_rgb = "{at: 0.0, sensor: rgb, fault: darkness, gain: 0.1}"
    alter = faults("{at: 0.0, sensor: audio, fault: noise, sigma: 0.1}, " + dark_rgb)
    alter(described("S16LE"), 0.0)
    chunk = audio(np.zeros(160, "<i2").tobytes(), 5 * S, "mic")
    ((noisy, _),) = alter(raw("/audio", 0, chunk, types.AUDIO), 1.0)
    samples = np.frombuffer(bytes(types.deserialize(noisy, types.AUDIO).audio.data), "<i2")
    assert samples.size == 160
    assert samples.std() > 1000
    ((dark, _),) = alter(raw("/rgb/image", 0, picture(3)), 1.0)
    pixels = types.deserialize(dark, types.IMAGE)
    assert pixels.encoding == "rgb8"
    assert pixels.data.mean() < 0.3 * types.deserialize(picture(3), types.IMAGE).data.mean()


@pytest.mark.parametrize(
    ("sensor", "fault", "scales", "change"),
    [
        (
            "thermal",
            "drift, kelvin: 2.0, seconds: 0",
            ImageUnits(0.001, 0.1, 173.15),
            20,
        ),
        ("depth", "noise, sigma: 0.05", ImageUnits(depth_scale=0.00025), 200),
    ],
)
def test_faults_of_values_are_in_the_units_that_are_told(
    sensor: str, fault: str, scales: ImageUnits, change: float
) -> None:
    alter = faults(f"{{at: 0.0, sensor: {sensor}, fault: {fault}}}", scales=scales)
    before = np.full((64, 64), 8000, np.uint16)
    ((after, _),) = alter(raw(f"/{sensor}/image", 0, image(before, "16UC1", S, "c")), 1.0)
    moved = types.deserialize(after, types.IMAGE).data.view("<u2") - 8000.0
    assert np.sqrt(np.mean(moved**2)) == pytest.approx(change, rel=0.1), "2 K, and 0.05 m"


@pytest.mark.parametrize(("sample_format", "dtype"), [("F32LE", "<f4"), ("S32BE", ">i4"), ("S16BE", ">i2")])
def test_sound_keeps_the_format_that_the_bag_tells(sample_format: str, dtype: str) -> None:
    alter = faults("{at: 0.0, sensor: audio, fault: noise, sigma: 0.01}")
    full = 1.0 if dtype == "<f4" else 2.0 ** (8 * np.dtype(dtype).itemsize - 1)
    alter(described(sample_format, channels=2), 0.0)
    sound = 0.1 * np.sin(np.arange(1600) / 9)
    data = audio((sound * full).astype(dtype).tobytes(), S, "mic")
    ((noisy, _),) = alter(raw("/audio", 0, data, types.AUDIO), 1.0)
    got = np.frombuffer(bytes(types.deserialize(noisy, types.AUDIO).audio.data), dtype) / full
    assert (got - sound).std() == pytest.approx(0.01, rel=0.1)


def test_sound_of_no_known_format_is_left_alone_and_told() -> None:
    for first, chunk, words in (
        (raw("/other", 0), b"ab", "expected the sample format on /audio_info before it, got none"),
        (described("OPUS"), b"ab", "/audio_info: expected a sample format out of"),
        (described("S16LE"), b"abc", "expected a positive multiple of 2 bytes"),
    ):
        said: list[str] = []
        alter = faults("{at: 0.0, sensor: audio, fault: noise, sigma: 0.01}", said)
        alter(first, 0.0)
        data = audio(chunk, S, "mic")
        assert alter(raw("/audio", 0, data, types.AUDIO), 1.0) == [(data, 0.0)]
        assert said[0].startswith(f"/audio: noise has no effect: {words}")


def test_a_fault_that_does_not_fit_is_told_once() -> None:
    said: list[str] = []
    alter = faults("{at: 0.0, sensor: rgb, fault: darkness, gain: 0.1}", said)
    other = raw("/rgb/image", 0, b"cloud", "sensor_msgs/msg/PointCloud2")
    assert alter(other, 1.0) == [(b"cloud", 0.0)]
    assert alter(other, 1.1) == [(b"cloud", 0.0)]
    (text,) = said
    assert text.startswith("/rgb/image: darkness has no effect: expected sensor_msgs/msg/Image or")


def test_faults_of_arrival_act_where_those_of_content_cannot() -> None:
    dark = "{at: 0.0, sensor: rgb, fault: darkness, gain: 0.1}"
    late = "{at: 0.0, sensor: rgb, fault: delay, seconds: 0.5}"
    other = raw("/rgb/image", 0, b"no picture")
    assert faults(f"{dark}, {late}")(other, 1.0) == [(b"no picture", 0.5)]
    alter = faults(f"{dark}, {{at: 0.0, sensor: rgb, fault: loss}}")
    assert alter(other, 1.0) == []
    assert list(alter.unfit) == [Modality.RGB]


def packed(pixels: np.ndarray, format_: str, suffix: str, head: bytes = b"") -> bytes:
    data = np.frombuffer(head + cv2.imencode(suffix, pixels)[1].tobytes(), np.uint8)
    message = types.message_class(types.COMPRESSED)(header(S, "c"), format_, data)
    return types.serialize(message, types.COMPRESSED)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_compressed_picture_is_darkened_in_its_own_format(suffix: str) -> None:
    alter = faults("{at: 0.0, until: 5.0, sensor: rgb, fault: darkness, gain: 0.1}")
    data = packed(np.full((16, 16, 3), (40, 80, 200), np.uint8), "rgb8; compressed bgr8", suffix)
    ((dark, _),) = alter(raw("/rgb/image", 0, data, types.COMPRESSED), 1.0)
    before, after = (types.deserialize(d, types.COMPRESSED) for d in (data, dark))
    assert after.format == before.format
    assert after.data[:2].tobytes() == before.data[:2].tobytes()
    assert decompress(after).mean(axis=(0, 1)) == pytest.approx([20, 8, 4], abs=2)


@pytest.mark.parametrize(
    ("format_", "head"),
    [
        ("16UC1; png compressed", b""),
        ("16UC1; compressedDepth png", struct.pack("<iff", 0, 0, 0)),
        ("32FC1; compressedDepth png", struct.pack("<iff", 0, 10000.0, -900.0)),
    ],
)
def test_a_compressed_distance_survives_a_frozen_picture(format_: str, head: bytes) -> None:
    counts = np.random.default_rng(1).integers(500, 4000, (8, 8)).astype(np.uint16)
    counts[0] = 0
    data = packed(counts, format_, ".png", head)
    alter = faults("{at: 0.0, until: 5.0, sensor: depth, fault: freeze}")
    ((frozen, _),) = alter(raw("/depth/image", 0, data, types.COMPRESSED), 1.0)
    before, after = (decompress(types.deserialize(d, types.COMPRESSED)) for d in (data, frozen))
    np.testing.assert_array_equal(after, before)


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
