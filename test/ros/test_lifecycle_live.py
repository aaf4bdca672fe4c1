"""The node's own life: transitions, ends, and what keeps it from starting."""

from __future__ import annotations

import re
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from live_graph import OUTPUTS, START_S, Graph, pattern_of
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from sensors import Sensors

from robust_perception.vocabulary import Modality

pytestmark = pytest.mark.ros


class Caller:
    """Calls the services of the node."""

    def __init__(self, live: Graph) -> None:
        self._live = live
        make = live.node.create_client
        self._clients = {
            "change": make(ChangeState, "/fusion/change_state"),
            "state": make(GetState, "/fusion/get_state"),
            "set": make(SetParameters, "/fusion/set_parameters"),
        }

    def call(self, name: str, request: Any) -> Any:
        return self._live.ask(self._clients[name], request, name)

    def change(self, transition: int) -> bool:
        return bool(self.call("change", ChangeState.Request(transition=Transition(id=transition))).success)

    def state(self) -> str:
        return str(self.call("state", GetState.Request()).current_state.label)

    def set(self, name: str, value: Any) -> str:
        """Set a parameter; the reason of a refusal, empty when it was taken."""
        kinds = {
            str: (ParameterType.PARAMETER_STRING, "string_value"),
            float: (ParameterType.PARAMETER_DOUBLE, "double_value"),
            bool: (ParameterType.PARAMETER_BOOL, "bool_value"),
        }
        kind, field = kinds[type(value)]
        parameter = ParameterMessage(name=name, value=ParameterValue(type=kind, **{field: value}))
        (result,) = self.call("set", SetParameters.Request(parameters=[parameter])).results
        return "" if result.successful else str(result.reason)


def test_every_transition_and_back(live: Graph, tiny: Path) -> None:
    live.start("fusion_node", f"model:={tiny}", "autostart:=false")
    live.listen(OUTPUTS)
    caller = Caller(live)
    assert caller.state() == "unconfigured"
    status = live.diagnosis("pattern", "not configured", lambda s: s.level == DiagnosticStatus.ERROR)
    assert "not configured" in status.message
    assert caller.change(Transition.TRANSITION_CONFIGURE)
    assert caller.state() == "inactive"
    assert live.node.count_subscribers("/rgb/image") == 0, "an inactive node listens to no sensor"
    assert "unconfigured" in caller.set("model", "another"), "what was built from it may not change"
    assert caller.change(Transition.TRANSITION_ACTIVATE)
    with Sensors(live) as sensors:
        live.wait_for("/fusion/presence", "an output", lambda m: True, 10.0)
        assert caller.change(Transition.TRANSITION_DEACTIVATE)
        live.diagnosis("pattern", "inactive", lambda s: "inactive" in s.message)
        before = len(live.received("/fusion/presence"))
        live.diagnosis("pattern", "inactive", lambda s: "inactive" in s.message)
        assert len(live.received("/fusion/presence")) == before
        again = time.monotonic()
        assert caller.change(Transition.TRANSITION_ACTIVATE)
        live.wait_for("/fusion/presence", "an output", lambda m: True, 10.0, since=again)
        assert caller.set("rgb.enabled", False) == ""
        since = time.monotonic()
        without = live.wait_for(
            "/fusion/presence",
            "no rgb",
            lambda m: pattern_of(m) == "depth+thermal+audio",
            5.0,
            since=since,
        )
        assert without.message.status[1].message.startswith("disabled")
        assert "out of range" in caller.set("rate", 0.0)
        assert caller.set("score_threshold", 0.75) == ""
        info = live.wait_for("/fusion/label_info", "0.75", lambda m: m.threshold == 0.75, 5.0).message
        assert {c.class_id: c.class_name for c in info.class_map} == {
            0: "background",
            1: "cup",
            2: "box",
            255: "unlabelled",
        }
        sensors.lose(*sensors.alive)
        assert caller.change(Transition.TRANSITION_DEACTIVATE)
        assert caller.change(Transition.TRANSITION_CLEANUP)
        assert caller.state() == "unconfigured"
        assert caller.set("rgb.timeout", 0.4) == ""
        assert caller.change(Transition.TRANSITION_CONFIGURE)
        assert caller.change(Transition.TRANSITION_UNCONFIGURED_SHUTDOWN) is False
        assert caller.change(Transition.TRANSITION_INACTIVE_SHUTDOWN)
        assert caller.state() == "finalized"


@pytest.fixture
def under_a_terminal() -> Iterator[None]:
    """Whoever started the tests may have them outlive his terminal; children inherit what is ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_ends_an_active_node_cleanly(
    number: int, under_a_terminal: None, live: Graph, tiny: Path
) -> None:
    process = live.start_fusion(tiny)
    with Sensors(live):
        live.wait_for("/fusion/presence", "an output", lambda m: True, 10.0)
        process.signal(number)
        process.signal(number)  # as launch does, which passes on what the terminal has sent already
        assert process.wait() == 0, process.text()
    assert "Traceback" not in process.text()


def test_nohup_outlives_the_terminal(live: Graph, tiny: Path) -> None:
    command = ["nohup", sys.executable, "-m", "robust_perception.ros.fusion_node", "--ros-args"]
    process = live.run([*command, "-p", f"model:={tiny}"], "outlives")
    live.listen()
    live.wait_for("/fusion/label_info", "an active node", lambda m: True, START_S)
    process.signal(signal.SIGHUP)
    for _ in range(2):
        live.diagnosis("pattern", "a node that goes on", lambda s: True)
    assert process.running


def test_missing_model_is_named_and_can_be_mended(live: Graph, tiny: Path) -> None:
    process = live.start("fusion_node", "model:=no_such_model")
    live.listen({"/diagnostics": DiagnosticArray})
    status = live.diagnosis("pattern", "an error", lambda s: "no_such_model" in s.message, START_S)
    assert status.level == DiagnosticStatus.ERROR
    assert "expected a folder or one of" in status.message
    assert process.running
    caller = Caller(live)
    assert caller.set("model", str(tiny)) == ""
    assert caller.change(Transition.TRANSITION_CONFIGURE)
    assert caller.state() == "inactive"


def test_damaged_model_is_named(live: Graph, tiny: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(tiny, damaged)
    graph = damaged / "encoder_depth.onnx"
    graph.write_bytes(graph.read_bytes()[:-1])
    live.start("fusion_node", f"model:={damaged}")
    live.listen({"/diagnostics": DiagnosticArray})
    status = live.diagnosis("pattern", "an error", lambda s: "encoder_depth" in s.message, START_S)
    assert status.level == DiagnosticStatus.ERROR
    assert "expected" in status.message


@pytest.mark.parametrize(
    ("parameter", "words"),
    [
        ("rate:=fast", "parameter rate: expected a double, got 'fast'"),
        ("rate:=-1.0", "parameter rate: expected 0.1 to 1000, got -1.0"),
        ("backend:=cuda", "parameter backend: expected one of auto, tensorrt"),
        ("use_sim_time:=1", "'use_sim_time' to '1' of type 'INTEGER', expecting type 'BOOL'"),
        ("rgb.transport:=h264", "parameter rgb.transport: expected one of raw, compressed, got 'h264'"),
    ],
)
def test_wrong_parameter_ends_the_node_with_the_reason(
    parameter: str, words: str, live: Graph, tiny: Path
) -> None:
    process = live.start("fusion_node", f"model:={tiny}", parameter)
    assert process.wait(START_S) == 2
    assert words in process.text()
    assert "Traceback" not in process.text()


def test_policy_no_set_of_sensors_can_meet(live: Graph, tiny: Path) -> None:
    live.start("fusion_node", f"model:={tiny}", "required_any:=[rgb]", "min_modalities:=2", "ratee:=3.0")
    live.listen(OUTPUTS)
    live.wait_for("/fusion/label_info", "an active node", lambda m: True, START_S)
    assert "parameter ratee is not known" in live.processes[0].text()
    assert "did you mean rate?" in live.processes[0].text()
    with Sensors(live, alive=()) as sensors:
        sensors.regain(Modality.DEPTH, Modality.THERMAL)
        status = live.diagnosis("pattern", "the policy", lambda s: "depth+thermal" in s.message)
        assert status.level == DiagnosticStatus.ERROR
        assert "required_any: one of rgb must be alive" in status.message
        assert not live.received("/fusion/presence")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--params-file", "absent.yaml"], "ROS does not start: .*absent.yaml"),
        (["-r", "rgb/image:=/camera/"], "ROS does not start: .*rgb/image:=/camera/"),
        (["--rate", "3.0"], "ROS does not start: .*--rate"),
    ],
)
def test_command_line_that_ros_does_not_take(words: list[str], said: str, live: Graph) -> None:
    command = [sys.executable, "-m", "robust_perception.ros.fusion_node", "--ros-args", *words]
    process = live.run(command, "refused")
    assert process.wait(START_S) == 2
    assert re.search(said, process.text())
    assert "Traceback" not in process.text()


def test_parameters_without_the_word_for_them_are_told(live: Graph, tiny: Path) -> None:
    command = [sys.executable, "-m", "robust_perception.ros.fusion_node", "-p", "rate:=3.0"]
    process = live.run([*command, "--ros-args", "-p", f"model:={tiny}"], "idle")
    live.wait_until(
        "a word about them",
        lambda: "as --ros-args -p NAME:=VALUE, got -p rate:=3.0, which has no effect" in process.text(),
    )


def test_parameter_file_for_another_node_is_told(live: Graph, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("fusion_node: {ros__parameters: {autostart: false}}")  # as the executable is named
    command = [sys.executable, "-m", "robust_perception.ros.fusion_node", "--ros-args"]
    process = live.run([*command, "-r", "__ns:=/robot", "--params-file", str(file)], "another")
    expected = "the parameter file says nothing to this node: expected a section /robot/fusion or /**"
    live.wait_until("a word about it", lambda: expected in process.text())


BROKEN = """
import sys
from rclpy.lifecycle import LifecycleNode
from robust_perception.ros import process

def make():
    node = LifecycleNode("broken")
    node.create_timer(0.05, lambda: 1 / 0)
    return node

sys.exit(process.run(make, lambda node: True))
"""


def test_error_in_a_callback_ends_the_process_with_its_trace(live: Graph) -> None:
    process = live.run([sys.executable, "-c", BROKEN], "broken")
    assert process.wait(START_S) == 1
    assert "ZeroDivisionError" in process.text()


WITHOUT_DATA = """
import os, sys
from robust_perception import environment
for variable in environment.PROFILE_VARIABLES:
    os.environ.pop(variable, None)
os.environ["AMENT_PREFIX_PATH"] = "/opt/none"
environment.__file__ = sys.prefix = "/opt/none/robust_perception/environment.py"
from robust_perception.ros import fusion_node
sys.exit(fusion_node.main())
"""


def test_node_of_a_package_without_its_data_files_says_so(live: Graph) -> None:
    process = live.run([sys.executable, "-c", WITHOUT_DATA], "without_data")
    assert process.wait(START_S) == 2
    assert "the data files of robust_perception are in none of /opt/none/" in process.text()
    assert "Traceback" not in process.text()


UNABLE = """
import sys
from rclpy.lifecycle import LifecycleNode
from robust_perception.ros import process

class Unable(LifecycleNode):
    @process.transition
    def on_configure(self, state):
        raise KeyError("what it needs")

sys.exit(process.run(lambda: Unable("unable"), lambda node: True))
"""


def test_exception_in_a_transition_is_logged(live: Graph) -> None:
    process = live.run([sys.executable, "-c", UNABLE], "unable")
    live.wait_until("the exception", lambda: "KeyError: 'what it needs'" in process.text())
    assert "on_configure failed" in process.text()
    process.signal(signal.SIGINT)
    assert process.wait() == 0


def test_shipped_parameter_file_starts_the_node(live: Graph, tiny: Path, repository: Path) -> None:
    shipped = str(repository / "config" / "fusion.yaml")
    command = [sys.executable, "-m", "robust_perception.ros.fusion_node", "--ros-args"]
    process = live.run([*command, "--params-file", shipped, "-p", f"model:={tiny}"], "shipped")
    live.listen(OUTPUTS)
    live.wait_for("/fusion/label_info", "an active node", lambda m: True, START_S)
    assert "not known" not in process.text()
    with Sensors(live):
        live.wait_for("/fusion/detections", "an output", lambda m: True, 10.0)
