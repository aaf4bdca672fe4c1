"""What the launch file starts for what is said on the command line, read through the stand-ins."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import stand_in
from tiny_model import make_model

from robust_perception.bags import types
from robust_perception.bags.dataset import image
from robust_perception.bags.writer import BagWriter
from robust_perception.environment import PROFILE_VARIABLES, profile_variable

UNITS = {"depth.scale": 0.001, "thermal.encoding_scale": 0.015625, "thermal.offset": 0.0}
"""What the shipped parameters say."""


def test_every_argument_says_what_it_is(launch_file: Path) -> None:
    declared = [
        e for e in stand_in.describe(launch_file).entities if isinstance(e, stand_in.DeclareLaunchArgument)
    ]
    names = {argument.name for argument in declared}
    assert {"namespace", "params_file", "model", "use_sim_time", "backend"} < names
    assert {"log_level", "source", "bag", "faults"} < names
    for sensor in ("rgb", "depth", "thermal", "audio"):
        assert {f"{sensor}_topic", f"{sensor}_enabled"} < names
    for argument in declared:
        assert len(argument.description) > 10, argument.name
        assert argument.choices is None or argument.default_value in argument.choices, argument.name


def test_live_starts_only_the_fusion_node(launch_file: Path) -> None:
    (fusion,) = stand_in.nodes(launch_file, {})
    assert (fusion.executable, fusion.name) == ("fusion_node", "fusion")
    assert Path(fusion.parameters[0]).name == "fusion.yaml"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, None),  # as the parameters say
        ({"use_sim_time": "true"}, True),
        ({"use_sim_time": "false"}, False),
        ({"source": "bag", "bag": "/data/run.mcap"}, False),  # played here, without a clock
    ],
)
def test_parameters_say_whether_a_robot_has_simulated_time(
    launch_file: Path, said: dict[str, str], expected: bool | None
) -> None:
    fusion, *_ = stand_in.nodes(launch_file, said)
    assert fusion.parameters[1].get("use_sim_time") is expected


def test_profile_is_set_when_unset_and_left_alone_when_set(
    launch_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in.describe(launch_file)
    assert Path(os.environ[profile_variable()]).name == "fastdds.xml"
    monkeypatch.setenv(PROFILE_VARIABLES[0], "/mine.xml")
    monkeypatch.delenv(PROFILE_VARIABLES[1], raising=False)
    stand_in.describe(launch_file)
    assert os.environ[PROFILE_VARIABLES[0]] == "/mine.xml"
    assert PROFILE_VARIABLES[1] not in os.environ


def test_sensor_topic_takes_its_companions_along(launch_file: Path) -> None:
    said = {"source": "simulation", "rgb_topic": "/camera/color/image_raw", "thermal_enabled": "false"}
    fusion, simulation = stand_in.nodes(launch_file, said)
    assert dict(fusion.remappings) == {
        "rgb/image": "/camera/color/image_raw",
        "rgb/image/compressed": "/camera/color/image_raw/compressed",
        "rgb/camera_info": "/camera/color/camera_info",
    }
    assert simulation.remappings == fusion.remappings
    assert fusion.parameters[1]["thermal.enabled"] is False
    assert "rgb.enabled" not in fusion.parameters[1], "an argument left alone overrides no parameter file"


def test_fault_script_by_name_goes_to_the_source(launch_file: Path, repository: Path) -> None:
    script = next((repository / "config" / "faults").glob("*.yaml"))
    _, source = stand_in.nodes(launch_file, {"source": "simulation", "faults": script.stem})
    assert Path(source.parameters[0]["faults"]) == script


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"source": "bag"}, "needs a bag"),
        ({"faults": "demo"}, "say source:="),
        ({"source": "simulation", "faults": "no_such_script"}, "no file and no script"),
        ({"bag": "run"}, "bag:=run is for the bag player: say source:=bag"),
        ({"source": "simulation", "speed": "2", "loop": "true"}, "speed:=2 loop:=true is for the bag player"),
        ({"source": "bag", "bag": "run", "speed": "fast"}, "speed:= expected a number, got 'fast'"),
        ({"source": "simulation", "use_sim_time": "true"}, "publishes /clock"),
        ({"source": "simulation", "rgb_topic": "/camera/compressed"}, "raw images, not /camera/compressed"),
    ],
)
def test_contradiction_is_refused_with_words(launch_file: Path, said: dict[str, str], words: str) -> None:
    with pytest.raises(RuntimeError, match=words):
        stand_in.nodes(launch_file, said)


def test_a_bag_is_played_into_the_namespace_under_the_clock_of_the_recording(launch_file: Path) -> None:
    said = {"source": "bag", "bag": "/data/run.mcap", "namespace": "robot", "use_sim_time": "true"}
    fusion, replay = stand_in.nodes(launch_file, said)
    assert fusion.parameters[1]["use_sim_time"] is True
    as_recorded = {"speed": 1.0, "start": 0.0, "loop": False}
    expected = {"bag": "/data/run.mcap", **as_recorded, **UNITS, "stamps": "recorded", "clock": True}
    assert replay.parameters == [expected]
    assert dict(replay.remappings)["/rgb/image"] == "rgb/image"
    assert dict(replay.remappings)["/audio_info"] == "audio_info"


def test_a_bag_of_another_robot_is_played_under_its_own_names(launch_file: Path) -> None:
    said = {"source": "bag", "bag": "run", "rgb_topic": "/camera/color/image_raw", "speed": "0.5"}
    said |= {"start": "10", "loop": "true"}
    fusion, replay = stand_in.nodes(launch_file, said)
    assert dict(fusion.remappings)["rgb/image"] == "/camera/color/image_raw"
    played = {"bag": "run", "speed": 0.5, "start": 10.0, "loop": True}
    assert replay.parameters == [played | UNITS | {"rgb.topic": "/camera/color/image_raw"}]
    assert not replay.remappings


@pytest.mark.parametrize("source", [{"source": "bag", "bag": "run"}, {"source": "simulation"}])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/**: {ros__parameters: {depth.scale: 0.00025, rate: 5.0}}", {"depth.scale": 0.00025}),
        ("/robot/fusion: {ros__parameters: {depth: {scale: 25e-5}}}", {"depth.scale": 0.00025}),
        ("robot: {fusion: {ros__parameters: {thermal: {offset: 273.15}}}}", {"thermal.offset": 273.15}),
        ("/**/fusion: {ros__parameters: {thermal.encoding_scale: 0.01}}", {"thermal.encoding_scale": 0.01}),
        ("/*/fusion: {ros__parameters: {depth.scale: 0.1}}", {"depth.scale": 0.1}),
        (  # the last word counts
            "{/**: {ros__parameters: {depth.scale: 2}}, /robot/*: {ros__parameters: {depth.scale: 1}}}",
            {"depth.scale": 1.0},
        ),
        ("/**: {ros__parameters: {rate: 5.0}}", {}),
        ("[", {}),  # the node says so
        ("/**: {ros__parameters: {depth.scale: wide}}", {}),  # here, too
    ],
)
def test_whoever_plays_the_sensors_has_the_units_of_the_parameters(
    text: str, expected: dict[str, float], source: dict[str, str], launch_file: Path, tmp_path: Path
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    said = {**source, "namespace": "robot", "params_file": str(file)}
    fusion, player = stand_in.nodes(launch_file, said)
    assert fusion.parameters[0] == str(file)
    assert {name: player.parameters[0][name] for name in UNITS if name in player.parameters[0]} == expected
    assert "rate" not in player.parameters[0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "mine.yaml cannot be read: No such file"),
        ("/fusion: {ros__parameters: {rate: 5.0}}", "says nothing to /robot/fusion, only to /fusion: "),
        (
            "{a: {ros__parameters: {b: 1}}, /*: {ros__parameters: {}}}",
            "only to /a, /\\*: /\\*\\* is for every",
        ),
    ],
)
def test_a_parameter_file_that_would_have_no_effect_is_refused(
    text: str | None, words: str, launch_file: Path, tmp_path: Path
) -> None:
    file = tmp_path / "mine.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(RuntimeError, match=words):
        stand_in.nodes(launch_file, {"params_file": str(file), "namespace": "robot"})


@pytest.mark.parametrize(
    ("around", "namespace", "expected"),
    [("/robot", "", 0.1), ("/fleet", "robot", 0.2), ("/fleet", "/robot", 0.1), ("/", "robot", 0.1)],
)
def test_the_namespace_of_a_group_counts(
    around: str, namespace: str, expected: float, launch_file: Path, tmp_path: Path
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "{/robot/fusion: {ros__parameters: {depth.scale: 0.1}}, "
        "/fleet/robot/fusion: {ros__parameters: {depth.scale: 0.2}}}"
    )
    said = {"source": "bag", "bag": "run", "params_file": str(file), "namespace": namespace}
    _, replay = stand_in.nodes(launch_file, said, around)
    assert replay.parameters[0]["depth.scale"] == expected
    assert dict(replay.remappings)["/rgb/image"] == "rgb/image", "what was recorded moves into the namespace"


HEARD = """
import json, sys, rclpy
rclpy.init(args=sys.argv)
node = rclpy.create_node("fusion")
print(json.dumps({name: parameter.value for name, parameter in node._parameter_overrides.items()}))
"""
"""Prints what ROS makes of a command line's parameters."""


@pytest.mark.ros
@pytest.mark.parametrize("namespace", ["", "robot"])
@pytest.mark.parametrize(
    "sections",
    [
        ("/**", "NODE"),
        ("NODE", "/**"),
        ("/**", "NODE", "ANY"),
        ("NODE", "ANY", "/**/fusion", "/**"),
        ("ANY", "/**/fusion"),
    ],
)
def test_an_argument_wins_over_every_section_of_a_parameter_file(
    sections: tuple[str, ...],
    namespace: str,
    launch_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("rclpy")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    node = f"/{namespace}/fusion".replace("//", "/")
    named = {"NODE": node, "ANY": re.sub(r"\w+", "*", node)}
    said_in_file = "{ros__parameters: {rgb.enabled: true, backend: auto, rate: 3.0}}"
    file = tmp_path / "mine.yaml"
    file.write_text("\n".join(f"{named.get(section, section)}: {said_in_file}" for section in sections))
    said = {
        "params_file": str(file),
        "namespace": namespace,
        "rgb_enabled": "false",
        "backend": "onnxruntime",
    }
    said["model"] = "2024_11_30"  # a number to YAML
    (fusion,) = stand_in.nodes(launch_file, said)
    command = [sys.executable, "-c", HEARD, *fusion.command(tmp_path, tmp_path)[1:]]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    values = json.loads(done.stdout.splitlines()[-1])
    assert values == {"rgb.enabled": False, "backend": "onnxruntime", "rate": 3.0, "model": said["model"]}


def test_the_simulation_is_heard_whatever_the_sensors_of_a_robot_send(launch_file: Path) -> None:
    fusion, _ = stand_in.nodes(launch_file, {"source": "simulation"})
    as_sent = {"rgb.transport": "raw", "depth.transport": "raw", "thermal.transport": "raw"}
    assert as_sent | {"audio.sample_rate": 0} == {
        name: fusion.parameters[1].get(name) for name in (*as_sent, "audio.sample_rate")
    }
    (live,) = stand_in.nodes(launch_file, {})
    assert not as_sent.keys() & live.parameters[1].keys(), "on a robot the parameter file says so"


def test_the_units_are_those_that_the_nodes_have() -> None:
    parameters = pytest.importorskip("robust_perception.ros.unit_parameters", exc_type=ImportError)
    assert {row.name: row.default for row in parameters.UNITS} == UNITS


def test_a_relative_topic_of_a_bag_moves_into_the_namespace(launch_file: Path) -> None:
    said = {"source": "bag", "bag": "run", "namespace": "robot"}
    said |= {"rgb_topic": "camera/image_raw", "depth_topic": "/depth_camera/image_raw"}
    fusion, replay = stand_in.nodes(launch_file, said)
    heard, played = dict(fusion.remappings), dict(replay.remappings)
    assert (heard["rgb/image"], played["/camera/image_raw"]) == ("camera/image_raw", "camera/image_raw")
    assert played["/camera/camera_info"] == "camera/camera_info"
    assert heard["depth/image"] == "/depth_camera/image_raw"
    assert "/depth_camera/image_raw" not in played, "an absolute name is meant so"


@pytest.mark.parametrize(
    ("sensor", "topic", "beside"),
    [
        ("audio", "/audio", ("audio_info", "/audio_info")),
        ("rgb", "/image", ("rgb/camera_info", "/camera_info")),
    ],
)
def test_topic_at_the_root_keeps_its_companions_there(
    sensor: str, topic: str, beside: tuple[str, str], launch_file: Path
) -> None:
    (fusion,) = stand_in.nodes(launch_file, {"namespace": "r1", f"{sensor}_topic": topic})
    assert {("audio" if sensor == "audio" else "rgb/image", topic), beside} <= set(fusion.remappings)


@pytest.mark.parametrize("transport", ["compressed", "compressedDepth"])
def test_compressed_topic_is_taken_so(transport: str, launch_file: Path) -> None:
    (fusion,) = stand_in.nodes(launch_file, {"depth_topic": f"/camera/depth/{transport}"})
    assert fusion.parameters[1]["depth.transport"] == "compressed"
    assert dict(fusion.remappings)["depth/image/compressed"] == f"/camera/depth/{transport}"
    assert dict(fusion.remappings)["depth/camera_info"] == "/camera/camera_info"
    assert "rgb.transport" not in fusion.parameters[1]


def test_switch_that_is_said_wins_over_a_parameter_file(launch_file: Path) -> None:
    (fusion,) = stand_in.nodes(launch_file, {"rgb_enabled": "true", "depth_enabled": "false"})
    switches = {name: value for name, value in fusion.parameters[1].items() if name.endswith(".enabled")}
    assert switches == {"rgb.enabled": True, "depth.enabled": False}


def test_a_recording_runs_beside_any_source(launch_file: Path) -> None:
    _, recorder = stand_in.nodes(launch_file, {"record": "/data/today", "use_sim_time": "true"})
    assert recorder.executable == "recorder_node"
    assert recorder.parameters == [{"use_sim_time": True, "bag": "/data/today"}]


def test_a_parameter_file_in_the_home_folder_is_found(
    launch_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.yaml").write_text("/**: {ros__parameters: {rate: 5.0}}")
    (fusion,) = stand_in.nodes(launch_file, {"params_file": "~/mine.yaml"})
    assert fusion.parameters[0] == str(tmp_path / "mine.yaml")


@pytest.mark.parametrize(("said", "expected"), [("", True), ("false", False)])
def test_a_recording_has_the_clock_that_a_parameter_file_says(
    said: str, expected: bool, launch_file: Path, tmp_path: Path
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("/**: {ros__parameters: {use_sim_time: true}}")
    fusion, recorder = stand_in.nodes(
        launch_file, {"record": "today", "params_file": str(file), "use_sim_time": said}
    )
    assert recorder.parameters[0].get("use_sim_time") is expected
    assert fusion.parameters[1].get("use_sim_time", True) is expected


def write_bag(folder: Path) -> Path:
    """Thirty seconds of pictures."""
    with BagWriter(folder / "bag") as bag:
        for index in range(300):
            stamp = 1_000_000_000 + index * 100_000_000
            pixels = np.full((64, 96, 3), index % 200, np.uint8)
            bag.write("/rgb/image", types.IMAGE, image(pixels, "rgb8", stamp, "camera"), stamp)
    return folder / "bag"


@pytest.mark.ros
@pytest.mark.parametrize("source", ["simulation", "bag"])
def test_launched_graph_publishes(source: str, launch_file: Path, tmp_path: Path) -> None:
    """The nodes launch would start, as processes over DDS: outputs arrive and SIGINT ends them cleanly."""
    if importlib.util.find_spec("rclpy") is None:
        pytest.skip("rclpy is not installed")
    prefix = Path(sys.prefix)
    if not (prefix / "lib" / "robust_perception" / "fusion_node").is_file():
        pytest.skip("the package is not installed in this environment; `make test` installs it")
    os.environ["ROS_DOMAIN_ID"] = "61"
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    model = make_model(tmp_path / "model")
    said = {"source": source, "namespace": "robot", "model": str(model)}
    if source == "bag":
        said["bag"] = str(write_bag(tmp_path))
    described = stand_in.nodes(launch_file, said)
    logs = [tmp_path / f"{node.name}.log" for node in described]
    processes = []
    try:
        for node, log in zip(described, logs, strict=True):
            with log.open("w") as out:
                command = node.command(prefix, tmp_path)
                process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, cwd=tmp_path)
                processes.append(process)
        received = _first_detections("/robot/fusion/detections", deadline_s=60.0, processes=processes)
        output = "\n".join(log.read_text()[-2000:] for log in logs)
        assert received is not None, output
        assert received.header.stamp.sec > 0
    finally:
        for process in processes:
            process.send_signal(signal.SIGINT)
        codes = [_end(process) for process in processes]
    assert codes == [0, 0], "\n".join(log.read_text()[-2000:] for log in logs)


def _first_detections(topic, deadline_s, processes):
    import rclpy
    from vision_msgs.msg import Detection2DArray

    received = []
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("launch_test", context=context)
    executor = rclpy.executors.SingleThreadedExecutor(context=context)
    executor.add_node(node)
    node.create_subscription(Detection2DArray, topic, received.append, 10)
    deadline = time.monotonic() + deadline_s
    try:
        while not received and time.monotonic() < deadline and all(p.poll() is None for p in processes):
            executor.spin_once(timeout_sec=0.5)
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown(context=context)
    return received[0] if received else None


def _end(process: subprocess.Popen[bytes]) -> int:
    try:
        return process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
