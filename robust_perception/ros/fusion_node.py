"""`fusion_node`: whatever sensors are alive in, detections, segmentation and scene out.

| state        | what is there                                                   |
|--------------|-----------------------------------------------------------------|
| unconfigured | parameters, `/diagnostics`                                      |
| inactive     | the model is loaded and checked, output topics exist            |
| active       | sensors are subscribed, the thread of `pacing` makes outputs    |

Callbacks only unpack a message and hand it to the synchronizer; the model runs in a thread of its own.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from robust_perception.engine.engine import Engine, warm_up
from robust_perception.engine.errors import EngineError
from robust_perception.presence import PresenceError, SensorState, SensorStatus, Synchronizer
from robust_perception.ros import diagnostics, process
from robust_perception.ros.errors import RosError
from robust_perception.ros.fusion_parameters import FUSION, audio_format, synchronizer_config
from robust_perception.ros.inputs import Inputs
from robust_perception.ros.messages import header
from robust_perception.ros.parameters import ParameterTable, path_of
from robust_perception.ros.publishers import Publishers
from robust_perception.ros.qos import OUTPUT
from robust_perception.runtime.pacing import Output, Pacer, Situation
from robust_perception.vocabulary import Modality, Reason

REPORT_PERIOD = 1.0
"""Seconds between two messages on `/diagnostics` while nothing changes."""

FAILURE_AGAIN_S = 10.0
"""Seconds between two log lines about failures of the model; /diagnostics has every new one."""


class FusionNode(LifecycleNode):
    """See the head of this file."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("fusion", **kwargs)
        self._engine: Engine | None = None
        self._synchronizer: Synchronizer | None = None
        self._outputs: Publishers | None = None
        self._inputs: Inputs | None = None
        self._pacer: Pacer | None = None
        self._idle = "the node is not configured"
        self._said: dict[Modality, tuple[SensorState, Reason | None, bool]] = {}
        self.table = ParameterTable(self, FUSION, lambda: self._engine is not None, self._on_parameter)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", OUTPUT)
        # In steady time: who needs /diagnostics most is the one whose /clock has stopped.
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(REPORT_PERIOD, self._report, clock=self._steady)

    @process.transition
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model and check it."""
        name = self.table["model"]
        self.get_logger().info(f"loading model {name}")
        start = time.monotonic()
        try:
            audio_format(self.table)
            engine = Engine.load(
                name,
                self.table["backend"],
                self.table["threads"] or None,
                self.table["precision"],
                path_of("cache", self.table["cache"]) if self.table["cache"] else None,
            )
            synchronizer = Synchronizer(synchronizer_config(self.table, engine.manifest.modalities))
            warm_up(engine)
        except (EngineError, PresenceError, RosError) as error:
            self._idle = f"not configured: {error}"
            self.get_logger().error(self._idle)
            self._report()
            return TransitionCallbackReturn.FAILURE
        self._engine, self._synchronizer = engine, synchronizer
        self._set_threshold(self.table["score_threshold"])
        self._outputs = Publishers(self, engine)
        self._idle = "the node is inactive"
        sensors = "+".join(m.value for m in engine.manifest.modalities)
        info = engine.info
        self.get_logger().info(
            f"model {info.model} {info.version} for {sensors} on {info.backend} ({info.precision}), "
            f"ready after {time.monotonic() - start:.1f} s"
        )
        return super().on_configure(state)

    @process.transition
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to the sensors and start to perceive."""
        assert self._engine is not None
        assert self._synchronizer is not None
        assert self._outputs is not None
        self._synchronizer.reset()
        try:
            self._inputs = Inputs(self, self._synchronizer, self.table, self._engine.manifest.modalities)
        except RosError as error:
            self._idle = f"not activated: {error}"
            self.get_logger().error(self._idle)
            self._report()
            return TransitionCallbackReturn.FAILURE
        result = super().on_activate(state)
        self._outputs.describe()
        self._pacer = Pacer(
            self._synchronizer,
            self._engine,
            self._now_ns,
            self._publish,
            self._on_change,
            self._on_failure,
            self.table["rate"],
        )
        self._pacer.start()
        self._report()
        topics = ", ".join(self._inputs.topics)
        self.get_logger().info(f"active; listening to {topics}")
        return result

    @process.transition
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of the sensors; the model stays loaded."""
        self._rest()
        self._idle = "the node is inactive"
        self._report()
        return super().on_deactivate(state)

    @process.transition
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of the model."""
        self._unload()
        self._report()
        return super().on_cleanup(state)

    @process.transition
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of everything."""
        self._rest()
        self._unload()
        self._idle = "the node has shut down"
        self._report()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After an exception in a transition: back to unconfigured, with nothing left running."""
        self._rest()
        self._unload()
        return super().on_error(state)

    def _rest(self) -> None:
        if self._pacer is not None:
            self._pacer.stop()
        if self._inputs is not None:
            self._inputs.close()
        self._pacer = self._inputs = None

    def _unload(self) -> None:
        if self._outputs is not None:
            self._outputs.close()
        self._engine = self._synchronizer = self._outputs = None
        self._idle = "the node is not configured"

    def _now_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds)

    def _publish(self, output: Output) -> None:
        assert self._outputs is not None
        self._outputs.publish(output.perception, output.statuses)

    def _on_change(self, situation: Situation) -> None:
        self._report()
        if situation.failing:
            return  # `_on_failure` says so, and not with every frame
        if situation.pattern is None:
            self.get_logger().error(f"no output: {situation.reason}")
        else:
            self.get_logger().info(f"pattern {situation.pattern}")

    def _on_failure(self, text: str) -> None:
        self.get_logger().error(f"no output from these frames: {text}", throttle_duration_sec=FAILURE_AGAIN_S)

    def _log_states(self, statuses: Mapping[Modality, SensorStatus]) -> None:
        for modality, status in statuses.items():
            said = (status.state, status.reason, bool(status.advice))
            if status.state is SensorState.RECOVERING or self._said.get(modality) == said:
                continue
            self._said[modality] = said
            if status.state in (SensorState.ALIVE, SensorState.NEVER_SEEN, SensorState.DISABLED):
                self.get_logger().info(f"{modality}: {status.state}")
            else:
                words = filter(None, (status.reason, status.detail, status.advice))
                self.get_logger().warning(f"{modality}: {'; '.join(words)}")

    def _statuses(self) -> dict[Modality, SensorStatus]:
        if self._synchronizer is None:
            return {}
        return self._synchronizer.status(self._now_ns(), time.monotonic_ns())

    def _report(self) -> None:
        pacer, inputs, engine = self._pacer, self._inputs, self._engine
        name, stamped = self.get_name(), header(self._now_ns(), "")
        if pacer is None or inputs is None or engine is None:
            message = diagnostics.report(name, stamped, Situation(None, self._idle), {}, {})
        else:
            statuses, situation = self._statuses(), pacer.situation_at(time.monotonic_ns())
            self._log_states(statuses)
            failure = situation.reason if situation.failing else ""
            running = diagnostics.engine_status(
                name, engine.info, tuple(pacer.totals_ms), pacer.outputs, failure
            )
            message = diagnostics.report(name, stamped, situation, statuses, inputs.links(statuses), running)
        self._diagnostics.publish(message)

    def _on_parameter(self, name: str, value: Any) -> None:
        if name == "rate" and self._pacer is not None:
            self._pacer.rate_hz = value
        elif name == "score_threshold":
            self._set_threshold(value)
            if self._outputs is not None and self._pacer is not None:
                self._outputs.describe()
        elif name.endswith(".enabled") and self._synchronizer is not None:
            modality = Modality(name.removesuffix(".enabled"))
            if modality in (sensor.modality for sensor in self._synchronizer.config.sensors):
                self._synchronizer.set_enabled(modality, value)

    def _set_threshold(self, value: float) -> None:
        if self._engine is not None:
            self._engine.score_threshold = None if value < 0 else value


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node; see `process.run` for the exit codes."""
    return process.run(FusionNode, lambda node: bool(node.table["autostart"]), argv)


if __name__ == "__main__":
    sys.exit(main())
