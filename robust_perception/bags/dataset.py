"""A data folder as a bag, so that recorded frames go through the live graph.

| sensor  | topic             | message                                                                  |
|---------|-------------------|--------------------------------------------------------------------------|
| rgb     | `/rgb/image`      | sensor_msgs/Image rgb8                                                   |
| depth   | `/depth/image`    | sensor_msgs/Image 16UC1, millimetres, 0 = invalid                        |
| thermal | `/thermal/image`  | sensor_msgs/Image 16UC1, kelvin * 64; mono8 for a picture of no temperatures |
| audio   | `/audio`          | audio_common_msgs/AudioDataStamped, S16LE; stamp = its first sample      |
| audio   | `/audio_info`     | audio_common_msgs/AudioInfo, once, latched                               |

With labels, the truth of every frame is written too, on the topics that `bags.truth` tells.

Values are those of the files, not converted and back, so that a frame that went over the bag is bit-identical
to the same frame read from the folder. Frame i is stamped `start_ns + i / rate`, and every message of it is
received at that time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from robust_perception.bags import resize, truth, types
from robust_perception.bags.errors import BagError
from robust_perception.bags.sensor_topics import AUDIO_INFO_TOPIC, SENSOR_TOPICS
from robust_perception.bags.writer import BagWriter, whole_bag
from robust_perception.datasets import FIRST_STAMP_NS, FolderDataset
from robust_perception.labels import known_boxes_of_label
from robust_perception.sample_files import read_pcm, read_rgb, read_stored
from robust_perception.vocabulary import AUDIO_RATE, IMAGE_MODALITIES, MODALITIES, Array, Modality

SECOND_NS = 1_000_000_000


def write_dataset(
    dataset: FolderDataset,
    out: Path,
    *,
    rate: float = 2.0,
    modalities: Collection[Modality] = MODALITIES,
    limit: int | None = None,
    storage: str = "mcap",
    start_ns: int = FIRST_STAMP_NS,
    labels: bool = False,
    times: Mapping[str, int] | None = None,
    size: resize.Size | None = None,
    progress: Callable[[int, int], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> int:
    """Write one split as a bag.

    Args:
        dataset: the split.
        out: the bag's folder; it must not exist.
        rate: frames a second.
        modalities: sensors to write, of those that the split has.
        limit: only the first frames.
        storage: "mcap" or "sqlite3".
        start_ns: stamp of the first frame.
        labels: write the truth of every frame as well.
        times: of the frames, ns from `start_ns`, instead of `rate`; they are written in this order.
        size: width and height to give to all pictures; None = as they are.
        progress: called with frames done and frames in all, after each.
        say: told in words what a graph will not like.

    Returns:
        Number of messages of sensors.

    Raises:
        BagError: the rate is not positive, none of the sensors is in the split, or the bag cannot be written.
        DatasetError: a file cannot be decoded, or is of another form than its folder's.
    """
    chosen = [m for m in dataset.modalities if m in modalities]
    if not chosen:
        got = ", ".join(m.value for m in modalities)
        there = ", ".join(m.value for m in dataset.modalities)
        msg = f"{dataset.folder}: expected sensors out of {there}, got {got or 'none'}"
        raise BagError(msg)
    if not 0 < rate <= 1000:
        msg = f"expected a rate above 0 and up to 1000 frames a second, got {rate:g}"
        raise BagError(msg)
    names = dataset.names[:limit]
    period_ns = SECOND_NS / rate
    if times is not None:
        names = tuple(sorted(dataset.names, key=lambda name: times[name])[:limit])
        twice = len(names) - len({times[name] for name in names})
        if twice and say is not None:
            say(f"{twice} frames have the time of another, and of one stamp only the last labels count")
    written = 0
    sizes: set[resize.Size] = set()
    with whole_bag(out, storage) as bag:
        if Modality.AUDIO in chosen:
            bag.add_topic(AUDIO_INFO_TOPIC, types.AUDIO_INFO, latched=True)
            bag.write(AUDIO_INFO_TOPIC, types.AUDIO_INFO, audio_info(), start_ns)
        if labels:
            names_of_classes = truth.label_info(dataset.class_names, header(start_ns, ""))
            bag.add_topic(truth.LABEL_INFO, truth.LABEL_INFO_TYPE, latched=True)
            bag.write(truth.LABEL_INFO, truth.LABEL_INFO_TYPE, names_of_classes, start_ns)
        for index, name in enumerate(names):
            stamp = start_ns + (round(index * period_ns) if times is None else times[name])
            if labels:
                _write_truth(bag, dataset, name, stamp, size)
            for modality in chosen:
                path = dataset.path(modality, name)
                if path is None:
                    continue
                if modality is Modality.AUDIO:
                    bag.write(SENSOR_TOPICS[modality], types.AUDIO, _sound(path, stamp), stamp)
                else:
                    pixels, encoding = _picture(modality, path, size)
                    sizes.add(resize.size_of(pixels))
                    data = image(pixels, encoding, stamp, f"{modality.value}_optical_frame")
                    bag.write(SENSOR_TOPICS[modality], types.IMAGE, data, stamp)
                written += 1
            if progress is not None:
                progress(index + 1, len(names))
    if len(sizes) > 1 and say is not None:
        say(f"pictures are of {len(sizes)} sizes, and a live graph takes those of one; --size makes them one")
    return written


def truth_of(dataset: FolderDataset, name: str, stamp_ns: int) -> truth.Truth:
    """The truth of one sample as that of an instant."""
    label = dataset.label(name)
    boxes, class_ids = dataset.boxes_of(name, label)
    from_label = boxes is not None and not dataset.lists_boxes(name)
    scene, crowds = dataset.scene(name), dataset.crowds(name)
    return truth.Truth(stamp_ns, label, boxes, class_ids, scene, from_label, crowds)


def image(pixels: Array, encoding: str, stamp_ns: int, frame_id: str) -> bytes:
    """CDR bytes of a sensor_msgs/Image; the array's type and shape are those of the encoding."""
    contiguous = np.ascontiguousarray(pixels)
    height, width = contiguous.shape[:2]
    message = types.message_class(types.IMAGE)(
        header=header(stamp_ns, frame_id),
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=0,
        step=contiguous.nbytes // height,
        data=contiguous.reshape(-1).view(np.uint8),
    )
    return types.serialize(message, types.IMAGE)


def audio(pcm: bytes, stamp_ns: int, frame_id: str) -> bytes:
    """CDR bytes of an AudioDataStamped: 16-bit little-endian samples, the first of them at `stamp_ns`."""
    data = types.message_class("audio_common_msgs/msg/AudioData")(data=np.frombuffer(pcm, dtype=np.uint8))
    message = types.message_class(types.AUDIO)(header=header(stamp_ns, frame_id), audio=data)
    return types.serialize(message, types.AUDIO)


def audio_info() -> bytes:
    """CDR bytes of the AudioInfo of a data folder's sound: 16 kHz, mono, S16LE."""
    message = types.message_class(types.AUDIO_INFO)(
        channels=1,
        sample_rate=AUDIO_RATE,
        sample_format="S16LE",
        bitrate=AUDIO_RATE * 16,
        coding_format="wave",
    )
    return types.serialize(message, types.AUDIO_INFO)


def header(stamp_ns: int, frame_id: str) -> Any:
    """A std_msgs/Header."""
    stamp = types.message_class("builtin_interfaces/msg/Time")(*divmod(stamp_ns, SECOND_NS))
    return types.message_class("std_msgs/msg/Header")(stamp=stamp, frame_id=frame_id)


def _write_truth(
    bag: BagWriter, dataset: FolderDataset, name: str, stamp_ns: int, size: resize.Size | None
) -> None:
    known = truth_of(dataset, name, stamp_ns)
    if size is not None:
        known = _resized(known, dataset, name, size)
    stamped = header(stamp_ns, "rgb_optical_frame")
    for topic, data in truth.messages_of(known, dataset.class_names, dataset.scene_names, stamped):
        bag.write(topic, truth.TOPICS[topic], data, stamp_ns)


def _resized(known: truth.Truth, dataset: FolderDataset, name: str, size: resize.Size) -> truth.Truth:
    label, boxes, class_ids, crowds = known.label, known.boxes, known.class_ids, known.crowds
    if boxes is not None and not known.boxes_from_label:
        shown: Array | None = label
        if shown is None:  # whoever lists boxes without a label map does so in pixels of a picture
            paths = (dataset.path(m, name) for m in IMAGE_MODALITIES)
            shown = next((read_rgb(path) for path in paths if path is not None), None)
        if shown is not None:
            boxes = resize.boxes(boxes, resize.size_of(shown), size)
            crowds = crowds._replace(corners=resize.boxes(crowds.corners, resize.size_of(shown), size))
    if label is not None:
        label = resize.picture(label, size, None).astype(np.uint8, copy=False)
        if known.boxes_from_label:
            boxes, class_ids = known_boxes_of_label(label)
    return known._replace(label=label, boxes=boxes, class_ids=class_ids, crowds=crowds)


def _sound(path: Path, stamp_ns: int) -> bytes:
    pcm = read_pcm(path)
    return audio(pcm, stamp_ns - (len(pcm) // 2) * SECOND_NS // AUDIO_RATE, "audio_frame")


def _picture(modality: Modality, path: Path, size: resize.Size | None) -> tuple[Array, str]:
    """Pixels of a file and their encoding."""
    if modality is Modality.RGB:
        rgb = read_rgb(path)
        return rgb if size is None else resize.picture(rgb, size, modality), "rgb8"
    stored = read_stored(path, modality)
    encoding = "16UC1" if stored.dtype == np.uint16 else "mono8"
    return stored if size is None else resize.picture(stored, size, modality), encoding
