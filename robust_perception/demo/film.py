"""The recording as pictures: what each sensor sent, the output over it; as a video, and as stills.

One frame of the film, 760x480, with the four sensors one below the other:

    +-----------------------------+---------+
    | output over its reference,  | rgb     |
    | below it the bar that tells | depth   |
    | which sensors took part     | thermal |
    |                             | audio   |
    +-----------------------------+---------+

It is made from the recorded messages alone, so that it shows what others received.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import cv2
import numpy as np
import numpy.typing as npt

from robust_perception import units
from robust_perception.bags import types
from robust_perception.bags.reader import BagReader
from robust_perception.bags.sensor_topics import SENSOR_TOPICS
from robust_perception.runtime import overlay
from robust_perception.vocabulary import (
    AUDIO_RATE,
    MODALITIES,
    FrameSet,
    Modality,
    Pattern,
    Perception,
    SensorFrame,
)

Picture = npt.NDArray[np.uint8]

SIZE = (480, 760)
"""Rows, columns of a frame of the film."""
LEFT = 600
"""Columns of the output."""
AUDIO_SHOWN = AUDIO_RATE
"""Samples of sound that are drawn: one second."""

SENSOR_OF = {topic: modality for modality, topic in SENSOR_TOPICS.items()}
DETECTIONS, SEGMENTATION, PRESENCE = "/fusion/detections", "/fusion/segmentation", "/fusion/presence"
LABEL_INFO = "/fusion/label_info"


OUTPUT_MESSAGES = 3
WAITING = 10
"""Outputs that wait for the reference frame of the oldest of them, at most."""


class Shot(NamedTuple):
    """The picture of one output."""

    stamp_ns: int
    turn: int
    """How many outputs had the same stamp before."""
    output: Picture
    """uint8 (H, W, 3) RGB: the output over its reference frame, over black where that was not recorded."""
    film: Picture
    """uint8 (480, 760, 3) RGB."""


class _Output(NamedTuple):
    """An output whose messages are all there, and that has not been drawn."""

    stamp_ns: int
    turn: int
    parts: dict[str, Any]
    frames: dict[Modality, SensorFrame]
    """The newest of each sensor at that time."""


@dataclass
class _State:
    """The newest of everything while the recording is read."""

    names: tuple[str, ...] = ()
    frames: dict[Modality, SensorFrame] = field(default_factory=dict)
    history: dict[tuple[Modality, int], SensorFrame] = field(default_factory=dict)
    parts: dict[tuple[int, int], dict[str, Any]] = field(default_factory=dict)
    waiting: deque[_Output] = field(default_factory=deque)
    turns: dict[str, Counter[int]] = field(default_factory=dict)


def shots(bag: Path, progress: Callable[[int, int], None] | None = None) -> Iterator[Shot]:
    """One picture an output, in their order.

    Args:
        bag: recorded by the monitor.
        progress: called with messages read and messages in all.

    Raises:
        BagError: the recording cannot be read.
    """
    state = _State()
    with BagReader(bag) as reader:
        for index, raw in enumerate(reader.messages()):
            if progress is not None and index % 100 == 0:
                progress(index, reader.message_count)
            if raw.topic in SENSOR_OF:
                _take_sensor(state, SENSOR_OF[raw.topic], types.deserialize(raw.data, raw.msgtype))
            elif raw.topic == LABEL_INFO:
                message = types.deserialize(raw.data, raw.msgtype)
                state.names = tuple(entry.class_name for entry in message.class_map if entry.class_id != 255)
            elif raw.topic in (DETECTIONS, SEGMENTATION, PRESENCE):
                _take_output(state, raw.topic, types.deserialize(raw.data, raw.msgtype))
            yield from _drawn(state, WAITING)
        yield from _drawn(state, 0)


def write_video(path: Path, pictures: Iterator[Picture], rate: float) -> None:
    """An MP4 (H.264) of pictures of the size `SIZE`, uint8 RGB, `rate` a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264",
            rate=Fraction(rate).limit_denominator(1000),
            options={"crf": "26", "preset": "veryfast"},
        )
        stream.pix_fmt = "yuv420p"
        stream.height, stream.width = SIZE
        for picture in pictures:
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def jpeg(picture: Picture, quality: int = 80) -> bytes:
    """A picture uint8 (H, W, 3) RGB as JPEG."""
    done, data = cv2.imencode(
        ".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    assert done, "OpenCV encodes every 8-bit picture"
    return data.tobytes()


def _take_sensor(state: _State, modality: Modality, message: Any) -> None:
    stamp_ns = message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec
    data: Any = message.audio.data if modality is Modality.AUDIO else message.data
    values = np.asarray(data)
    if modality is Modality.AUDIO:
        samples = units.audio_from_pcm16(values.view("<i2").astype(np.int16, copy=False))
        before = state.frames.get(modality)
        window = samples if before is None else np.concatenate([before.data, samples])[-AUDIO_SHOWN:]
        frame = SensorFrame(modality, window, stamp_ns)
    elif modality is Modality.RGB:
        frame = SensorFrame(modality, values.reshape(message.height, message.width, 3), stamp_ns)
    else:
        counts = values.view("<u2").reshape(message.height, message.width).astype(np.uint16, copy=False)
        convert = units.depth_from_counts if modality is Modality.DEPTH else units.thermal_from_counts
        frame = SensorFrame(modality, convert(counts), stamp_ns)
    state.frames[modality] = frame
    state.history[modality, frame.end_ns if modality.is_image else stamp_ns] = frame
    while len(state.history) > 60:
        del state.history[next(iter(state.history))]


def _take_output(state: _State, topic: str, message: Any) -> None:
    stamp_ns = message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec
    counter = state.turns.setdefault(topic, Counter())
    key = stamp_ns, counter[stamp_ns]
    counter[stamp_ns] += 1
    parts = state.parts.setdefault(key, {})
    parts[topic] = message
    if len(parts) == OUTPUT_MESSAGES:
        state.waiting.append(_Output(*key, state.parts.pop(key), dict(state.frames)))


def _drawn(state: _State, waiting: int) -> Iterator[Shot]:
    """Pictures of the outputs, oldest first, until one lacks its frame and no more than `waiting` are left.

    A busy recorder may take a frame in after the output that was made of it, or lose it.
    """
    while state.waiting:
        output = state.waiting[0]
        frame = _reference(state, output)
        if frame is None and len(state.waiting) <= waiting:
            return
        state.waiting.popleft()
        perception = _perception(state, output, frame)
        picture = overlay.draw(perception, state.names)
        film = _compose(picture, output.frames, perception.frame_set.pattern)
        yield Shot(output.stamp_ns, output.turn, picture, film)


def _head(output: _Output) -> dict[str, str]:
    """What an output says it was made from."""
    return {pair.key: pair.value for pair in output.parts[PRESENCE].status[0].values}


def _reference(state: _State, output: _Output) -> SensorFrame | None:
    """The reference frame of an output, empty where that is sound; None while it is not there."""
    reference = Modality(_head(output)["reference"])
    if not reference.is_image:
        return SensorFrame(reference, np.zeros(1, np.float32), output.stamp_ns)
    return state.history.get((reference, output.stamp_ns))


def _perception(state: _State, output: _Output, frame: SensorFrame | None) -> Perception:
    """What the messages of an output say, as the value that the node had made them from.

    Its reference frame is black where there is none.
    """
    parts, stamp_ns, head = output.parts, output.stamp_ns, _head(output)
    pattern, reference = Pattern.parse(head["pattern"]), Modality(head["reference"])
    blank = SensorFrame(reference, np.zeros(1, np.float32), stamp_ns)
    if frame is None:
        size = (parts[SEGMENTATION].height, parts[SEGMENTATION].width)
        black = np.zeros((*size, 3), np.uint8) if reference is Modality.RGB else np.zeros(size, np.float32)
        frame = SensorFrame(reference, black, stamp_ns)
    frames = {m: frame if m is reference else SensorFrame(m, blank.data, stamp_ns) for m in pattern}
    segmentation, found = parts[SEGMENTATION], parts[DETECTIONS].detections
    boxes = [
        (
            d.bbox.center.position.x - d.bbox.size_x / 2,
            d.bbox.center.position.y - d.bbox.size_y / 2,
            d.bbox.center.position.x + d.bbox.size_x / 2,
            d.bbox.center.position.y + d.bbox.size_y / 2,
        )
        for d in found
    ]
    return Perception(
        frame_set=FrameSet(pattern, frames, reference),
        label_map=np.asarray(segmentation.data, np.uint8).reshape(segmentation.height, segmentation.width),
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        scores=np.array([d.results[0].hypothesis.score for d in found], np.float32),
        class_ids=np.array([state.names.index(d.results[0].hypothesis.class_id) for d in found], np.int64),
        scene=np.zeros(0, np.float32),
        confidence=float(head["confidence"]),
    )


def _compose(output: Picture, frames: dict[Modality, SensorFrame], pattern: Pattern) -> Picture:
    film = np.full((*SIZE, 3), 18, np.uint8)
    _place(film, output, 0, 0, SIZE[0], LEFT)
    rows, columns = SIZE[0] // len(MODALITIES), SIZE[1] - LEFT
    for index, modality in enumerate(MODALITIES):
        tile = _tile(frames.get(modality), modality)
        here = modality in pattern
        _place(film, tile if here else (tile * 0.25).astype(np.uint8), index * rows, LEFT, rows, columns)
        colour = (46, 160, 67) if here else (160, 50, 50)
        corner = (LEFT, index * rows)
        cv2.rectangle(film, corner, (LEFT + 58, index * rows + 16), colour, -1)
        at = (LEFT + 4, index * rows + 12)
        cv2.putText(film, modality.value, at, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 1, cv2.LINE_AA)
    return film


def _tile(frame: SensorFrame | None, modality: Modality) -> Picture:
    if frame is None:
        return np.zeros((120, 160, 3), np.uint8)
    if modality.is_image:
        return overlay.look(frame)
    tile = np.zeros((120, 160, 3), np.uint8)
    chunks: Sequence[npt.NDArray[Any]] = np.array_split(frame.data.astype(np.float32), tile.shape[1])
    for column, chunk in enumerate(chunks):
        loud = float(np.abs(chunk).max()) if chunk.size else 0.0
        half = round(min(1.0, loud**0.5) * 55)
        tile[60 - half : 61 + half, column] = (90, 200, 250)
    return tile


def _place(film: Picture, picture: Picture, top: int, left: int, rows: int, columns: int) -> None:
    """Draw a picture as large as it fits into a field, in its middle."""
    scale = min(rows / picture.shape[0], columns / picture.shape[1])
    size = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    drawn = cv2.resize(picture, size, interpolation=way)
    y, x = top + (rows - size[1]) // 2, left + (columns - size[0]) // 2
    film[y : y + size[1], x : x + size[0]] = drawn
