"""What the inputs make of messages, publishers and parameters, on a node of this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import pytest
import rclpy
from audio_common_msgs.msg import AudioData, AudioDataStamped, AudioInfo
from live_graph import profile
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import CompressedImage, Image

from robust_perception.presence import (
    SensorConfig,
    SensorState,
    SensorStatus,
    Synchronizer,
    SynchronizerConfig,
)
from robust_perception.ros import qos, unheard
from robust_perception.ros.errors import ParameterError
from robust_perception.ros.fusion_parameters import FUSION
from robust_perception.ros.inputs import Inputs
from robust_perception.runtime.decoders import ImageDecoder
from robust_perception.vocabulary import MODALITIES, Modality, Reason

TABLE: Any = {row.name: row.default for row in FUSION}
NEVER = {m: SensorStatus(m, SensorState.NEVER_SEEN, Reason.NEVER_SEEN) for m in MODALITIES}
SILENT = {m: SensorStatus(m, SensorState.LATE, Reason.LATE) for m in MODALITIES}
UNREADABLE = {m: SensorStatus(m, SensorState.BAD, Reason.WRONG_ENCODING, rate_hz=10.0) for m in MODALITIES}


@pytest.fixture
def make_node(domain: int) -> Iterator[Callable[..., LifecycleNode]]:
    """Makes a node with these parameters given at its start."""
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    nodes: list[LifecycleNode] = []

    def make(given: Mapping[str, Any] = MappingProxyType({})) -> LifecycleNode:
        overrides = [Parameter(name, value=value) for name, value in given.items()]
        nodes.append(LifecycleNode("fusion", context=context, parameter_overrides=overrides))
        return nodes[-1]

    yield make
    for node in nodes:
        node.destroy_node()
    rclpy.try_shutdown(context=context)


@pytest.fixture
def stranger(domain: int) -> Iterator[Node]:
    """A node of another participant: within one, a topic can have only one type."""
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    node = rclpy.create_node("stranger", context=context)
    yield node
    node.destroy_node()
    rclpy.try_shutdown(context=context)


def synchronizer() -> Synchronizer:
    return Synchronizer(SynchronizerConfig(tuple(SensorConfig(m, 300_000_000) for m in MODALITIES)))


def found(node: LifecycleNode, topic: str) -> None:
    """Wait until the node knows of a publisher of the topic, and the name of its node."""
    end = time.monotonic() + 10.0
    executor = SingleThreadedExecutor(context=node.context)
    while qos.UNNAMED in ([i.node_name for i in node.get_publishers_info_by_topic(topic)] or [qos.UNNAMED]):
        assert time.monotonic() < end, f"no publisher of {topic} was found"
        rclpy.spin_once(node, executor=executor, timeout_sec=0.05)
    executor.shutdown()


def test_whatever_a_decoder_raises_is_a_refusal(
    make_node: Callable[..., LifecycleNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode(self: ImageDecoder, message: Image) -> None:
        raise ArithmeticError("a riddle")

    monkeypatch.setattr(ImageDecoder, "decode", decode)
    seen = synchronizer()
    node = make_node()
    taken = Inputs(node, seen, TABLE, (Modality.RGB,))
    (subscription,) = [s for s in node.subscriptions if s.topic_name == "/rgb/image"]
    subscription.callback(Image())
    now = time.monotonic_ns()
    status = seen.status(now, now)[Modality.RGB]
    assert status.reason is Reason.BAD_DATA
    assert status.detail == "expected a message that decodes, got ArithmeticError: a riddle"
    taken.close()


def test_a_format_that_is_said_again_and_again_is_logged_once(
    make_node: Callable[..., LifecycleNode], capfd: pytest.CaptureFixture[str]
) -> None:
    node = make_node()
    taken = Inputs(node, synchronizer(), TABLE, (Modality.AUDIO,))
    (subscription,) = [s for s in node.subscriptions if s.topic_name == "/audio_info"]
    for rate in (16_000, 16_000, 16_000, 48_000, 48_000):
        subscription.callback(AudioInfo(channels=1, sample_rate=rate, sample_format="S16LE"))
    said = capfd.readouterr()
    lines = [line for line in (said.out + said.err).splitlines() if "audio: " in line]
    assert [line.rpartition("audio: ")[2] for line in lines] == ["S16LE 16000 Hz x1", "S16LE 48000 Hz x1"]
    taken.close()


def test_only_a_sensor_never_heard_gets_a_word_about_the_transport(
    make_node: Callable[..., LifecycleNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unheard, "UNHEARD_NS", 0)
    node = make_node()
    taken = Inputs(node, synchronizer(), TABLE, (Modality.RGB, Modality.AUDIO))
    node.create_publisher(Image, "/rgb/image", profile(5, False))
    node.create_publisher(AudioDataStamped, "/audio", profile(5, False))
    found(node, "/rgb/image")
    found(node, "/audio")
    assert taken.links(SILENT)[Modality.RGB].hint == "", "its driver lives and sends nothing"
    hints = {modality: link.hint for modality, link in taken.links(NEVER).items()}
    assert "nothing arrives: either it sends nothing, or it is lost: messages larger" in hints[Modality.RGB]
    assert hints[Modality.AUDIO].endswith("nothing arrives: it seems to send nothing"), "sound is small"
    taken.close()


@pytest.mark.parametrize("statuses", [NEVER, SILENT])
def test_publisher_of_another_type_is_named_and_no_word_is_said_about_the_transport(
    statuses: dict[Modality, SensorStatus],
    make_node: Callable[..., LifecycleNode],
    stranger: Node,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(unheard, "UNHEARD_NS", 0)
    node = make_node()
    taken = Inputs(node, synchronizer(), TABLE, MODALITIES)
    stranger.create_publisher(CompressedImage, "/rgb/image", profile(5, False))
    stranger.create_publisher(AudioData, "/audio", qos.SOUND)
    found(node, "/rgb/image")
    found(node, "/audio")
    links = taken.links(statuses)
    assert links[Modality.RGB].hint == (
        "topic /rgb/image is published as sensor_msgs/msg/CompressedImage, expected sensor_msgs/msg/Image "
        "(by /stranger); remap rgb/image; no topic of that type is published; with rgb.transport compressed: "
        "/rgb/image"
    )
    assert "as audio_common_msgs/msg/AudioData, expected" in links[Modality.AUDIO].hint
    assert links[Modality.DEPTH].hint == ""
    taken.close()


def test_topic_without_a_publisher_is_told_once_with_those_that_may_be_meant(
    make_node: Callable[..., LifecycleNode],
    stranger: Node,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(unheard, "UNPUBLISHED_NS", 0)
    node = make_node()
    taken = Inputs(node, synchronizer(), TABLE | {"depth.transport": "compressed"}, MODALITIES)
    node.create_publisher(Image, "/fusion/overlay", profile(5, False))
    kept = [
        stranger.create_publisher(kind, topic, profile(5, False))
        for kind, topic in (
            (Image, "/zed/left"),
            (Image, "/rgb/image_raw"),
            (Image, "/thermal/image"),  # heard by another sensor of the node
            (CompressedImage, "/rgb/image_raw/compressed"),
            (AudioDataStamped, "/mic/audio"),
        )
    ]
    for publisher in kept:
        found(node, publisher.topic_name)
    off = {Modality.AUDIO: SensorStatus(Modality.AUDIO, SensorState.DISABLED, Reason.DISABLED)}
    links = taken.links(NEVER | off)
    assert links[Modality.RGB].note == (
        "expected a publisher of /rgb/image (sensor_msgs/msg/Image), got none; remap rgb/image (in the "
        "launch file rgb_topic), or set rgb.enabled to false where there is no such sensor; topics of that "
        "type: /rgb/image_raw, /zed/left; with rgb.transport compressed: /rgb/image_raw/compressed"
    )
    assert links[Modality.RGB].hint == "", "a sensor that is missing is no error"
    assert "with depth.transport raw: " in links[Modality.DEPTH].note
    assert (links[Modality.THERMAL].note, links[Modality.AUDIO].note) == ("", "")
    taken.links(NEVER | off)
    assert capfd.readouterr().err.count("rgb (/rgb/image): expected a publisher") == 1
    assert taken.links(UNREADABLE)[Modality.RGB].note == "", "it has been heard"
    taken.close()


@pytest.mark.parametrize(("rate", "named"), [(0, True), (16_000, False)])
def test_publisher_of_the_format_that_cannot_match_is_named(
    rate: int, named: bool, make_node: Callable[..., LifecycleNode]
) -> None:
    node = make_node()
    taken = Inputs(node, synchronizer(), TABLE | {"audio.sample_rate": rate}, (Modality.AUDIO,))
    node.create_publisher(AudioDataStamped, "/audio", profile(5, False))
    node.create_publisher(AudioInfo, "/audio_info", profile(1, False))
    found(node, "/audio_info")
    hint = taken.links(UNREADABLE)[Modality.AUDIO].hint
    assert ("/fusion publishes /audio_info RELIABLE, VOLATILE" in hint) is named
    assert ("qos_overrides./audio_info.subscription" in hint) is named
    taken.close()


@pytest.mark.parametrize(
    ("policy", "value"), [("reliability", "relable"), ("depth", "many"), ("depth", 1 << 40)]
)
def test_override_that_is_not_allowed_names_topic_and_choices(
    policy: str, value: str | int, make_node: Callable[..., LifecycleNode]
) -> None:
    node = make_node({f"qos_overrides./depth/image.subscription.{policy}": value})
    before = len(list(node.subscriptions))
    words = r"qos_overrides./depth/image.subscription.*reliable, best_effort.*depth a whole"
    with pytest.raises(ParameterError, match=words):
        Inputs(node, synchronizer(), TABLE, MODALITIES)
    assert len(list(node.subscriptions)) == before, "what was subscribed already is let go"


def test_override_is_of_its_topic_alone(make_node: Callable[..., LifecycleNode]) -> None:
    node = make_node({"qos_overrides./rgb/image.subscription.depth": 7})
    taken = Inputs(node, synchronizer(), TABLE, MODALITIES)
    depths = {s.topic_name: s.qos_profile.depth for s in node.subscriptions}
    assert (depths["/rgb/image"], depths["/depth/image"], qos.SENSOR.depth) == (7, 1, 1)
    taken.close()


def test_override_of_a_topic_nobody_listens_to_is_told(
    make_node: Callable[..., LifecycleNode], capfd: pytest.CaptureFixture[str]
) -> None:
    idle = ("qos_overrides./rgb/imag.subscription.depth", "qos_overrides./rgb/image.subscription.lifespan")
    node = make_node({**dict.fromkeys(idle, 7), "qos_overrides./audio_info.subscription.depth": 7})
    taken = Inputs(node, synchronizer(), TABLE, MODALITIES)
    said = capfd.readouterr()
    lines = [line for line in (said.out + said.err).splitlines() if "has no effect" in line]
    assert [name for name in idle if any(f"parameter {name} has" in line for line in lines)] == list(idle)
    assert len(lines) == len(idle)
    assert "/rgb/image, /depth/image, /thermal/image, /audio, /audio_info" in lines[0]
    taken.close()
