"""`recorder_node`: live topics into a bag that `ros2 bag` and this package read, as the bytes that come.

Topics that appear later join. What comes goes through a queue of limited size to a thread that writes:
neither a slow disk nor a long recording lets memory grow, and what had to be dropped is said, topic by topic.
What is older than a second is in the file, whatever ends the process. A disk that is full ends the recording
with a whole bag and exit code 1; `deactivate` ends it too, and so do SIGINT, SIGTERM and SIGHUP.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from rclpy.clock import Clock, ClockType  # type: ignore[attr-defined]
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from robust_perception.bags.errors import BagError
from robust_perception.bags.recording import Limits, Recording
from robust_perception.bags.writer import COMPRESSIONS, STORAGES, BagWriter, Split
from robust_perception.ros import process
from robust_perception.ros.errors import ParameterError, RosError
from robust_perception.ros.parameters import Parameter, ParameterTable, path_of
from robust_perception.ros.recorded_topics import Choice, RecordedTopics

MIB = 1 << 20
STEADY = Clock(clock_type=ClockType.STEADY_TIME)

RECORDER: tuple[Parameter, ...] = (
    Parameter(
        "bag",
        "",
        "Folder of the new bag; empty = recording_ and date and time, where the node was started.",
        "configured",
    ),
    Parameter("topics", [""], "Record these, by their full names.", "configured"),
    Parameter(
        "pattern",
        "",
        "Record topics whose full name this regular expression matches too; with no topics either, all but "
        "hidden ones and overlays.",
        "configured",
    ),
    Parameter(
        "exclude", "", "Record no topic whose full name this regular expression matches.", "configured"
    ),
    Parameter("storage", "mcap", "What the bag's files are.", "configured", choices=tuple(STORAGES)),
    Parameter(
        "compression",
        "none",
        "mcap: zstd or lz4 over its chunks; sqlite3: message or file, both zstd.",
        "configured",
        choices=COMPRESSIONS,
    ),
    Parameter("split_mb", 0, "Go on in a new file before one is larger, MiB; 0 = never.", "configured", 0),
    Parameter("split_s", 0.0, "Go on in a new file after so many seconds; 0 = never.", "configured", 0.0),
    Parameter(
        "queue_mb",
        256,
        "Messages that may wait for the disk, MiB; what finds no room is dropped, and said.",
        "configured",
        1,
        65536,
    ),
    Parameter(
        "depth",
        50,
        "Messages of one topic that may wait for the node in the middleware.",
        "configured",
        1,
        10000,
    ),
    Parameter(
        "keep_free_mb", 64, "End the recording when the disk has less left, MiB.", "configured", 0, 1 << 30
    ),
    Parameter("discovery", 0.2, "Between two looks for new topics, s.", "configured", 0.05, 60.0),
    Parameter(
        "progress", 5.0, "Between two lines that tell how it goes, s; 0 = none.", "configured", 0.0, 3600.0
    ),
    Parameter(
        "duration", 0.0, "End the process after so many seconds; 0 = when told.", "configured", 0.0, 1e9
    ),
    Parameter("autostart", True, "Configure and activate without being asked.", "start"),
)
"""The table of parameters."""


class RecorderNode(LifecycleNode):
    """See the head of this file.

    Args:
        ended: set when the recording has come to an end of its own.
    """

    def __init__(self, ended: process.End, **kwargs: Any) -> None:
        super().__init__("recorder", **kwargs)
        self._ended = ended
        self._choice: Choice | None = None
        self._recording: Recording | None = None
        self._topics: RecordedTopics | None = None
        self._timers: list[Any] = []
        self.table = ParameterTable(self, RECORDER, lambda: self._choice is not None)

    @process.transition
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Check what is asked for."""
        table = self.table
        try:
            if table["compression"] not in STORAGES[table["storage"]]:
                there = ", ".join(STORAGES[table["storage"]])
                raise ParameterError(
                    "compression", f"one that {table['storage']} has ({there})", table["compression"]
                )
            self._choice = Choice.of(table["topics"], table["pattern"], table["exclude"])
        except RosError as error:
            self.get_logger().error(f"not configured: {error}")
            return TransitionCallbackReturn.FAILURE
        return super().on_configure(state)

    @process.transition
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Begin a bag."""
        table = self.table
        try:
            path = path_of("bag", table["bag"] or time.strftime("recording_%Y_%m_%d-%H_%M_%S"))
            split = Split(table["split_mb"] * MIB, table["split_s"])
            bag = BagWriter(path, table["storage"], table["compression"], split, durable=True)
        except (BagError, RosError) as error:
            self.get_logger().error(f"not activated: {error}")
            return TransitionCallbackReturn.FAILURE
        limits = Limits(table["queue_mb"] * MIB, table["keep_free_mb"] * MIB)
        self._recording = Recording(bag, limits)
        self._recording.start(self._fail)
        assert self._choice is not None
        ros_time = bool(self.get_parameter("use_sim_time").value)
        self._topics = RecordedTopics(self, self._choice, self._recording, table["depth"], ros_time)
        free = shutil.disk_usage(path).free / 1e9
        self.get_logger().info(f"recording to {path}, {free:.1f} GB free")
        self._topics.look()
        self._timer(table["discovery"], self._topics.look)
        if table["progress"]:
            self._timer(table["progress"], self._tell)
        if table["duration"]:
            self._timer(table["duration"], self._ended.set)
        return super().on_activate(state)

    @process.transition
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End the bag."""
        self._finish()
        return super().on_deactivate(state)

    @process.transition
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Forget what was asked for."""
        self._finish()
        self._choice = None
        return super().on_cleanup(state)

    @process.transition
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End the bag."""
        self._finish()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After an exception in a transition: back to unconfigured, with the bag ended."""
        self._finish()
        self._choice = None
        return super().on_error(state)

    def _timer(self, seconds: float, act: Any) -> None:
        # Steady time: with use_sim_time the recorder must find /clock before there is any.
        self._timers.append(self.create_timer(seconds, act, clock=STEADY))

    def _tell(self) -> None:
        assert self._recording is not None
        assert self._topics is not None
        line = str(self._recording.progress())
        if lost := self._topics.lost:
            named = ", ".join(f"{topic} {count}" for topic, count in sorted(lost.items()))
            line += f"  (lost on the way here: {named})"
        if self._topics.waiting:
            line += "  (no time on /clock yet)"
        if missing := self._topics.missing:
            line += f"  (not there: {', '.join(missing)})"
        self.get_logger().info(line)

    def _fail(self, error: BagError) -> None:
        self.get_logger().fatal(f"stopped: {error}")
        self._ended.failed = True
        self._ended.set()

    def _finish(self) -> None:
        for timer in self._timers:
            self.destroy_timer(timer)
        self._timers.clear()
        if self._topics is not None:
            if self._topics.waiting:
                self.get_logger().warning("nothing was recorded: no time has come on /clock")
            self._topics.close()
            self._topics = None
        if self._recording is None:
            return
        recording, self._recording = self._recording, None
        last = recording.progress()
        try:
            recording.close()
        except BagError as error:
            self._fail(error)
        if recording.failure is None and not self._ended.failed:
            rate = f"{last.messages / last.seconds:.1f} Hz" if last.seconds > 0 else "none"
            self.get_logger().info(
                f"closed {recording.path}: {last.topics} topics, {last.messages} messages in "
                f"{last.seconds:.1f} s ({rate}), {last.size / 1e6:.1f} MB, "
                f"{sum(last.dropped.values())} dropped, {last.files} files"
            )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node; exit codes are those of `process.run`, and 1 for a bag that ended before its time."""
    ended = process.End()
    code = process.run(
        partial(RecorderNode, ended),
        lambda node: bool(node.table["autostart"]),
        argv,
        stop=ended,
        stays=lambda node: False,
    )
    return code or int(ended.failed)


if __name__ == "__main__":
    sys.exit(main())
