"""Replays a bag through the live graph and hands back what came out, frame by frame.

One fusion node serves all patterns: between two replays its sensors are switched off and the pattern's on, so
that each begins as if nothing had been before. Timeouts are long and the gathering patient, for the question
here is what the graph makes of a frame and not whether this machine keeps up.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.srv import SetParameters
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image
from vision_msgs.msg import LabelInfo

from robust_perception import environment
from robust_perception.ros.children import Child, started
from robust_perception.ros.errors import RosError
from robust_perception.ros.messages import stamp_to_ns
from robust_perception.ros.question import Question
from robust_perception.vocabulary import MODALITIES, Modality, Pattern

START_S = 120.0
"""Deadline for a node to be there, on a slow machine."""
ATTEMPTS = 3
"""Replays of a pattern, each half as fast as the one before, until every frame has had its output: a live
graph leaves a frame out when a newer one is there already."""
ANSWER_S = 20.0
"""Deadline for an answer of a service."""
LAST_OUTPUT_S = 5.0
"""Deadline for the last outputs of a replay."""
DEPTH = 100

LabelMap = npt.NDArray[np.uint8]


class Replayed(NamedTuple):
    """What came out of a replay.

    Attributes:
        label_maps: by stamp of the frame.
        replays: how often the bag was played until every frame had its output, or nobody tried any more.
    """

    label_maps: dict[int, LabelMap]
    replays: int


class ReplayCheckError(RosError):
    """A node did not do its part; the message says which and shows its last lines."""


class LiveGraph:
    """A fusion node in a process of its own, and a listener to it; a context manager.

    Args:
        model: folder or name.
        modalities: the sensors that the bag has.
        domain: ROS domain.
        folder: for the nodes' logs.
        backend: as the node's parameter.
        threads: of one operator; 0 = all cores.
    """

    def __init__(
        self,
        model: str,
        modalities: Sequence[Modality],
        domain: int,
        folder: Path,
        backend: str = "auto",
        threads: int = 0,
    ) -> None:
        self._domain, self._folder = domain, folder
        self._modalities = tuple(modalities)
        self._context = rclpy.Context()
        self._active = threading.Event()
        self._changed = threading.Condition()
        self._maps: dict[int, list[LabelMap]] = defaultdict(list)
        self._made_of: dict[int, list[dict[Modality, int]]] = defaultdict(list)
        self._parameters: dict[str, bool | int | float | str] = {
            "model": model,
            "backend": backend,
            "threads": threads,
            "rate": 1000.0,
            "gather": 1.0,
        }
        for modality in MODALITIES:
            self._parameters |= {
                f"{modality}.enabled": modality in self._modalities,
                f"{modality}.timeout": 60.0,
                f"{modality}.frozen_after": 0.0,
                f"{modality}.recover_frames": 1,
                f"{modality}.check_header_age": False,
            }

    def __enter__(self) -> LiveGraph:
        environment.prepare()
        rclpy.init(context=self._context, domain_id=self._domain)
        self._node = rclpy.create_node("replay_check", context=self._context)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        subscribe = self._node.create_subscription
        subscribe(LabelInfo, "/fusion/label_info", lambda _: self._active.set(), latched)
        subscribe(Image, "/fusion/segmentation", self._take_map, QoSProfile(depth=DEPTH))
        subscribe(DiagnosticArray, "/fusion/presence", self._take_presence, QoSProfile(depth=DEPTH))
        self._set: Any = self._node.create_client(SetParameters, "/fusion/set_parameters")
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._spinning = threading.Thread(target=self._spin, daemon=True)
        self._spinning.start()
        self._children = ExitStack()
        try:
            log = self._folder / "fusion.log"
            self._fusion = started(self._children, "fusion_node", self._parameters, self._domain, log)
            self._wait_for("fusion_node to be active", self._active.is_set, START_S, self._fusion)
            self._wait_for("its parameter service", self._set.service_is_ready, START_S, self._fusion)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._children.close()
        rclpy.shutdown(context=self._context)
        self._spinning.join()
        self._executor.shutdown()
        self._node.destroy_node()

    def replay(self, bag: Path, pattern: Pattern, stamps: Sequence[int], speed: float = 1.0) -> Replayed:
        """Label maps of outputs that were made of exactly this pattern's frames of one instant.

        Args:
            bag: its frames, stamped with `stamps`.
            pattern: the sensors that are switched on.
            stamps: of the frames that have all sensors of the pattern, ns, in order.
            speed: of the first replay; frames that the graph left out are replayed more slowly.

        Raises:
            ReplayCheckError: a process ended, or refused the pattern.
        """
        found: dict[int, LabelMap] = {}
        replays = 0
        while replays < ATTEMPTS and not set(stamps) <= set(found):
            # What came first stays: a later replay must not cover up a label map that differs.
            found = self._play(bag, pattern, stamps, speed / 2**replays) | found
            replays += 1
        return Replayed(found, replays)

    def _play(self, bag: Path, pattern: Pattern, stamps: Sequence[int], speed: float) -> dict[int, LabelMap]:
        self._switch(Pattern.of(self._modalities), False)
        with self._changed:
            self._maps.clear()
            self._made_of.clear()
        self._switch(pattern, True)
        values: dict[str, bool | int | float | str] = {"bag": str(bag), "stamps": "recorded", "speed": speed}
        with ExitStack() as stack:
            player = started(stack, "replay_node", values, self._domain, self._folder / "replay.log")
            length_s = (stamps[-1] - stamps[0]) / 1e9 / speed
            self._wait_for("replay_node to end", lambda: not player.running, START_S + length_s, self._fusion)
            if player.code != 0:
                raise ReplayCheckError(_tail("replay_node", player))
            with suppress(ReplayCheckError):  # what is missing then is for the caller to say
                self._wait_for(
                    "outputs", lambda: set(stamps) <= set(self._found(pattern)), LAST_OUTPUT_S, self._fusion
                )
        return self._found(pattern)

    def _found(self, pattern: Pattern) -> dict[int, LabelMap]:
        with self._changed:
            found = {}
            for stamp, maps in self._maps.items():
                for label_map, made_of in zip(maps, self._made_of[stamp], strict=False):
                    measured = set(made_of.values())
                    if set(made_of) == set(pattern) and len(measured) == 1:
                        found[measured.pop()] = label_map
            return found

    def _switch(self, pattern: Pattern, on: bool) -> None:
        request = SetParameters.Request()
        request.parameters = [
            Parameter(f"{modality}.enabled", value=on).to_parameter_msg() for modality in pattern
        ]
        question = Question(self._set, request)
        self._wait_for("an answer of its parameter service", question.answered, ANSWER_S, self._fusion)
        for result in question.answer.results:
            if not result.successful:
                raise ReplayCheckError(result.reason)

    def _wait_for(self, what: str, true: Any, deadline_s: float, child: Child) -> None:
        end = time.monotonic() + deadline_s
        while not true():
            if not child.running or time.monotonic() > end:
                msg = f"expected {what} within {deadline_s:.0f} s; {_tail(child.executable, child)}"
                raise ReplayCheckError(msg)
            with self._changed:
                self._changed.wait(0.05)

    def _take_map(self, message: Image) -> None:
        label_map = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width)
        with self._changed:
            self._maps[stamp_to_ns(message.header.stamp)].append(label_map)
            self._changed.notify_all()

    def _take_presence(self, message: DiagnosticArray) -> None:
        made_of = {}
        for modality in MODALITIES:
            values = {pair.key: pair.value for pair in message.status[1 + modality.position].values}
            if values["measured_ns"]:
                made_of[modality] = int(values["measured_ns"])
        with self._changed:
            self._made_of[stamp_to_ns(message.header.stamp)].append(made_of)
            self._changed.notify_all()

    def _spin(self) -> None:
        with suppress(ExternalShutdownException):
            self._executor.spin()


def _tail(name: str, child: Child) -> str:
    lines = "\n".join(child.text().splitlines()[-12:])
    return f"{name}, exit code {child.code}, its last lines:\n{lines}"
