"""simulation_node as a process: what it publishes is the rig's, at its time, with the script's faults."""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from audio_common_msgs.msg import AudioDataStamped, AudioInfo
from diagnostic_msgs.msg import DiagnosticArray
from live_graph import START_S, Graph, values
from sensor_msgs.msg import CameraInfo, Image
from tiny_model import make_model
from vision_msgs.msg import Classification, Detection2DArray

from robust_perception.bag import main as bag_command
from robust_perception.bags.writer import BagWriter
from robust_perception.datasets import FolderDataset
from robust_perception.evaluate import main as evaluate
from robust_perception.ros import images
from robust_perception.ros.monitor import Listener, Monitor
from robust_perception.runtime.decoders import AudioDecoder, ImageDecoder, ImageUnits, stamp_to_ns
from robust_perception.simulation.classes import CLASS_NAMES, SCENE_NAMES
from robust_perception.simulation.depth import FARTHEST
from robust_perception.vocabulary import IMAGE_MODALITIES, Modality

pytestmark = pytest.mark.ros

TOPICS = {
    "/rgb/image": Image,
    "/depth/image": Image,
    "/thermal/image": Image,
    "/rgb/camera_info": CameraInfo,
    "/audio": AudioDataStamped,
    "/audio_info": AudioInfo,
    "/truth/segmentation": Image,
    "/truth/detections": Detection2DArray,
    "/truth/scene": Classification,
    "/truth/faults": DiagnosticArray,
}
SCRIPT = """
seed: 3
faults:
  - {at: 1.0, until: 2.0, sensor: rgb, fault: loss}
  - {at: 0.0, until: 60.0, sensor: thermal, fault: delay, seconds: 0.25}
"""
SEED, SIZE, RATE = 4, (128, 160), 10.0


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Graph]:
    """A rig that has run for three seconds and more."""
    pytest.importorskip("mujoco", reason="mujoco is not installed")
    folder = tmp_path_factory.mktemp("simulation")
    script = folder / "script.yaml"
    script.write_text(SCRIPT, encoding="utf-8")
    with Graph(folder) as live:
        with (
            BagWriter(folder / "bag") as bag,
            Monitor(Mock(Listener), live.domain, bag) as monitor,
        ):
            live.listen(TOPICS)
            process = live.start(
                "simulation_node",
                f"seed:={SEED}",
                f"height:={SIZE[0]}",
                f"width:={SIZE[1]}",
                f"rate:={RATE}",
                f"faults:={script}",
                "wait:=true",
            )
            live.wait_for("/truth/faults", "3 s", lambda m: time_of(m) >= 3.0, START_S + 10)
            live.wait_for("/thermal/image", "the delayed frames", lambda m: True, 5.0)
            live.wait_until("two seconds of sound", lambda: seconds_of_sound(live) >= 2.0)
            process.signal(signal.SIGINT)
            assert process.wait() == 0, process.text()
            assert "Traceback" not in process.text()
        assert monitor.failure is None
        yield live


def time_of(faults: DiagnosticArray) -> float:
    return float(values(faults.status[0])["time_s"])


def seconds_of_sound(live: Graph) -> float:
    return sum(len(arrival.message.audio.data) // 2 for arrival in live.received("/audio")) / 16_000


def times(live: Graph) -> dict[int, float]:
    """Script time of every stamp."""
    return {stamp_to_ns(a.message.header.stamp): time_of(a.message) for a in live.received("/truth/faults")}


def test_frames_and_truth_are_the_rigs(recorded: Graph) -> None:
    from robust_perception.simulation.rig import SCENE_NAMES, Rig

    decoders = {m: ImageDecoder(m, ImageUnits, print) for m in IMAGE_MODALITIES}
    messages = {
        topic: {stamp_to_ns(a.message.header.stamp): a.message for a in recorded.received(topic)}
        for topic in TOPICS
        if topic != "/audio_info"
    }
    complete = [
        stamp
        for stamp in times(recorded)
        if all(stamp in messages[topic] for topic in TOPICS if not topic.startswith("/audio"))
    ]
    assert len(complete) >= 3
    with Rig(SEED, SIZE) as rig:
        for stamp in (complete[0], complete[-1]):
            rig.step(times(recorded)[stamp])
            expected = rig.capture(stamp_ns=stamp)
            for modality in IMAGE_MODALITIES:
                got = decoders[modality].decode(messages[f"/{modality}/image"][stamp])
                tolerance = {Modality.RGB: 0, Modality.DEPTH: 0.0006, Modality.THERMAL: 0.008}[modality]
                np.testing.assert_allclose(
                    got.data.astype(float), expected.frames[modality].data.astype(float), atol=tolerance
                )
            label = images.to_array(messages["/truth/segmentation"][stamp])
            np.testing.assert_array_equal(label, expected.label)
            boxes = messages["/truth/detections"][stamp].detections
            assert len(boxes) == len(expected.boxes)
            scene = {r.class_id: r.score for r in messages["/truth/scene"][stamp].results}
            assert scene == dict(zip(SCENE_NAMES, expected.scene.tolist(), strict=True))
        info = messages["/rgb/camera_info"][complete[0]]
        assert (info.width, info.height) == (SIZE[1], SIZE[0])
        assert (info.k[0], info.k[4], info.k[2], info.k[5]) == rig.intrinsics


def test_faults_are_those_of_the_script(recorded: Graph) -> None:
    seen = times(recorded)
    rgb = {seen[stamp_to_ns(a.message.header.stamp)] for a in recorded.received("/rgb/image")}
    assert min(rgb) == 0.0, "the first picture came before anybody listened"
    assert not [t for t in rgb if 1.0 <= t < 2.0]
    for arrival in recorded.received("/truth/faults"):
        status = arrival.message.status[0]
        lost = 1.0 <= time_of(arrival.message) < 2.0
        assert (status.name, status.message) == ("rgb", "loss" if lost else "none")
        assert values(status)["silent"] == str(lost).lower()
    depth = {stamp_to_ns(a.message.header.stamp): a.at for a in recorded.received("/depth/image")}
    thermal = {stamp_to_ns(a.message.header.stamp): a.at for a in recorded.received("/thermal/image")}
    lags = [thermal[stamp] - depth[stamp] for stamp in thermal if stamp in depth]
    # The delay counts from the measurement; its neighbours took their time to arrive too.
    assert 0.0 < np.median(lags) <= 0.27, lags


def test_sound_has_no_seam(recorded: Graph) -> None:
    gaps: list[str] = []
    decoder = AudioDecoder(None, gaps.append)
    decoder.describe(recorded.received("/audio_info")[0].message)
    chunks = [a.message for a in recorded.received("/audio")]
    assert len(chunks) > 3
    for chunk in chunks:
        decoder.decode(chunk)
    assert not gaps
    covered = sum(len(c.audio.data) // 2 for c in chunks[:-1]) / 16_000
    first, last = (stamp_to_ns(c.header.stamp) for c in (chunks[0], chunks[-1]))
    assert covered == pytest.approx((last - first) / 1e9, abs=0.005)


def test_what_was_recorded_of_it_can_be_evaluated(
    recorded: Graph, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_model(tmp_path / "tiny", size=SIZE, class_names=CLASS_NAMES, scene_names=SCENE_NAMES)
    words = ["--bag", str(recorded.folder / "bag"), "--json", str(tmp_path / "report.json")]
    assert evaluate(["--model", str(model), *words]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["mean"]["foreground_miou"] is not None
    assert report["mean"]["scene_map"] is not None
    assert "rgb" in {loss["sensor"] for run in report["passes"].values() for loss in run["losses"]}
    capsys.readouterr()
    other = make_model(tmp_path / "other", size=SIZE)
    assert evaluate(["--model", str(other), *words]) == 1
    error = capsys.readouterr().err
    assert (
        "expected the model's class names ['background', 'cup', 'box'], got ['background', 'person'" in error
    )


def test_what_was_recorded_of_it_becomes_a_data_folder(recorded: Graph, tmp_path: Path) -> None:
    assert bag_command(["to-dataset", str(recorded.folder / "bag"), "--out", str(tmp_path / "data")]) == 0
    dataset = FolderDataset(tmp_path / "data", "train")
    assert dataset.class_names == CLASS_NAMES
    assert set(dataset.scene_names) == set(SCENE_NAMES)
    labelled = [s for s in dataset if s.label is not None and s.boxes is not None and s.scene is not None]
    assert len(labelled) > 0.8 * len(dataset)
    assert {Modality.RGB, Modality.DEPTH, Modality.AUDIO} <= set(dataset.modalities)
    assert any(Modality.RGB not in sample.frames for sample in dataset), "it was lost for a second"


def test_counts_mean_what_the_units_say(live: Graph) -> None:
    pytest.importorskip("mujoco", reason="mujoco is not installed")
    live.listen({"/depth/image": Image, "/thermal/image": Image})
    said = ImageUnits(depth_scale=0.00025, thermal_scale=0.01, thermal_offset=173.15)
    live.start(
        "simulation_node",
        f"depth.scale:={said.depth_scale}",
        f"thermal.encoding_scale:={said.thermal_scale}",
        f"thermal.offset:={said.thermal_offset}",
    )
    frames = {
        modality: ImageDecoder(modality, lambda: said, print).decode(
            live.wait_for(f"/{modality}/image", "a picture", lambda m: True, START_S).message
        )
        for modality in (Modality.DEPTH, Modality.THERMAL)
    }
    distance = np.nanmax(frames[Modality.DEPTH].data)
    assert 2.5 < distance < FARTHEST + 1.0, "the far end of a room"
    median = np.median(frames[Modality.THERMAL].data)
    assert 273.15 + 10 < median < 273.15 + 30, "the walls of a room"


@pytest.mark.parametrize(
    ("parameter", "words"),
    [
        (
            "depth.scale:=1e-6",
            "depth.scale: expected metres a count with which 1 to 65535 counts hold 0.3 to 2 m",
        ),
        (
            "thermal.encoding_scale:=0.001",
            "thermal.offset: expected .* hold 273.15 to 373.15 K, got .*0 to 65.535 K",
        ),
        ("faults:=no_such_script", "parameter faults: expected a file, or one of"),
        ("faults:=SCRIPT", "fault: expected one of loss"),
    ],
)
def test_parameter_that_does_not_do_is_named(parameter: str, words: str, live: Graph, tmp_path: Path) -> None:
    pytest.importorskip("mujoco", reason="mujoco is not installed")
    script = tmp_path / "bad.yaml"
    script.write_text("faults:\n  - {at: 1.0, sensor: rgb, fault: gone}\n", encoding="utf-8")
    process = live.start("simulation_node", parameter.replace("SCRIPT", str(script)))
    live.wait_until("the reason", lambda: "not configured" in process.text())
    assert re.search(words, process.text()), process.text()
    assert process.running


BREAKS = """
from robust_perception.ros import rig_feed, simulation_node
steps = iter(range(5))
class Breaking(rig_feed.Rig):
    def step(self, seconds):
        next(steps)
        super().step(seconds)
rig_feed.Rig = Breaking
raise SystemExit(simulation_node.main(["simulation_node"]))
"""
"""A rig that fails after five pictures."""


def test_a_rig_that_fails_ends_the_node(live: Graph) -> None:
    pytest.importorskip("mujoco", reason="mujoco is not installed")
    process = live.run([sys.executable, "-c", BREAKS], "simulation_node")
    assert process.wait(START_S) == 1
    assert "the rig stopped: StopIteration()" in process.text()


@pytest.mark.slow
def test_rate_out_of_reach_is_said(live: Graph) -> None:
    pytest.importorskip("mujoco", reason="mujoco is not installed")
    process = live.start("simulation_node", "width:=640", "height:=480", "rate:=120.0")
    live.wait_until("a word about the rate", lambda: "expected 120 Hz, got" in process.text(), 60.0)
    live.listen({"/rgb/image": Image})
    picture = live.wait_for("/rgb/image", "a picture", lambda m: True, 20.0).message
    assert (picture.width, picture.height) == (640, 480)
