"""`simulation_node`: the simulated rig as four sensors, and the truth beside them.

| topic                                 | type                                                       |
|---------------------------------------|------------------------------------------------------------|
| rgb/image                             | sensor_msgs/Image rgb8                                     |
| depth/image                           | sensor_msgs/Image 16UC1 in `depth.scale`, 0 = invalid      |
| thermal/image                         | sensor_msgs/Image 16UC1 in scale and offset of thermal     |
| `<sensor>/camera_info` of these three | sensor_msgs/CameraInfo, with every image                   |
| audio, audio_info (latched)           | audio_common_msgs/AudioDataStamped, AudioInfo              |
| truth/segmentation                    | sensor_msgs/Image mono8, index of its class                |
| truth/detections                      | vision_msgs/Detection2DArray, score 1                      |
| truth/scene                           | vision_msgs/Classification, score 1 = present              |
| truth/label_info (latched)            | vision_msgs/LabelInfo, names of the class indices          |
| truth/faults                          | diagnostic_msgs/DiagnosticArray, one status a sensor       |

Everything about one instant has the stamp of its pictures; sound has that of its first sample. The truth
comes also for an instant of which no sensor's message arrives.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from audio_common_msgs.msg import AudioDataStamped, AudioInfo
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from sensor_msgs.msg import CameraInfo, Image
from vision_msgs.msg import Classification, Detection2DArray, LabelInfo

from robust_perception.faults.script import FaultScript
from robust_perception.ros import outputs, process, qos
from robust_perception.ros.errors import RosError
from robust_perception.ros.fault_scripts import load_script
from robust_perception.ros.listeners import Listeners
from robust_perception.ros.messages import audio_info, audio_message, header, image_message
from robust_perception.ros.parameters import Parameter, ParameterTable
from robust_perception.ros.rig_feed import FeedConfig, Instant, RigFeed
from robust_perception.ros.unit_parameters import UNITS, check_range, image_units, within_reach
from robust_perception.simulation import depth, thermal
from robust_perception.simulation.classes import CLASS_NAMES, SCENE_NAMES
from robust_perception.simulation.errors import SimulationError
from robust_perception.vocabulary import IMAGE_MODALITIES, MODALITIES, Modality, SensorFrame

SIMULATION: tuple[Parameter, ...] = (
    Parameter("rate", 10.0, "Pictures a second of each camera, Hz.", "configured", 0.1, 120.0),
    Parameter("seed", 1, "Of the first scene, and of everything random in it.", "configured", 0, 2**31 - 1),
    Parameter("width", 320, "Columns of the pictures.", "configured", 96, 640),
    Parameter("height", 240, "Rows of the pictures.", "configured", 128, 480),
    Parameter(
        "scene_seconds", 0.0, "Seconds until the next scene begins; 0 stays.", "configured", 0.0, 86400.0
    ),
    Parameter(
        "faults", "", "Fault script: a file, or a name out of config/faults; empty = none.", "configured"
    ),
    # Not at any time: they are held against the rig's range, and change with those who listen.
    *(replace(row, change="configured") for row in UNITS),
    Parameter("wait", False, "Begin when somebody listens to the sensors, not before.", "configured"),
    Parameter("autostart", True, "Configure and activate without being asked.", "start"),
)
"""The table of parameters."""

TRUE_SCORE = 1.0
"""Of everything that is really there."""

LEAST_REACH = 2.0
"""Metres that counts of depth must hold; a camera that sees less far is of no use in a room."""

ENCODINGS = {Modality.RGB: "rgb8", Modality.DEPTH: "16UC1", Modality.THERMAL: "16UC1"}


class SimulationNode(LifecycleNode):
    """See the head of this file.

    Args:
        ended: set, as failed, when the rig stops by itself: an active node that sends nothing is worse.
    """

    def __init__(self, ended: process.End, **kwargs: Any) -> None:
        super().__init__("simulation", **kwargs)
        self._end = ended
        self._feed: RigFeed | None = None
        self._script = FaultScript()
        self._sensors: dict[Modality, Any] = {}
        self._camera_infos: dict[Modality, Any] = {}
        self._topics: dict[str, Any] = {}
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._waiting: Any = None
        self.table = ParameterTable(self, SIMULATION, lambda: self._feed is not None)

    @process.transition
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Read the fault script, build the rig."""
        table = self.table
        config = FeedConfig(
            table["seed"], (table["height"], table["width"]), table["rate"], table["scene_seconds"]
        )
        try:
            check_range(table, (depth.NEAREST, LEAST_REACH), (thermal.COLDEST, thermal.HOTTEST))
            self._script = load_script(table["faults"])
            self._feed = RigFeed(
                config, self._script, self._now_ns, self._publish_truth, self._publish_frame, self._slow
            )
        except (SimulationError, RosError) as error:
            self.get_logger().error(f"not configured: {error}")
            return TransitionCallbackReturn.FAILURE
        self._open()
        self.get_logger().info(
            f"rig of {config.size[1]}x{config.size[0]} at {config.rate_hz:g} Hz, seed {config.seed}, "
            f"{self._script.name}"
        )
        return super().on_configure(state)

    @process.transition
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the rig, and the fault script with it."""
        assert self._feed is not None
        result = super().on_activate(state)
        self._topics["audio_info"].publish(audio_info())
        stamped = header(self._now_ns(), "")
        self._topics["label_info"].publish(outputs.label_info(CLASS_NAMES, TRUE_SCORE, stamped))
        if self.table["wait"]:
            listeners = Listeners(self._sensors.values())
            self._waiting = self.create_timer(0.05, lambda: self._begin(listeners), clock=self._steady)
        else:
            self._feed.start(self._ended)
        return result

    @process.transition
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Pause the rig."""
        self._stop_waiting()
        if self._feed is not None:
            self._feed.stop()
        return super().on_deactivate(state)

    @process.transition
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the rig."""
        self._close()
        return super().on_cleanup(state)

    @process.transition
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the rig."""
        self._close()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After an exception in a transition: back to unconfigured, with nothing left running."""
        self._close()
        return super().on_error(state)

    def _open(self) -> None:
        make = self.create_lifecycle_publisher
        for modality in IMAGE_MODALITIES:
            self._sensors[modality] = make(Image, f"{modality}/image", qos.OUTPUT)
            self._camera_infos[modality] = make(CameraInfo, f"{modality}/camera_info", qos.OUTPUT)
        self._sensors[Modality.AUDIO] = make(AudioDataStamped, "audio", qos.OUTPUT)
        self._topics = {
            "audio_info": make(AudioInfo, "audio_info", qos.LATCHED),
            "segmentation": make(Image, "truth/segmentation", qos.OUTPUT),
            "detections": make(Detection2DArray, "truth/detections", qos.OUTPUT),
            "scene": make(Classification, "truth/scene", qos.OUTPUT),
            "label_info": make(LabelInfo, "truth/label_info", qos.LATCHED),
            "faults": make(DiagnosticArray, "truth/faults", qos.OUTPUT),
        }

    def _begin(self, listeners: Listeners) -> None:
        if self._feed is not None and listeners.settled():
            self._stop_waiting()
            self._feed.start(self._ended)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self.destroy_timer(self._waiting)
            self._waiting = None

    def _close(self) -> None:
        self._stop_waiting()
        if self._feed is not None:
            self._feed.close()
            self._feed = None
        for group in (self._sensors, self._camera_infos, self._topics):
            for publisher in group.values():
                self.destroy_lifecycle_publisher(publisher)
            group.clear()

    def _now_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds)

    def _ended(self, error: BaseException) -> None:
        self.get_logger().fatal(f"the rig stopped: {error!r}")
        self._end.failed = True
        self._end.set()

    def _slow(self, reached_hz: float) -> None:
        self.get_logger().warning(
            f"expected {self.table['rate']:g} Hz, got {reached_hz:.1f}; lower rate, width or height"
        )

    def _publish_frame(self, frame: SensorFrame, instant: Instant) -> None:
        if frame.modality is Modality.AUDIO:
            self._sensors[Modality.AUDIO].publish(audio_message(frame))
            return
        now = image_units(self.table)
        if frame.modality is Modality.DEPTH:
            frame = replace(frame, data=within_reach(frame.data, now.depth_scale))
        message = image_message(frame, ENCODINGS[frame.modality], now)
        self._sensors[frame.modality].publish(message)
        info = camera_info(instant.intrinsics, message.width, message.height)
        info.header = message.header
        self._camera_infos[frame.modality].publish(info)

    def _publish_truth(self, instant: Instant) -> None:
        capture = instant.capture
        stamped = header(instant.stamp_ns, capture.frames[Modality.RGB].frame_id)
        scores = np.full(len(capture.boxes), TRUE_SCORE, dtype=np.float32)
        self._topics["segmentation"].publish(outputs.segmentation(capture.label, stamped))
        self._topics["detections"].publish(
            outputs.detections(capture.boxes, scores, capture.class_ids, CLASS_NAMES, stamped)
        )
        self._topics["scene"].publish(outputs.scene(capture.scene, SCENE_NAMES, stamped))
        self._topics["faults"].publish(
            DiagnosticArray(header=stamped, status=fault_statuses(self._script, instant.time_s))
        )


def fault_statuses(script: FaultScript, time_s: float) -> list[DiagnosticStatus]:
    """What the script does to every sensor at an instant.

    Returns:
        One status a sensor: name = the sensor, message = its faults joined by ", " or "none"; values
        `time_s`, `silent` (true when nothing arrives), and the keys of each fault as `<fault>.<key>`.
    """
    silent = script.silent(time_s)
    statuses = []
    for modality in MODALITIES:
        faults = [fault for fault in script.active(time_s) if fault.sensor is modality]
        values = {"time_s": f"{time_s:.3f}", "silent": str(modality in silent).lower()}
        for fault in faults:
            values |= {f"{fault.kind}.{key}": f"{value:g}" for key, value in fault.values.items()}
        statuses.append(
            DiagnosticStatus(
                level=DiagnosticStatus.WARN if faults else DiagnosticStatus.OK,
                name=modality.value,
                message=", ".join(fault.kind for fault in faults) or "none",
                values=[KeyValue(key=key, value=value) for key, value in values.items()],
            )
        )
    return statuses


def camera_info(intrinsics: tuple[float, float, float, float], width: int, height: int) -> CameraInfo:
    """A pinhole camera without distortion; fx, fy, cx, cy in pixels."""
    fx, fy, cx, cy = intrinsics
    return CameraInfo(
        width=width,
        height=height,
        distortion_model="plumb_bob",
        d=[0.0] * 5,
        k=[fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0],
        r=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        p=[fx, 0.0, cx, 0.0, 0.0, fy, cy, 0.0, 0.0, 0.0, 1.0, 0.0],
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node; exit codes are those of `process.run`, and 1 for a rig that stopped by itself."""
    ended = process.End()
    code = process.run(
        partial(SimulationNode, ended), lambda node: bool(node.table["autostart"]), argv, stop=ended
    )
    return code or int(ended.failed)


if __name__ == "__main__":
    sys.exit(main())
