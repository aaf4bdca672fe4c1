"""The film shows every output, in whatever order a busy recorder took its messages in."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import av
import numpy as np
import pytest

from robust_perception.bags import types
from robust_perception.bags.dataset import header, image
from robust_perception.bags.writer import BagWriter
from robust_perception.demo import film

S = 1_000_000_000
DIAGNOSTICS, DETECTIONS = "diagnostic_msgs/msg/DiagnosticArray", "vision_msgs/msg/Detection2DArray"


def presence(stamp_ns: int) -> bytes:
    """The presence message of an output of rgb alone."""
    pair = types.message_class("diagnostic_msgs/msg/KeyValue")
    values = {"pattern": "rgb", "reference": "rgb", "confidence": "0.9"}
    status = types.message_class("diagnostic_msgs/msg/DiagnosticStatus")(
        level=0,
        name="fusion: pattern",
        message="rgb",
        hardware_id="",
        values=[pair(key=key, value=value) for key, value in values.items()],
    )
    message = types.message_class(DIAGNOSTICS)(header=header(stamp_ns, "camera"), status=[status])
    return types.serialize(message, DIAGNOSTICS)


def messages(stamp_ns: int) -> list[tuple[str, str, bytes]]:
    """A red picture and the output that was made of it: the upper half is of class 1, and no boxes."""
    pixels = np.zeros((24, 32, 3), np.uint8)
    pixels[..., 0] = 200
    labels = np.zeros((24, 32), np.uint8)
    labels[:12] = 1
    found = types.message_class(DETECTIONS)(header=header(stamp_ns, "camera"), detections=[])
    return [
        ("/rgb/image", types.IMAGE, image(pixels, "rgb8", stamp_ns, "camera")),
        ("/fusion/segmentation", types.IMAGE, image(labels, "mono8", stamp_ns, "camera")),
        ("/fusion/detections", DETECTIONS, types.serialize(found, DETECTIONS)),
        ("/fusion/presence", DIAGNOSTICS, presence(stamp_ns)),
    ]


def write(path: Path, order: tuple[int, ...], count: int = 3) -> Path:
    """A recording in which the messages of every instant were taken in in this order."""
    with BagWriter(path) as bag:
        for index in range(1, count + 1):
            parts = messages(index * S)
            for place, which in enumerate(order):
                topic, msgtype, data = parts[which]
                bag.write(topic, msgtype, data, index * S + place)
    return path


@pytest.mark.parametrize("order", list(permutations(range(4)))[::5], ids=str)
def test_every_output_is_shown_once(order: tuple[int, ...], tmp_path: Path) -> None:
    shots = list(film.shots(write(tmp_path / "bag", order)))
    assert [(shot.stamp_ns, shot.turn) for shot in shots] == [(S, 0), (2 * S, 0), (3 * S, 0)]
    lower = shots[0].output[12:24]
    assert (lower == [200, 0, 0]).all(), "what is background is as the camera saw it"
    assert shots[0].film.shape == (*film.SIZE, 3)


@pytest.mark.parametrize("lost", [1, 2, 15])
def test_an_output_whose_frame_was_not_recorded_is_shown_over_black_in_its_turn(
    lost: int, tmp_path: Path
) -> None:
    with BagWriter(tmp_path / "bag") as bag:
        for index in range(1, 16):
            for topic, msgtype, data in messages(index * S)[1 if index == lost else 0 :]:
                bag.write(topic, msgtype, data, index * S)
    shots = list(film.shots(tmp_path / "bag"))
    assert [shot.stamp_ns for shot in shots] == [index * S for index in range(1, 16)]
    for index, shot in enumerate(shots, 1):
        assert (shot.output[12:24] == ([0, 0, 0] if index == lost else [200, 0, 0])).all()


@pytest.mark.parametrize("rate", [5.0, 0.4])
def test_the_video_has_a_frame_for_every_picture(rate: float, tmp_path: Path) -> None:
    pictures = (np.full((*film.SIZE, 3), level, np.uint8) for level in (10, 120, 240))
    film.write_video(tmp_path / "film.mp4", pictures, rate)
    with av.open(str(tmp_path / "film.mp4")) as video:
        assert float(video.streams.video[0].average_rate) == pytest.approx(rate)
        levels = [frame.to_ndarray(format="rgb24").mean() for frame in video.decode(video=0)]
    assert levels == pytest.approx([10, 120, 240], abs=4)
