"""`replay_node`: a bag of this project, or of `ros2 bag`, as live sensors, with scripted faults if asked for.

Topics are published under the names they were recorded with; ROS remappings change them
(`-r /camera/color/image_raw:=/rgb/image`). Everything in the bag is played but what only the nodes of that
time could have said: outputs of fusion in any namespace, diagnostics, clock, logs, transitions. Messages of a
type this machine does not have are left out, and it is said which. What was latched is latched.

Services, named as those of `ros2 bag play`, of the types of std_srvs: `~/pause`, `~/resume`,
`~/toggle_paused`, `~/play_next` (one message), `~/step` (one set of sensors) as Trigger, `~/set_paused` as
SetBool.

With the parameter `clock`, the time of the recording is published on /clock (rosgraph_msgs/Clock).
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rosgraph_msgs.msg import Clock
from std_srvs.srv import SetBool, Trigger

from robust_perception.bags.errors import BagError
from robust_perception.bags.reader import BagReader, Topic
from robust_perception.bags.recorded_faults import RecordedFaults
from robust_perception.ros import process, qos
from robust_perception.ros.bag_player import BagPlayer, PlayerConfig
from robust_perception.ros.errors import RosError
from robust_perception.ros.fault_scripts import load_script
from robust_perception.ros.listeners import Listeners
from robust_perception.ros.messages import ns_to_stamp
from robust_perception.ros.parameters import ParameterTable, path_of
from robust_perception.ros.recorded_topics import message_class
from robust_perception.ros.replay_parameters import (
    REPLAY,
    check_span,
    check_stamps,
    remapped,
    sensors_not_played,
)
from robust_perception.ros.unit_parameters import image_units
from robust_perception.vocabulary import MODALITIES

LEFT_OUT = ("/clock", "/diagnostics", "/parameter_events", "/rosout")
LEFT_OUT_BELOW = "/fusion/"
LEFT_OUT_ENDING = "/transition_event"

LATCHED_MOST = 100
"""Messages of a latched topic that a late listener is told; of /tf_static every publisher has one."""
ACKNOWLEDGED_S = 2.0
"""Deadline for listeners to confirm the last messages before the process ends."""


class ReplayNode(LifecycleNode):
    """See the head of this file.

    Args:
        ended: set at the end of the bag when the process is to end with it.
    """

    def __init__(self, ended: process.End, **kwargs: Any) -> None:
        super().__init__("replay", **kwargs)
        self._ended = ended
        self._player: BagPlayer | None = None
        self._publishers_of: dict[str, Any] = {}
        self._clock_publisher: Any = None
        self._sensors: list[str] = []
        self._offered: list[Any] = []
        self._depths: dict[str, int] = {}
        self._unconfirmed: Counter[str] = Counter()
        self.table = ParameterTable(self, REPLAY, lambda: self._player is not None)

    @process.transition
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Look into the bag and offer its topics."""
        table = self.table
        try:
            bag = path_of("bag", table["bag"])
            if not table["bag"]:
                msg = "parameter bag: expected a folder or a file, got none"
                raise RosError(msg)
            check_stamps(table)
            script = load_script(table["faults"])
            with BagReader(bag) as reader:
                topics = self._chosen(reader.topics)
                seconds = (reader.end_ns - reader.start_ns) / 1e9
            names = [topic.name for topic in topics]
            if not names:
                msg = f"{bag}: expected a topic that can be played, got none"
                raise RosError(msg)
            remaps = remapped(self, table, names)
            check_span(table, seconds)
            untouched = sensors_not_played(table, script, names)
        except (BagError, RosError) as error:
            self.get_logger().error(f"not configured: {error}")
            return TransitionCallbackReturn.FAILURE
        if untouched:
            self._warn(f"{script.name} has no effect on what is not played: {', '.join(untouched)}")
        for topic, kind in topics.items():
            profile = qos.latched(min(topic.count, LATCHED_MOST) or 1) if topic.latched else qos.OUTPUT
            name = remaps.get(topic.name, topic.name)
            self._depths[topic.name] = profile.depth
            self._publishers_of[topic.name] = self.create_lifecycle_publisher(kind, name, profile)
        if table["clock"]:
            self._clock_publisher = self.create_lifecycle_publisher(Clock, "/clock", qos.OUTPUT)
        sensors = {table[f"{modality}.topic"]: modality for modality in MODALITIES}
        self._player = BagPlayer(
            bag,
            list(self._publishers_of),
            {topic.msgtype for topic, kind in topics.items() if _begins_with_header(kind)},
            PlayerConfig(
                table["speed"], table["loop"], table["start"], table["start_paused"], table["stamps"]
            ),
            RecordedFaults(script, sensors, lambda: image_units(table), self._warn),
            lambda: int(self.get_clock().now().nanoseconds),
            self._publish if table["speed"] else self._publish_and_wait,
            self._warn,
            self._tick if table["clock"] else None,
            {topic.name: self._depths[topic.name] for topic in topics if topic.latched},
        )
        self._offer_services()
        self._sensors = [name for name in sensors if name in self._publishers_of]
        self.get_logger().info(
            f"{bag}: {seconds:.1f} s, {len(topics)} topics, {table['speed']:g} times as fast, {script.name}"
        )
        return super().on_configure(state)

    @process.transition
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Play from the beginning."""
        assert self._player is not None
        result = super().on_activate(state)
        # Somebody who listens to a sensor, or to anything where the bag has none.
        names = self._sensors or list(self._publishers_of)
        publishers = [self._publishers_of[name] for name in names]
        listeners = Listeners(publishers)
        if self.table["wait"]:
            topics = ", ".join(publisher.topic_name for publisher in publishers)
            self.get_logger().info(f"begins when somebody listens to {topics}; wait:=false begins at once")
        self._player.start(listeners.settled if self.table["wait"] else lambda: True, self._at_end)
        return result

    @process.transition
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop playing."""
        if self._player is not None:
            self._player.stop()
        return super().on_deactivate(state)

    @process.transition
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Take the topics away."""
        self._close()
        return super().on_cleanup(state)

    @process.transition
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Take the topics away."""
        self._close()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After an exception in a transition: back to unconfigured, with nothing left running."""
        self._close()
        return super().on_error(state)

    def _chosen(self, topics: Sequence[Topic]) -> dict[Topic, Any]:
        """The topics to play and the class of their messages."""
        wanted = {name for name in self.table["topics"] if name}
        missing = sorted(wanted - {topic.name for topic in topics})
        if missing:
            there = ", ".join(topic.name for topic in topics)
            msg = f"parameter topics: expected topics of the bag ({there}), got {', '.join(missing)}"
            raise RosError(msg)
        chosen, unknown, old = {}, [], []
        for topic in topics:
            if wanted and topic.name not in wanted:
                continue
            if not wanted and _of_that_time(topic.name):
                old.append(topic.name)
                continue
            try:
                chosen[topic] = message_class(topic.msgtype)
            except (ImportError, AttributeError, ValueError):
                unknown.append(f"{topic.name} ({topic.msgtype})")
        if unknown:
            self.get_logger().warning(
                f"not played, for their types are not installed here: {', '.join(unknown)}"
            )
        if old:
            self.get_logger().info(
                f"not played, for only nodes of that time could say it: {', '.join(old)}; "
                "the parameter topics names what is played all the same"
            )
        return chosen

    def _warn(self, text: str) -> None:
        self.get_logger().warning(text)

    def _publish(self, topic: str, data: bytes) -> None:
        self._publishers_of[topic].publish(data)

    def _publish_and_wait(self, topic: str, data: bytes) -> None:
        """As fast as possible is as fast as the reliable listeners confirm: nothing overtakes them.

        A publisher asks them when the messages it keeps are all unconfirmed, and only then answers come at
        once; asked earlier, they answer when the middleware's heart beats next, seconds later.
        """
        publisher = self._publishers_of[topic]
        publisher.publish(data)
        self._unconfirmed[topic] += 1
        if self._unconfirmed[topic] >= self._depths[topic]:
            publisher.wait_for_all_acked(Duration(seconds=ACKNOWLEDGED_S))
            self._unconfirmed[topic] = 0

    def _offer_services(self) -> None:
        player = self._player
        assert player is not None
        window_s = self.table["step_window"]

        def answer(request: Any, response: Any, act: Callable[[], bool | None]) -> Any:
            refused = act() is False
            response.success = not refused
            state = "paused" if player.paused else "playing"
            response.message = f"expected a paused player, got one that is {state}" if refused else state
            return response

        acts: dict[str, Callable[[], bool | None]] = {
            "pause": player.pause,
            "resume": player.resume,
            "toggle_paused": lambda: player.resume() if player.paused else player.pause(),
            "play_next": player.step,
            "step": lambda: player.step_set(window_s),
        }
        for name, act in acts.items():
            self._offered.append(self.create_service(Trigger, f"~/{name}", partial(answer, act=act)))

        def set_paused(request: Any, response: Any) -> Any:
            return answer(request, response, player.pause if request.data else player.resume)

        self._offered.append(self.create_service(SetBool, "~/set_paused", set_paused))

    def _tick(self, time_ns: int) -> None:
        self._clock_publisher.publish(Clock(clock=ns_to_stamp(time_ns)))

    def _at_end(self, error: BaseException | None) -> None:
        if error is not None:
            self._ended.failed = True
            self.get_logger().fatal(f"stopped: {error}")
        else:
            deadline = Duration(seconds=ACKNOWLEDGED_S)
            for publisher in self._publishers_of.values():
                publisher.wait_for_all_acked(deadline)
            self.get_logger().info("end of the bag")
        if self.table["exit_at_end"]:
            self._ended.set()

    def _close(self) -> None:
        if self._player is not None:
            self._player.stop()
            self._player = None
        for service in self._offered:
            self.destroy_service(service)
        self._offered.clear()
        publishers = [*self._publishers_of.values(), self._clock_publisher]
        for publisher in publishers:
            if publisher is not None:
                self.destroy_lifecycle_publisher(publisher)
        self._publishers_of.clear()
        self._clock_publisher = None


def _of_that_time(topic: str) -> bool:
    """Whether only a node of the time of the recording could have said what is on this topic."""
    return topic in LEFT_OUT or LEFT_OUT_BELOW in topic or topic.endswith(LEFT_OUT_ENDING)


def _begins_with_header(kind: Any) -> bool:
    fields = list(kind.get_fields_and_field_types().values())
    return bool(fields) and fields[0] == "std_msgs/Header"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node; exit codes are those of `process.run`, and 1 for a bag not played to its end."""
    ended = process.End()
    code = process.run(
        partial(ReplayNode, ended),
        lambda node: bool(node.table["autostart"]),
        argv,
        stop=ended,
        stays=lambda node: not node.table["exit_at_end"],
    )
    return code or int(ended.failed)


if __name__ == "__main__":
    sys.exit(main())
