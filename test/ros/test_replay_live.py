"""`replay_node` as a process: what it plays, what it says, and that replay equals evaluation."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pytest
from audio_common_msgs.msg import AudioInfo
from live_graph import Graph
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import String
from std_srvs.srv import Trigger
from tiny_model import make_model

from robust_perception.bag import main as bag_command
from robust_perception.bags import types
from robust_perception.bags.dataset import audio_info, image
from robust_perception.bags.reader import BagReader
from robust_perception.bags.writer import BagWriter
from robust_perception.ros.messages import stamp_to_ns

pytestmark = pytest.mark.ros

S = 1_000_000_000
FRAMES = 12


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    """Pictures at 20 Hz with their index in the corner, an output of an old node, a type nobody has."""
    with BagWriter(tmp_path / "bag") as writer:
        for index in range(FRAMES):
            stamp = 90 * S + index * S // 20
            pixels = np.full((8, 8, 3), index, np.uint8)
            writer.write("/rgb/image", types.IMAGE, image(pixels, "rgb8", stamp, "camera"), stamp)
            for topic in ("/fusion/segmentation", "/robot/fusion/segmentation"):
                writer.write(topic, types.IMAGE, image(pixels[..., 0], "mono8", stamp, "c"), stamp)
    return tmp_path / "bag"


def listen(live: Graph, *topics: str) -> None:
    live.listen(dict.fromkeys(topics, Image))


def indices(live: Graph, topic: str) -> list[int]:
    return [int(arrival.message.data[0]) for arrival in live.received(topic)]


def test_every_frame_once_in_order_as_if_it_were_now(bag: Path, live: Graph) -> None:
    outputs = ("/fusion/segmentation", "/robot/fusion/segmentation")
    listen(live, "/rgb/image", *outputs)
    before = live.node.get_clock().now().nanoseconds
    player = live.start("replay_node", f"bag:={bag}")
    assert player.wait(60) == 0, "it ends with the bag"
    live.wait_until("all frames", lambda: len(live.received("/rgb/image")) == FRAMES)
    assert indices(live, "/rgb/image") == list(range(FRAMES))
    stamps = [stamp_to_ns(a.message.header.stamp) for a in live.received("/rgb/image")]
    assert stamps[0] > before
    assert np.diff(stamps).tolist() == [S // 20] * (FRAMES - 1)
    assert not any(live.received(topic) for topic in outputs), "outputs of another time"
    assert not any(live.node.get_publishers_info_by_topic(topic) for topic in outputs)
    assert "end of the bag" in player.text()
    assert f"only nodes of that time could say it: {', '.join(outputs)};" in player.text()


def test_recorded_stamps_speed_and_faults(bag: Path, live: Graph, tmp_path: Path) -> None:
    script = tmp_path / "script.yaml"
    script.write_text("faults: [{at: 0.2, until: 0.4, sensor: rgb, fault: loss}]")
    listen(live, "/rgb/image")
    player = live.start("replay_node", f"bag:={bag}", "stamps:=recorded", "speed:=2.0", f"faults:={script}")
    assert player.wait(60) == 0
    live.wait_until("the last frame", lambda: indices(live, "/rgb/image")[-1:] == [FRAMES - 1])
    arrivals = live.received("/rgb/image")
    assert indices(live, "/rgb/image") == [0, 1, 2, 3, 8, 9, 10, 11]
    assert stamp_to_ns(arrivals[0].message.header.stamp) == 90 * S
    took = arrivals[-1].at - arrivals[0].at
    assert took > 0.8 * 0.55 / 2, "half of the 0.55 s of the recording"


def test_frozen_and_delayed_frames(bag: Path, live: Graph, tmp_path: Path) -> None:
    script = tmp_path / "script.yaml"
    frozen = "{at: 0.1, until: 0.2, sensor: rgb, fault: freeze}"
    delayed = "{at: 0.3, until: 0.4, sensor: rgb, fault: delay, seconds: 0.12}"
    script.write_text(f"faults: [{frozen}, {delayed}]")
    listen(live, "/rgb/image")
    player = live.start("replay_node", f"bag:={bag}", "stamps:=recorded", f"faults:={script}")
    assert player.wait(60) == 0
    live.wait_until("all frames", lambda: len(live.received("/rgb/image")) == FRAMES)
    assert indices(live, "/rgb/image") == [0, 1, 2, 2, 4, 5, 8, 6, 9, 7, 10, 11]
    stamps = [stamp_to_ns(a.message.header.stamp) for a in live.received("/rgb/image")]
    assert [(stamp - 90 * S) * 20 // S for stamp in stamps] == [0, 1, 2, 3, 4, 5, 8, 6, 9, 7, 10, 11]


def test_it_waits_for_somebody_to_listen(bag: Path, live: Graph) -> None:
    waiting = live.start("replay_node", f"bag:={bag}")
    live.wait_until("the topic", lambda: live.node.count_publishers("/rgb/image") > 0)
    hasty = live.start("replay_node", f"bag:={bag}", "wait:=false", remap=("/rgb/image:=/nobody/listens",))
    assert hasty.wait(60) == 0, "a whole bag has been played in the meantime"
    assert waiting.running
    told = "begins when somebody listens to "
    assert f"{told}/rgb/image; wait:=false begins at once" in waiting.text()
    assert told not in hasty.text()
    listen(live, "/rgb/image")
    assert waiting.wait(60) == 0
    live.wait_until("all frames", lambda: len(live.received("/rgb/image")) == FRAMES)
    assert indices(live, "/rgb/image") == list(range(FRAMES))


def test_a_loop_goes_on_until_it_is_told_to_end(bag: Path, live: Graph) -> None:
    listen(live, "/rgb/image")
    player = live.start("replay_node", f"bag:={bag}", "loop:=true", "speed:=4.0")
    live.wait_until("a third round", lambda: len(live.received("/rgb/image")) > 2 * FRAMES)
    player.signal(signal.SIGINT)
    assert player.wait(60) == 0
    seen = indices(live, "/rgb/image")
    assert seen == [i % FRAMES for i in range(len(seen))]
    stamps = [stamp_to_ns(a.message.header.stamp) for a in live.received("/rgb/image")]
    assert stamps == sorted(stamps), "as if now: time goes on when the bag begins again"


def test_damage_found_on_the_way_is_told_and_no_success(bag: Path, live: Graph) -> None:
    with BagReader(bag) as reader:
        last = list(reader.messages(["/rgb/image"]))[-1]
    file = next(bag.glob("*.mcap"))
    whole = file.read_bytes()
    at = whole.index(last.data) - 22  # channel, sequence number and two times stand before the data
    file.write_bytes(whole[: at - 8] + b"\xff" * 8 + whole[at:])
    player = live.start("replay_node", f"bag:={bag}", "wait:=false")
    assert player.wait(60) == 1
    assert f"stopped: {bag}: expected a whole bag" in player.text()


def test_names_are_remapped(bag: Path, live: Graph) -> None:
    listen(live, "/front/image")
    player = live.start("replay_node", f"bag:={bag}", remap=("/rgb/image:=/front/image",))
    assert player.wait(60) == 0
    live.wait_until("all frames", lambda: len(live.received("/front/image")) == FRAMES)


def test_pause_and_steps_by_service(bag: Path, live: Graph) -> None:
    listen(live, "/rgb/image")
    live.start("replay_node", f"bag:={bag}", "start_paused:=true", "step_window:=0.12", "exit_at_end:=false")

    def call(name: str) -> tuple[bool, str]:
        client = live.node.create_client(Trigger, f"/replay/{name}")
        live.wait_until(f"the service {name}", client.service_is_ready)
        answer = client.call_async(Trigger.Request())
        live.wait_until(f"an answer of {name}", answer.done)
        return answer.result().success, answer.result().message

    assert call("play_next") == (True, "paused")
    live.wait_until("one", lambda: indices(live, "/rgb/image") == [0])
    assert call("step") == (True, "paused")
    live.wait_until("a set", lambda: indices(live, "/rgb/image") == [0, 1, 2, 3])
    assert call("play_next") == (True, "paused")
    live.wait_until("one more", lambda: indices(live, "/rgb/image") == [0, 1, 2, 3, 4])
    stamps = [stamp_to_ns(a.message.header.stamp) for a in live.received("/rgb/image")]
    assert stamps == sorted(stamps), "as if now: time goes on from step to step"
    assert call("toggle_paused") == (True, "playing")
    assert call("play_next") == (False, "expected a paused player, got one that is playing")
    live.wait_until("the rest", lambda: indices(live, "/rgb/image") == list(range(FRAMES)))


def test_start_in_the_middle_under_other_names_tells_what_was_latched(live: Graph, tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        writer.add_topic("/audio_info", types.AUDIO_INFO, latched=True)
        writer.write("/audio_info", types.AUDIO_INFO, audio_info(), 90 * S)
        for index in range(FRAMES):
            stamp = 90 * S + index * S // 20
            pixels = np.full((8, 8, 3), index, np.uint8)
            writer.write("/rgb/image", types.IMAGE, image(pixels, "rgb8", stamp, "camera"), stamp)
    live.listen({"/front": Image, "/audio_info": AudioInfo})
    player = live.start(
        "replay_node", f"bag:={tmp_path / 'bag'}", "start:=0.3", "remaps:=['/rgb/image:=/front']"
    )
    assert player.wait(60) == 0
    live.wait_until("the end", lambda: indices(live, "/front")[-1:] == [FRAMES - 1])
    assert indices(live, "/front") == list(range(6, FRAMES))
    assert live.received("/audio_info")[0].message.sample_rate == 16000


def test_as_fast_as_possible_loses_nothing(live: Graph, tmp_path: Path) -> None:
    count = 120
    with BagWriter(tmp_path / "bag") as writer:
        for index in range(count):
            stamp = (90 + index) * S
            pixels = np.full((8, 8, 3), index, np.uint8)
            writer.write("/rgb/image", types.IMAGE, image(pixels, "rgb8", stamp, "camera"), stamp)
    live.listen({"/rgb/image": Image, "/clock": Clock})
    player = live.start(
        "replay_node", f"bag:={tmp_path / 'bag'}", "speed:=0.0", "stamps:=recorded", "clock:=true"
    )
    assert player.wait(60) == 0, "two minutes of a recording"
    live.wait_until("the end", lambda: len(live.received("/rgb/image")) == count)
    assert indices(live, "/rgb/image") == list(range(count))
    live.wait_until(
        "the last word of the clock",
        lambda: stamp_to_ns(live.received("/clock")[-1].message.clock) == (90 + count - 1) * S,
    )


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        (["bag:=/nowhere"], "/nowhere: expected a bag"),
        (["bag:=~nobody_of_this_name/run"], "parameter bag: expected a path, got '~nobody_of_this_name/run"),
        (
            ["bag:={bag}", "faults:=~nobody_of_this_name/x.yaml"],
            "parameter faults: expected a file, or one of",
        ),
        ([], "parameter bag: expected a folder or a file, got none"),
        (["bag:={bag}", "clock:=true"], "expected stamps recorded beside it"),
        (["bag:={bag}", "speed:=0.0"], "parameter speed: expected stamps recorded beside 0"),
        (["bag:={bag}", "start:=9.0"], "parameter start: expected a time within 0.55 s, got 9"),
        (["bag:={bag}", "remaps:=['/a:=/b']"], "parameter remaps: expected topics that are played"),
        (["bag:={bag}", "remaps:=['a']"], "parameter remaps: expected names as /from:=/to"),
        (
            ["bag:={bag}", "remaps:=['/rgb/image:=/bad name']"],
            "parameter remaps: expected names as /from:=/to",
        ),
        (
            ["bag:={bag}", "start:=0.55", "loop:=true"],
            "parameter loop: expected a bag that goes on after start",
        ),
        (["bag:={bag}", "faults:={loss}"], "expected a sensor whose topic is played (/rgb/image), got depth"),
        (["bag:={bag}", "topics:=['/thermal/image']"], "got /thermal/image"),
        (["bag:={bag}", "faults:=nonsense"], "parameter faults: expected a file, or one of"),
    ],
)
def test_what_cannot_be_played_is_said(parameters: list[str], words: str, bag: Path, live: Graph) -> None:
    loss = bag.with_name("loss.yaml")
    loss.write_text("faults: [{at: 0.0, sensor: depth, fault: loss}]")
    player = live.start("replay_node", *[p.format(bag=bag, loss=loss) for p in parameters])
    assert player.wait(60) == 1, "nobody waits for a bag that cannot be played"
    live.processes.remove(player)
    assert "not configured" in player.text()
    assert words in player.text()
    assert "Traceback" not in player.text()


def test_a_node_that_stays_at_the_end_can_be_mended(live: Graph) -> None:
    player = live.start("replay_node", "bag:=/nowhere", "exit_at_end:=false")
    live.wait_until("the reason", lambda: "/nowhere: expected a bag" in player.text())
    live.wait_until("its services", lambda: ("replay", "/") in live.node.get_node_names_and_namespaces())
    assert player.running


def test_late_listeners_are_told_all_that_was_latched_and_faults_of_absent_sensors_named(
    bag: Path, live: Graph
) -> None:
    with BagWriter(bag.with_name("latched")) as writer:
        writer.add_topic("/static", "std_msgs/msg/String", latched=True)
        for index, word in enumerate(("a", "b", "c")):
            text = types.serialize(types.message_class("std_msgs/msg/String")(word), "std_msgs/msg/String")
            writer.write("/static", "std_msgs/msg/String", text, S + index)
        for index in range(FRAMES):
            stamp = S + index * S // 4
            pixels = np.full((8, 8, 3), index, np.uint8)
            writer.write("/rgb/image", types.IMAGE, image(pixels, "rgb8", stamp, "c"), stamp)
    listen(live, "/rgb/image")
    player = live.start("replay_node", f"bag:={bag.with_name('latched')}", "start:=0.5", "faults:=all_lost")
    live.wait_until("a warning", lambda: "no effect on what is not played: depth (/depth" in player.text())
    words: list[str] = []
    late = QoSProfile(depth=9, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    live.wait_until("the first frame", lambda: bool(live.received("/rgb/image")))
    live.node.create_subscription(String, "/static", lambda m: words.append(m.data), late)
    live.wait_until("all three", lambda: words == ["a", "b", "c"])


def test_types_that_are_not_installed_are_named(live: Graph, tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        pixels = np.zeros((4, 4, 3), np.uint8)
        writer.write("/rgb/image", types.IMAGE, image(pixels, "rgb8", S, "c"), S)
        odd = types.message_class("tf2_msgs/msg/TFMessage")(transforms=[])
        writer.write("/tf", "tf2_msgs/msg/TFMessage", types.serialize(odd, "tf2_msgs/msg/TFMessage"), S)
    live.listen({"/rgb/image": Image, "/rgb/camera_info": CameraInfo})
    player = live.start("replay_node", f"bag:={tmp_path / 'bag'}")
    assert player.wait(60) == 0
    assert "not installed here: /tf (tf2_msgs/msg/TFMessage)" in player.text()
    live.wait_until("the frame", lambda: len(live.received("/rgb/image")) == 1)


def test_replay_equals_evaluation(
    shared_data: Path, tmp_path: Path, domain: int, capsys: pytest.CaptureFixture[str]
) -> None:
    data = shared_data / "mm5_rgbdt"
    names = tuple(json.loads((data / "classes.json").read_text())["coarse_names"])
    model = make_model(tmp_path / "tiny", size=(240, 320), class_names=names, scene_names=())
    words = ["check", "--model", str(model), "--data", str(data), "--limit", "3", "--domain", str(domain)]
    code = bag_command([*words, "--rate", "5"])
    told = capsys.readouterr().out
    assert code == 0, told
    assert told.count("3 frames, 3 identical, 0 without output") == 7
    assert "replay equals evaluation" in told


def test_a_difference_is_found(
    shared_data: Path,
    tmp_path: Path,
    domain: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from robust_perception.evaluation import protocol
    from robust_perception.vocabulary import Pattern

    data = shared_data / "mm5_rgbdt"
    names = tuple(json.loads((data / "classes.json").read_text())["coarse_names"])
    model = make_model(tmp_path / "tiny", size=(240, 320), class_names=names, scene_names=())
    real = protocol.evaluate

    def off_by_one_pixel(*positional: object, label_maps: object, **named: object) -> object:
        def sink(pattern: Pattern, name: str, label_map: np.ndarray) -> None:
            changed = label_map.copy()
            changed[0, 0] ^= 1
            label_maps(pattern, name, changed)  # type: ignore[operator]

        return real(*positional, label_maps=sink, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(protocol, "evaluate", off_by_one_pixel)
    monkeypatch.setattr(protocol, "choose_patterns", lambda *_: (Pattern.parse("rgb"),))
    words = ["check", "--model", str(model), "--data", str(data), "--limit", "2", "--domain", str(domain)]
    assert bag_command([*words, "--rate", "5"]) == 1
    assert "replay differs in 2 label maps" in capsys.readouterr().out


@pytest.mark.slow
def test_the_whole_split_through_a_trained_model(shared_data: Path, repository: Path, domain: int) -> None:
    model = repository / "runs" / "mm5" / "model"
    if not model.is_dir():
        pytest.skip("runs/mm5/model is not there; the README says how to train it")
    data = shared_data / "mm5_rgbdt"
    words = ["check", "--model", str(model), "--data", str(data), "--domain", str(domain)]
    assert bag_command(words) == 0
