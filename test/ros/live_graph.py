"""A live graph for tests: nodes as processes of their own, a listener in this one, all over DDS."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from itertools import cycle, islice
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image
from vision_msgs.msg import Classification, Detection2DArray, LabelInfo, VisionInfo

from robust_perception import environment
from robust_perception.ros.question import Question

DOMAINS = cycle(range(1, 41))
"""Of the tests; the commands take theirs above. A number comes again only after its graph has long ended."""

SOURCE = str(Path(__file__).resolve().parents[2])
"""Of the package: the processes try the source tree, as the tests do."""

START_S = 30.0
"""Deadline for a process to be up, on a machine that does other things too."""

OUTPUTS = {
    "/fusion/detections": Detection2DArray,
    "/fusion/segmentation": Image,
    "/fusion/scene": Classification,
    "/fusion/presence": DiagnosticArray,
    "/diagnostics": DiagnosticArray,
    "/fusion/label_info": LabelInfo,
    "/fusion/vision_info": VisionInfo,
}
LATCHED = ("/fusion/label_info", "/fusion/vision_info", "/audio_info")


class Arrival(NamedTuple):
    """A message, and when it came, in monotonic seconds."""

    message: Any
    at: float


@contextmanager
def own_domain() -> Iterator[int]:
    """A domain id that no other test of this machine uses, be it in another run of the tests.

    The mark of its being used is a name among the abstract sockets, which ends with the process.
    """
    for number in islice(DOMAINS, 40):
        with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as mark:
            try:
                mark.bind(f"\0robust_perception/test/domain/{number}")
            except OSError:
                continue
            yield number
            return
    raise AssertionError("expected a free domain out of 40, got none: how many runs of the tests are there?")


def profile(depth: int, latched: bool) -> QoSProfile:
    """A reliable profile."""
    durability = DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE
    return QoSProfile(depth=depth, durability=durability)


class Process:
    """A node in a process of its own; its output goes to a file, for messages of failing tests."""

    def __init__(self, command: list[str], domain: int, log: Path, with_profile: bool = True) -> None:
        self.log = log
        child = {**os.environ, "ROS_DOMAIN_ID": str(domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
        child["PYTHONUNBUFFERED"] = "1"
        child["PYTHONPATH"] = os.pathsep.join(filter(None, (SOURCE, os.environ.get("PYTHONPATH"))))
        if not with_profile:
            for variable in environment.PROFILE_VARIABLES:
                child.pop(variable, None)
        self._out = log.open("w")
        self._process = subprocess.Popen(
            command, env=child, stdout=self._out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
        )

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def code(self) -> int | None:
        return self._process.poll()

    def text(self) -> str:
        """What it has printed."""
        return self.log.read_text()

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def wait(self, deadline_s: float = 15.0) -> int:
        """Its exit code; killed, and an AssertionError, when it does not end."""
        try:
            return self._process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(
                f"expected the process to end within {deadline_s} s:\n{self.text()}"
            ) from None

    def kill(self) -> None:
        if self.running:
            self._process.kill()
            self._process.wait()
        self._out.close()


class Graph:
    """A domain with a listener in it; a context manager that ends everything it started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[Process] = []
        self._received: dict[str, list[Arrival]] = {}
        self._changed = threading.Condition()
        self._context = rclpy.Context()
        self._claim = ExitStack()

    def __enter__(self) -> Graph:
        self.domain = self._claim.enter_context(own_domain())
        environment.prepare()
        os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
        rclpy.init(context=self._context, domain_id=self.domain)
        self.node = rclpy.create_node("test", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self.processes:
            if process.running:
                process.signal(signal.SIGINT)
        for process in self.processes:
            try:
                process.wait()
            finally:
                process.kill()
        rclpy.try_shutdown(context=self._context)
        self._thread.join(10)
        self.node.destroy_node()
        self._claim.close()

    def start(
        self, module: str, *parameters: str, remap: tuple[str, ...] = (), with_profile: bool = True
    ) -> Process:
        """Start a node of the package, with `key:=value` parameters and `from:=to` remappings."""
        words = [word for parameter in parameters for word in ("-p", parameter)]
        words += [word for rule in remap for word in ("-r", rule)]
        command = [sys.executable, "-m", f"robust_perception.ros.{module}", "--ros-args", *words]
        return self.run(command, module, with_profile)

    def run(self, command: list[str], name: str, with_profile: bool = True) -> Process:
        """Start any process in this domain."""
        log = self.folder / f"{name}_{len(self.processes)}.log"
        process = Process(command, self.domain, log, with_profile)
        self.processes.append(process)
        return process

    def listen(self, topics: dict[str, Any] = OUTPUTS) -> None:
        """Subscribe; `received` and `wait_for` speak of these topics."""
        for topic, kind in topics.items():
            self._received[topic] = []
            take = self._taker(topic)
            self.node.create_subscription(kind, topic, take, profile(50, topic in LATCHED))

    def received(self, topic: str) -> list[Arrival]:
        """What has come so far."""
        with self._changed:
            return list(self._received[topic])

    def wait_for(
        self, topic: str, what: str, wanted: Callable[[Any], bool], deadline_s: float, since: float = 0.0
    ) -> Arrival:
        """The first message on a topic, not older than `since`, of which `wanted` is true."""
        end = time.monotonic() + deadline_s
        seen = 0
        with self._changed:
            while True:
                arrivals = self._received[topic]
                for arrival in arrivals[seen:]:
                    if arrival.at >= since and wanted(arrival.message):
                        return arrival
                seen = len(arrivals)
                if time.monotonic() > end or self._crashed():
                    break
                self._changed.wait(0.1)
        last = str(arrivals[-1].message)[:2000] if arrivals else None
        raise AssertionError(
            f"expected {what} on {topic} within {deadline_s} s, got {seen} messages, the last: {last}\n"
            f"{self._logs()}"
        )

    def wait_until(self, what: str, true: Callable[[], bool], deadline_s: float = START_S) -> None:
        """Wait for something of the graph; looks whenever something arrives, and ten times a second."""
        end = time.monotonic() + deadline_s
        while not true():
            if time.monotonic() > end or self._crashed():
                raise AssertionError(f"expected {what} within {deadline_s} s\n{self._logs()}")
            with self._changed:
                self._changed.wait(0.1)

    def ask(self, client: Any, request: Any, what: str) -> Any:
        """What a service answers; see `Question`."""
        self.wait_until(f"service {what}", client.service_is_ready)
        question = Question(client, request)
        self.wait_until(f"an answer of {what}", question.answered)
        return question.answer

    def start_fusion(self, model: Path, *parameters: str, **more: Any) -> Process:
        """Start fusion_node, listen, and wait until it is active and both sides know of each other."""
        process = self.start("fusion_node", f"model:={model}", *parameters, **more)
        self.listen()
        self.wait_for("/fusion/label_info", "the label info of an active node", lambda m: True, START_S)
        return process

    def diagnosis(
        self, name: str, what: str, wanted: Callable[[DiagnosticStatus], bool], deadline_s: float = 10.0
    ) -> DiagnosticStatus:
        """The next status `fusion: <name>` on /diagnostics of which `wanted` is true."""
        arrival = self.wait_for(
            "/diagnostics",
            f"{what} of {name}",
            lambda m: any(s.name == f"fusion: {name}" and wanted(s) for s in m.status),
            deadline_s,
            since=time.monotonic(),
        )
        return next(s for s in arrival.message.status if s.name == f"fusion: {name}")

    def _crashed(self) -> bool:
        return any(process.code not in (None, 0) for process in self.processes)

    def _logs(self) -> str:
        return "\n".join(f"--- {p.log.name}, exit code {p.code}\n{p.text()[-3000:]}" for p in self.processes)

    def _taker(self, topic: str) -> Callable[[Any], None]:
        def take(message: Any) -> None:
            with self._changed:
                self._received[topic].append(Arrival(message, time.monotonic()))
                self._changed.notify_all()

        return take

    def _spin(self) -> None:
        with suppress(ExternalShutdownException):
            self._executor.spin()


def values(status: DiagnosticStatus) -> dict[str, str]:
    """The key-value pairs of a status."""
    return {pair.key: pair.value for pair in status.values}


def pattern_of(presence: DiagnosticArray) -> str:
    """The pattern a `~/presence` message speaks of."""
    return str(presence.status[0].message)
