"""A transition that raises leaves a node unconfigured: nothing runs on, and it can be mended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.parameter import Parameter

from robust_perception.bags import types
from robust_perception.bags.dataset import image
from robust_perception.bags.writer import BagWriter
from robust_perception.ros import process
from robust_perception.ros.recorded_topics import RecordedTopics
from robust_perception.ros.recorder_node import RecorderNode
from robust_perception.ros.replay_node import ReplayNode
from robust_perception.ros.simulation_node import SimulationNode

Make = Callable[..., LifecycleNode]


@pytest.fixture
def make(domain: int) -> Iterator[Make]:
    """Makes a node with these parameters."""
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    nodes: list[LifecycleNode] = []

    def make_one(kind: Callable[..., LifecycleNode], **given: Any) -> LifecycleNode:
        overrides = [Parameter(name, value=value) for name, value in given.items()]
        nodes.append(kind(context=context, parameter_overrides=overrides))
        return nodes[-1]

    yield make_one
    for node in nodes:
        node.trigger_shutdown()
        node.destroy_node()
    rclpy.try_shutdown(context=context)


def fail(*_: Any) -> None:
    raise ArithmeticError("a riddle")


def changes(node: LifecycleNode, name: str, value: Any) -> bool:
    """Whether a parameter of an unconfigured node can be set."""
    (result,) = node.set_parameters([Parameter(name, value=value)])
    return bool(result.successful)


def test_simulation(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mujoco", reason="mujoco is not installed")
    node = make(lambda **kwargs: SimulationNode(process.End(), **kwargs), width=96, height=128)
    with monkeypatch.context() as patch:
        patch.setattr(SimulationNode, "_open", fail)
        assert node.trigger_configure() is TransitionCallbackReturn.ERROR
    assert changes(node, "rate", 5.0)
    assert node.trigger_configure() is TransitionCallbackReturn.SUCCESS


def test_replay(make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as bag:
        bag.write("/rgb/image", types.IMAGE, image(np.zeros((4, 4, 3), np.uint8), "rgb8", 1, ""), 1)
    node = make(lambda **kwargs: ReplayNode(process.End(), **kwargs), bag=str(tmp_path / "bag"))
    publishers = len(list(node.publishers))
    with monkeypatch.context() as patch:
        patch.setattr(ReplayNode, "_offer_services", fail)
        assert node.trigger_configure() is TransitionCallbackReturn.ERROR
    assert len(list(node.publishers)) == publishers
    assert changes(node, "speed", 2.0)
    assert node.trigger_configure() is TransitionCallbackReturn.SUCCESS


def test_recorder(make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    node = make(lambda **kwargs: RecorderNode(process.End(), **kwargs), bag=str(tmp_path / "bag"))
    assert node.trigger_configure() is TransitionCallbackReturn.SUCCESS
    with monkeypatch.context() as patch:
        patch.setattr(RecordedTopics, "look", fail)
        assert node.trigger_activate() is TransitionCallbackReturn.ERROR
    assert (tmp_path / "bag" / "metadata.yaml").is_file(), "it was ended"
    assert changes(node, "bag", str(tmp_path / "next"))
    assert node.trigger_configure() is TransitionCallbackReturn.SUCCESS
