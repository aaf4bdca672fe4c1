"""Faults on recorded messages: what arrives of them, and that all else of a message stays as it was."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest

from robust_perception.bags import types
from robust_perception.bags.dataset import audio, header, image
from robust_perception.bags.reader import RawMessage
from robust_perception.bags.recorded_faults import RecordedFaults
from robust_perception.bags.sensor_topics import SENSOR_TOPICS
from robust_perception.bags.stamps import stamp_in
from robust_perception.faults.file import parse
from robust_perception.faults.script import FaultScript
from robust_perception.runtime.decoders import ImageDecoder, ImageUnits
from robust_perception.runtime.images import decompress
from robust_perception.vocabulary import Modality

SENSORS = {topic: modality for modality, topic in SENSOR_TOPICS.items()}
S = 1_000_000_000


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


@pytest.mark.parametrize("encoding", ["16UC1", "32FC1"])
def test_heavy_noise_is_on_a_message_what_it_is_on_its_frame(encoding: str) -> None:
    windows, seed = parse("faults: [{at: 0.0, sensor: thermal, fault: noise, sigma: 250}]", "script")
    decoder = ImageDecoder(Modality.THERMAL, ImageUnits, lambda _: None)
    counts = np.full((40, 60), 290 * 64, np.uint16)
    pixels = counts if encoding == "16UC1" else (counts / 64).astype(np.float32)
    message = image(pixels, encoding, S, "c")
    ((noisy, _),) = RecordedFaults(FaultScript(windows, seed), SENSORS, ImageUnits, print)(
        raw("/thermal/image", 0, message), 1.0
    )
    frame = decoder.decode(types.deserialize(message, types.IMAGE))
    (delivery,) = FaultScript(windows, seed).apply(frame, 1.0)
    got = decoder.decode(types.deserialize(noisy, types.IMAGE)).data
    assert 0.05 < np.isnan(got).mean() < 0.3, "colder than absolute zero"
    hottest = 65535 / 64 if encoding == "16UC1" else np.inf
    np.testing.assert_allclose(got, np.minimum(delivery.frame.data, hottest), atol=1 / 128)


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
