"""What was really there, as topics of a bag: the same that the simulation publishes beside its sensors.

| topic                    | type                         |                                               |
|--------------------------|------------------------------|-----------------------------------------------|
| `/truth/segmentation`    | sensor_msgs/Image, mono8     | class index per pixel, 255 = unlabelled       |
| `/truth/detections`      | vision_msgs/Detection2DArray | class by name, score 1                        |
| `/truth/detections_info` | vision_msgs/VisionInfo       | method `FROM_LABEL` where boxes are the map's |
| `/truth/crowds`          | vision_msgs/Detection2DArray | things of a class, nobody said where each is  |
| `/truth/scene`           | vision_msgs/Classification   | every scene class, score 1 = present          |
| `/truth/label_info`      | vision_msgs/LabelInfo        | names of the class indices, latched           |

All of one instant have one stamp. A topic that is missing is simply not known. Boxes that were taken from the
label map say nothing about objects where it is unlabelled; without a word about them they are all there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from robust_perception.bags import types
from robust_perception.bags.errors import BagError
from robust_perception.bags.reader import BagReader
from robust_perception.coco_boxes import NO_BOXES, Boxes
from robust_perception.runtime import images
from robust_perception.runtime.decoders import stamp_to_ns
from robust_perception.runtime.errors import DecodingError
from robust_perception.vocabulary import UNLABELLED, Array

SEGMENTATION, DETECTIONS = "/truth/segmentation", "/truth/detections"
DETECTIONS_INFO, CROWDS = "/truth/detections_info", "/truth/crowds"
SCENE, LABEL_INFO = "/truth/scene", "/truth/label_info"
TOPICS: dict[str, str] = {
    SEGMENTATION: types.IMAGE,
    DETECTIONS: "vision_msgs/msg/Detection2DArray",
    DETECTIONS_INFO: "vision_msgs/msg/VisionInfo",
    CROWDS: "vision_msgs/msg/Detection2DArray",
    SCENE: "vision_msgs/msg/Classification",
}
"""Topic -> type, of what belongs to an instant."""
LABEL_INFO_TYPE = "vision_msgs/msg/LabelInfo"

FROM_LABEL = "components of /truth/segmentation"
"""How boxes came about that were taken from the label map of their instant."""

INSTANTS_WAITING = 4
"""Instants of which further topics may still come."""

Labels = npt.NDArray[np.uint8]


class Truth(NamedTuple):
    """What was there at an instant; None = nobody knows.

    Attributes:
        stamp_ns: of the instant.
        label: uint8 (H, W), class index, 255 = unlabelled.
        boxes: float32 (n, 4), xyxy in pixels.
        class_ids: int64 (n,), class index of each box.
        scene: float32 (k,), 1 where the scene class is present.
        boxes_from_label: whether the boxes are those of the label map.
        crowds: boxes that hold things of their class, and nobody said where each of them is.
    """

    stamp_ns: int
    label: Labels | None = None
    boxes: npt.NDArray[np.float32] | None = None
    class_ids: npt.NDArray[np.int64] | None = None
    scene: npt.NDArray[np.float32] | None = None
    boxes_from_label: bool = False
    crowds: Boxes = NO_BOXES


def messages_of(
    truth: Truth, class_names: Sequence[str], scene_names: Sequence[str], header: Any
) -> Iterator[tuple[str, bytes]]:
    """Topic and CDR bytes of what is known of an instant; `header` bears its stamp."""
    make = types.message_class
    if truth.label is not None:
        height, width = truth.label.shape
        picture = make(types.IMAGE)(
            header=header,
            height=height,
            width=width,
            encoding="mono8",
            is_bigendian=0,
            step=width,
            data=np.ascontiguousarray(truth.label).reshape(-1),
        )
        yield SEGMENTATION, types.serialize(picture, types.IMAGE)
    if truth.boxes is not None and truth.class_ids is not None:
        yield DETECTIONS, _detections(Boxes(truth.boxes, truth.class_ids), class_names, header)
        if len(truth.crowds.corners):
            yield CROWDS, _detections(truth.crowds, class_names, header)
        if truth.boxes_from_label:
            kind = TOPICS[DETECTIONS_INFO]
            info = make(kind)(
                header=header, method=FROM_LABEL, database_location=LABEL_INFO, database_version=0
            )
            yield DETECTIONS_INFO, types.serialize(info, kind)
    if truth.scene is not None:
        hypothesis = make("vision_msgs/msg/ObjectHypothesis")
        results = [
            hypothesis(class_id=name, score=float(there))
            for name, there in zip(scene_names, truth.scene.tolist(), strict=True)
        ]
        kind = TOPICS[SCENE]
        yield SCENE, types.serialize(make(kind)(header=header, results=results), kind)


def label_info(class_names: Sequence[str], header: Any) -> bytes:
    """CDR bytes of the names of the class indices."""
    make = types.message_class
    vision_class = make("vision_msgs/msg/VisionClass")
    classes = [vision_class(class_id=i, class_name=name) for i, name in enumerate(class_names)]
    message = make(LABEL_INFO_TYPE)(header=header, class_map=classes, threshold=1.0)
    return types.serialize(message, LABEL_INFO_TYPE)


def class_names_in(bag: BagReader) -> tuple[str, ...] | None:
    """The names of the class indices, background first; None when the bag does not tell.

    Raises:
        BagError: the indices are not 0, 1, .. without a gap.
    """
    there = {topic.name: topic for topic in bag.topics if topic.count}
    if LABEL_INFO not in there or there[LABEL_INFO].msgtype != LABEL_INFO_TYPE:
        return None
    raw = next(bag.messages([LABEL_INFO]))
    pairs = types.deserialize(raw.data, raw.msgtype).class_map
    known = sorted((p.class_id, p.class_name) for p in pairs if p.class_id != UNLABELLED)
    if [number for number, _ in known] != list(range(len(known))):
        got = [number for number, _ in known]
        msg = f"{bag.path}: {LABEL_INFO}: expected class indices 0, 1, .., got {got}"
        raise BagError(msg)
    return tuple(name for _, name in known)


def scene_names_in(bag: BagReader) -> tuple[str, ...]:
    """The scene classes that the first truth about them names, in its order; empty without one."""
    there = {topic.name: topic for topic in bag.topics if topic.count}
    if SCENE not in there or there[SCENE].msgtype != TOPICS[SCENE]:
        return ()
    raw = next(bag.messages([SCENE]))
    return tuple(result.class_id for result in types.deserialize(raw.data, raw.msgtype).results)


class TruthReader:
    """The truth in a bag, in the words of a model.

    Args:
        bag: the opened bag.
        class_names: the model's, background first; empty = nobody knows, and boxes are not read.
        scene_names: the model's.
        say: told once a topic that two of its messages have one stamp, of which the later one counts, and
            once that a message is left out because it comes after several later instants.

    Attributes:
        known: whether the bag has any truth.

    Raises:
        BagError: the bag's class names are others than the model's, or a topic is of another type.
    """

    def __init__(
        self,
        bag: BagReader,
        class_names: Sequence[str],
        scene_names: Sequence[str],
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._bag, self._say = bag, say
        self._index = {name: i for i, name in enumerate(class_names)}
        self._scene_names = tuple(scene_names)
        there = {topic.name: topic for topic in bag.topics if topic.count}
        unread = () if class_names else (DETECTIONS, DETECTIONS_INFO, CROWDS)
        self._topics = [name for name in TOPICS if name in there and name not in unread]
        for name in self._topics:
            if there[name].msgtype != TOPICS[name]:
                msg = f"{bag.path}: {name}: expected {TOPICS[name]}, got {there[name].msgtype}"
                raise BagError(msg)
        if LABEL_INFO in there:
            self._check_names(tuple(class_names))
        self.known = bool(set(self._topics) - {DETECTIONS_INFO, CROWDS})

    def __iter__(self) -> Iterator[Truth]:
        """One `Truth` an instant, by stamp; BagError for one that cannot be read.

        Topics of one instant are recorded one by one, and on a busy machine the next instant comes between.
        What comes when its instant is over, as with a clock that was put back, is told and left out.
        """
        waiting: dict[int, dict[str, Any]] = {}
        told: set[str] = set()
        over: int | None = None
        late: set[str] = set()
        for raw in self._bag.messages(self._topics) if self._topics else ():
            message = types.deserialize(raw.data, raw.msgtype)
            stamp = stamp_to_ns(message.header.stamp)
            if over is not None and stamp <= over:
                if raw.topic not in late:
                    late.add(raw.topic)
                    self._say(
                        f"{raw.topic}: expected stamps that go up, got {stamp} ns when that of {over} ns and "
                        f"{INSTANTS_WAITING} later ones had come; such messages are left out"
                    )
                continue
            instant, known = waiting.setdefault(stamp, {}), self._read(raw.topic, message)
            if raw.topic not in told and not known.keys().isdisjoint(instant):
                told.add(raw.topic)
                self._say(
                    f"{raw.topic}: expected one message a stamp, got several of {stamp} ns; "
                    "the last one counts"
                )
            instant.update(known)
            if len(waiting) > INSTANTS_WAITING:
                over = min(waiting)
                yield from _told_of(over, waiting.pop(over))
        for stamp in sorted(waiting):
            yield from _told_of(stamp, waiting[stamp])

    def _read(self, topic: str, message: Any) -> dict[str, Any]:
        if topic == SEGMENTATION:
            try:
                label = images.to_array(message)
            except DecodingError as error:
                raise BagError(f"{self._bag.path}: {topic}: {error}") from None
            return {"label": self._checked(label, stamp_to_ns(message.header.stamp))}
        if topic == DETECTIONS_INFO:
            return {"boxes_from_label": message.method == FROM_LABEL}
        if topic == SCENE:
            scores = {result.class_id: result.score for result in message.results}
            present = [scores.get(name, 0.0) for name in self._scene_names]
            return {"scene": np.array(present, dtype=np.float32)}
        rows = []
        for detection in message.detections:
            name = detection.results[0].hypothesis.class_id if detection.results else ""
            if name not in self._index:
                msg = f"{self._bag.path}: {topic}: expected classes out of {list(self._index)}, got {name!r}"
                raise BagError(msg)
            centre, box = detection.bbox.center.position, detection.bbox
            half_x, half_y = box.size_x / 2, box.size_y / 2
            corners = (centre.x - half_x, centre.y - half_y, centre.x + half_x, centre.y + half_y)
            rows.append((corners, self._index[name]))
        found = Boxes.of(rows)
        if topic == CROWDS:
            return {"crowds": found}
        return {"boxes": found.corners, "class_ids": found.class_ids}

    def _checked(self, label: Array, stamp_ns: int) -> Labels:
        """A label map (H, W) all of whose values are class indices, as far as names tell, or 255."""
        where = f"{self._bag.path}: {SEGMENTATION} of {stamp_ns} ns"
        if label.ndim != 2 or label.dtype.kind != "u":
            msg = f"{where}: expected mono8, one class index a pixel, got {label.dtype} {label.shape}"
            raise BagError(msg)
        values = label.astype(np.uint16, copy=False)  # cut off to 8 bits, a wrong one could pass for a class
        count = len(self._index) or UNLABELLED
        wrong = np.unique(values[(values >= count) & (values != UNLABELLED)])
        if wrong.size:
            msg = (
                f"{where}: expected values below {count}, the number of classes, or {UNLABELLED}, "
                f"got {wrong.tolist()}; give pixels of no class {UNLABELLED}"
            )
            raise BagError(msg)
        return values.astype(np.uint8)

    def _check_names(self, wanted: tuple[str, ...]) -> None:
        names = class_names_in(self._bag)
        if names != wanted:
            msg = (
                f"{self._bag.path}: expected the model's class names {list(wanted)}, got {list(names or ())}"
            )
            raise BagError(msg)


def _told_of(stamp_ns: int, known: dict[str, Any]) -> Iterator[Truth]:
    """The truth of an instant; none where there are only words about boxes."""
    if known.keys() - {"boxes_from_label", "crowds"}:
        yield Truth(stamp_ns, **known)


def _detections(boxes: Boxes, class_names: Sequence[str], header: Any) -> bytes:
    """CDR bytes of boxes by the names of their classes."""
    pairs = zip(boxes.corners.astype(np.float64).tolist(), boxes.class_ids.tolist(), strict=True)
    found = [_detection(box, class_names[class_id], header) for box, class_id in pairs]
    kind = TOPICS[DETECTIONS]
    return types.serialize(types.message_class(kind)(header=header, detections=found), kind)


def _detection(box: Sequence[float], name: str, header: Any) -> Any:
    make = types.message_class
    x1, y1, x2, y2 = box
    centre = make("vision_msgs/msg/Pose2D")(
        position=make("vision_msgs/msg/Point2D")(x=(x1 + x2) / 2, y=(y1 + y2) / 2), theta=0.0
    )
    pose = make("geometry_msgs/msg/PoseWithCovariance")(
        pose=make("geometry_msgs/msg/Pose")(
            position=make("geometry_msgs/msg/Point")(x=0.0, y=0.0, z=0.0),
            orientation=make("geometry_msgs/msg/Quaternion")(x=0.0, y=0.0, z=0.0, w=1.0),
        ),
        covariance=np.zeros(36),
    )
    result = make("vision_msgs/msg/ObjectHypothesisWithPose")(
        hypothesis=make("vision_msgs/msg/ObjectHypothesis")(class_id=name, score=1.0), pose=pose
    )
    area = make("vision_msgs/msg/BoundingBox2D")(center=centre, size_x=x2 - x1, size_y=y2 - y1)
    return make("vision_msgs/msg/Detection2D")(header=header, results=[result], bbox=area, id="")
