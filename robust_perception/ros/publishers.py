"""The topics of a perception, all with one header: that of the reference frame really used."""

from __future__ import annotations

from collections.abc import Mapping

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import Image
from vision_msgs.msg import Classification, Detection2DArray, LabelInfo, VisionInfo

from robust_perception.engine.engine import Engine
from robust_perception.presence import SensorStatus
from robust_perception.ros import diagnostics, images, outputs, qos
from robust_perception.ros.messages import header
from robust_perception.runtime import overlay
from robust_perception.vocabulary import Modality, Perception


class Publishers:
    """The outputs of a fusion node; silent until the node is active.

    Args:
        node: the node.
        engine: what runs; its class names give the messages their words.
    """

    def __init__(self, node: LifecycleNode, engine: Engine) -> None:
        self._node, self._engine = node, engine
        make = node.create_lifecycle_publisher
        self._detections = make(Detection2DArray, "~/detections", qos.OUTPUT)
        self._segmentation = make(Image, "~/segmentation", qos.OUTPUT)
        self._scene = make(Classification, "~/scene", qos.OUTPUT)
        self._presence = make(DiagnosticArray, "~/presence", qos.OUTPUT)
        self._overlay = make(Image, "~/overlay", qos.OUTPUT)
        self._label_info = make(LabelInfo, "~/label_info", qos.LATCHED)
        self._vision_info = make(VisionInfo, "~/vision_info", qos.LATCHED)

    def close(self) -> None:
        """Take the topics away."""
        for publisher in (
            self._detections,
            self._segmentation,
            self._scene,
            self._presence,
            self._overlay,
            self._label_info,
            self._vision_info,
        ):
            self._node.destroy_lifecycle_publisher(publisher)

    def describe(self) -> None:
        """Publish what the classes and the model are; latched, so once is enough while nothing changes."""
        manifest, engine = self._engine.manifest, self._engine
        stamped = header(self._node.get_clock().now().nanoseconds, "")
        threshold = engine.score_threshold
        if threshold is None:
            # The message has room for one, and each pattern has its own.
            threshold = min(manifest.score_threshold.values())
        self._label_info.publish(outputs.label_info(manifest.class_names, threshold, stamped))
        location = str(engine.folder.resolve())
        self._vision_info.publish(outputs.vision_info(manifest.name, manifest.version, location, stamped))

    def publish(self, perception: Perception, statuses: Mapping[Modality, SensorStatus]) -> None:
        """Publish one perception; the overlay is drawn only when somebody looks."""
        manifest = self._engine.manifest
        stamped = outputs.output_header(perception)
        self._detections.publish(
            outputs.detections(
                perception.boxes, perception.scores, perception.class_ids, manifest.class_names, stamped
            )
        )
        self._segmentation.publish(outputs.segmentation(perception.label_map, stamped))
        self._scene.publish(outputs.scene(perception.scene, manifest.scene_names, stamped))
        frame_set = perception.frame_set
        measured_ns = frame_set.frames[frame_set.reference].end_ns
        latency_ms = (self._node.get_clock().now().nanoseconds - measured_ns) / 1e6
        self._presence.publish(
            diagnostics.presence(self._node.get_name(), perception, statuses, self._engine.info, latency_ms)
        )
        if self._overlay.get_subscription_count():
            picture = images.from_array(overlay.draw(perception, manifest.class_names), "rgb8")
            picture.header = stamped
            self._overlay.publish(picture)
