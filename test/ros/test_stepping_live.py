"""A bag played step by step: with config/step.yaml every step has its output, however long the pauses are."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from live_graph import START_S, Graph, values
from std_srvs.srv import Trigger

from robust_perception.bags import types
from robust_perception.bags.dataset import image
from robust_perception.bags.writer import BagWriter

pytestmark = pytest.mark.ros

STAMPS = [90_000_000_000 + index * 100_000_000 for index in range(5)]


def write_bag(path: Path) -> Path:
    with BagWriter(path) as bag:
        for index, stamp in enumerate(STAMPS):
            pixels = np.full((64, 96, 3), 50 + index, np.uint8)
            bag.write("/rgb/image", types.IMAGE, image(pixels, "rgb8", stamp, "camera"), stamp)
            counts = np.full((64, 96), 900 + index, np.uint16)
            bag.write("/depth/image", types.IMAGE, image(counts, "16UC1", stamp, "camera"), stamp + 1_000_000)
    return path


def test_every_step_has_its_output(live: Graph, tiny: Path, tmp_path: Path, repository: Path) -> None:
    command = [sys.executable, "-m", "robust_perception.ros.fusion_node", "--ros-args"]
    command += ["--params-file", str(repository / "config" / "step.yaml")]
    live.run([*command, "-p", f"model:={tiny}", "-p", "use_sim_time:=true"], "fusion")
    live.listen()
    live.wait_for("/fusion/label_info", "an active node", lambda m: True, START_S)
    bag = write_bag(tmp_path / "bag")
    live.start("replay_node", f"bag:={bag}", "start_paused:=true", "stamps:=recorded", "clock:=true")
    step = live.node.create_client(Trigger, "/replay/step")

    def paused(status: DiagnosticStatus) -> bool:
        """Whether it is longer since the step than the timeout that a sensor has by default."""
        return float(values(status)["arrival_age_ms"] or 0) > 400

    live.wait_until("the service", step.service_is_ready)
    for stamp in STAMPS[:3]:
        step.call_async(Trigger.Request())

        def of_this_step(message: DiagnosticArray, stamp: int = stamp) -> bool:
            return [values(s)["measured_ns"] for s in message.status[1:3]] == [str(stamp)] * 2

        live.wait_for("/fusion/presence", f"an output of {stamp}", of_this_step, 10.0)
        assert live.diagnosis("rgb", "a pause", paused).message == "alive"
