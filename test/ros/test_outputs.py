"""Perceptions to messages and pictures, statuses to diagnostics."""

from __future__ import annotations

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus

from robust_perception.engine.engine import EngineInfo
from robust_perception.presence import SensorState, SensorStatus
from robust_perception.ros import diagnostics, outputs
from robust_perception.ros.diagnostics import Link
from robust_perception.ros.messages import header, stamp_to_ns
from robust_perception.runtime import overlay
from robust_perception.runtime.pacing import Situation
from robust_perception.vocabulary import (
    MODALITIES,
    FrameSet,
    Modality,
    Pattern,
    Perception,
    Reason,
    SensorFrame,
)

NAMES = ("background", "cup", "box")
STAMP = 77_000_000_123
INFO = EngineInfo("onnxruntime", "fp32", "cpu", ("tensorrt: not here",), "tiny", "1", "ab" * 32)


def perception(*alive: Modality, size: tuple[int, int] = (48, 64)) -> Perception:
    frames = {}
    for modality in alive:
        shape = {Modality.RGB: (*size, 3), Modality.AUDIO: (16_000,)}.get(modality, size)
        dtype = np.uint8 if modality is Modality.RGB else np.float32
        frames[modality] = SensorFrame(modality, np.full(shape, 9, dtype), STAMP, f"{modality}_frame")
    absent = {m: Reason.LATE for m in MODALITIES if m not in alive}
    ages = dict.fromkeys(alive, 20000000)
    frame_set = FrameSet(Pattern.of(alive), frames, alive[0], ages, ages, absent)
    label_map = np.zeros(size, np.uint8)
    label_map[10:20, 10:20], label_map[0, 0] = 2, 255
    return Perception(
        frame_set=frame_set,
        label_map=label_map,
        boxes=np.array([[10, 10, 20, 20], [0, 0, 4, 8]], np.float32),
        scores=np.array([0.9, 0.25], np.float32),
        class_ids=np.array([2, 1]),
        scene=np.array([0.25, 0.75], np.float32),
        confidence=0.5,
        timings_ms={"encode/rgb": 1.0, "total": 2.5},
    )


def status(modality: Modality, state: SensorState, reason: Reason | None = None, **more) -> SensorStatus:
    return SensorStatus(modality, state, reason, **more)


def all_statuses(**states: SensorStatus) -> dict[Modality, SensorStatus]:
    return {m: states.get(m.value, status(m, SensorState.ALIVE)) for m in MODALITIES}


def pairs(message: DiagnosticStatus) -> dict[str, str]:
    return {pair.key: pair.value for pair in message.values}


def test_a_missing_publisher_is_said_and_no_error() -> None:
    never = status(Modality.RGB, SensorState.NEVER_SEEN, Reason.NEVER_SEEN, detail="no message yet")
    said = diagnostics.sensor("fusion", never, Link("/rgb/image", note="expected a publisher, got none"))
    assert said.level == DiagnosticStatus.STALE
    assert said.message == "never seen; no message yet; expected a publisher, got none"


def test_detections_bear_names_and_the_reference_header() -> None:
    seen = perception(Modality.DEPTH)
    message = outputs.detections(seen.boxes, seen.scores, seen.class_ids, NAMES, outputs.output_header(seen))
    assert stamp_to_ns(message.header.stamp) == STAMP
    assert message.header.frame_id == "depth_frame"
    first, second = message.detections
    assert [d.results[0].hypothesis.class_id for d in (first, second)] == ["box", "cup"]
    assert first.results[0].hypothesis.score == pytest.approx(0.9)
    assert (first.bbox.center.position.x, first.bbox.center.position.y) == (15, 15)
    assert (second.bbox.size_x, second.bbox.size_y) == (4, 8)
    assert first.header == message.header


def test_no_detection_is_an_empty_message() -> None:
    empty = np.zeros((0, 4), np.float32)
    message = outputs.detections(empty, np.zeros(0), np.zeros(0, np.int64), NAMES, header(STAMP, "x"))
    assert not message.detections


def test_segmentation_is_the_label_map() -> None:
    seen = perception(Modality.RGB)
    message = outputs.segmentation(seen.label_map, outputs.output_header(seen))
    assert (message.encoding, message.width, message.height) == ("mono8", 64, 48)
    assert bytes(message.data) == seen.label_map.tobytes()


def test_scene_is_ranked() -> None:
    message = outputs.scene(np.array([0.25, 0.75, 0.25]), ("b", "c", "a"), header(STAMP, "x"))
    assert [(r.class_id, r.score) for r in message.results] == [("c", 0.75), ("a", 0.25), ("b", 0.25)]


def test_label_info_has_every_value_of_the_map() -> None:
    message = outputs.label_info(NAMES, 0.25, header(STAMP, ""))
    assert [(c.class_id, c.class_name) for c in message.class_map] == [
        *enumerate(NAMES),
        (255, "unlabelled"),
    ]
    assert message.threshold == 0.25


@pytest.mark.parametrize("modality", MODALITIES)
def test_overlay_of_any_reference(modality: Modality) -> None:
    seen = perception(modality)
    picture = overlay.draw(seen, NAMES)
    assert picture.dtype == np.uint8
    assert picture.shape == (48 + overlay.BAR, 64, 3)
    colour = overlay.palette(3)[2]
    inside, outside = picture[15, 15].astype(int), picture[40, 40].astype(int)
    assert np.abs(inside - colour).sum() < np.abs(outside - colour).sum(), "the label is not painted"
    bar = picture[48 + 2, :, :].astype(int)
    share = 64 // 4
    greens = [bar[i * share + 1, 1] > bar[i * share + 1, 0] for i in range(4)]
    assert greens == [m is modality for m in MODALITIES]


def test_overlay_leaves_the_frame_as_it_is() -> None:
    seen = perception(Modality.RGB)
    before = seen.frame_set.frames[Modality.RGB].data.copy()
    overlay.draw(seen, NAMES)
    np.testing.assert_array_equal(seen.frame_set.frames[Modality.RGB].data, before)


def test_look_at_depth_without_any_measurement() -> None:
    frame = SensorFrame(Modality.DEPTH, np.full((4, 4), np.nan, np.float32), 0)
    assert overlay.look(frame).shape == (4, 4, 3)


def test_presence_speaks_of_its_output() -> None:
    seen = perception(Modality.DEPTH, Modality.AUDIO)
    states = all_statuses(
        rgb=status(Modality.RGB, SensorState.LATE, Reason.LATE, detail="no message for 1.000 s", gaps=3),
        thermal=status(Modality.THERMAL, SensorState.FROZEN, Reason.FROZEN),
    )
    message = diagnostics.presence("fusion", seen, states, INFO, 12.5)
    assert stamp_to_ns(message.header.stamp) == STAMP
    assert message.header.frame_id == "depth_frame"
    assert [s.name for s in message.status] == ["fusion: pattern", *(f"fusion: {m}" for m in MODALITIES)]
    pattern, rgb, depth, thermal, _ = message.status
    assert (pattern.message, pattern.level) == ("depth+audio", DiagnosticStatus.WARN)
    assert pairs(pattern) == {
        "pattern": "depth+audio",
        "bits": "10",
        "reference": "depth",
        "adapter": "none",
        "backend": "onnxruntime",
        "precision": "fp32",
        "device": "cpu",
        "confidence": "0.500",
        "latency_ms": "12.500",
        "encode/rgb_ms": "1.000",
        "total_ms": "2.500",
    }
    assert rgb.message == "late; no message for 1.000 s"
    assert (rgb.level, pairs(rgb)["gaps"], pairs(rgb)["header_age_ms"]) == (DiagnosticStatus.WARN, "3", "")
    assert (depth.level, pairs(depth)["header_age_ms"]) == (DiagnosticStatus.OK, "20.000")
    assert pairs(thermal)["reason"] == "frozen"


def test_sensor_that_its_settings_cannot_suit_is_told_what_to_set() -> None:
    slow = status(Modality.RGB, SensorState.LATE, Reason.LATE, detail="silence", advice="raise rgb.timeout")
    assert diagnostics.sensor("fusion", slow).message == "late; silence; raise rgb.timeout"


def test_message_between_the_two_looks_does_not_make_presence_contradict_itself() -> None:
    seen = perception(Modality.RGB)
    states = {m: status(m, SensorState.ALIVE) for m in MODALITIES}
    states[Modality.RGB] = status(Modality.RGB, SensorState.LATE, Reason.LATE, detail="gone")
    message = diagnostics.presence("fusion", seen, states, INFO, 0.0)
    assert pairs(message.status[1])["state"] == "alive"
    assert all(pairs(message.status[1 + m.position])["state"] != "alive" for m in MODALITIES[1:])


def test_report_without_output_is_an_error() -> None:
    lost = {m: status(m, SensorState.NEVER_SEEN, Reason.NEVER_SEEN) for m in MODALITIES}
    links = {m: Link(f"/{m}/image") for m in MODALITIES}
    links[Modality.RGB] = Link("/rgb/image", "640x480", 3, "the camera is mute")
    message = diagnostics.report("fusion", header(5, ""), Situation(None, "no sensor is alive"), lost, links)
    pattern, rgb, depth, *_ = message.status
    assert (pattern.level, pattern.message) == (DiagnosticStatus.ERROR, "no output: no sensor is alive")
    assert (rgb.level, rgb.message) == (DiagnosticStatus.ERROR, "never seen; the camera is mute")
    assert (rgb.hardware_id, pairs(rgb)["camera_info"]) == ("/rgb/image", "640x480")
    assert pairs(rgb)["transport_lost"] == "3"
    assert (depth.level, pairs(depth)["camera_info"]) == (DiagnosticStatus.STALE, "none")


@pytest.mark.parametrize(
    ("absent", "level"),
    [(SensorState.DISABLED, DiagnosticStatus.OK), (SensorState.NEVER_SEEN, DiagnosticStatus.WARN)],
)
def test_sensor_switched_off_on_purpose_is_no_warning(absent: SensorState, level: bytes) -> None:
    states = all_statuses(audio=status(Modality.AUDIO, absent, Reason.DISABLED))
    situation = Situation(Pattern.of(MODALITIES[:3]))
    message = diagnostics.report("fusion", header(5, ""), situation, states, {})
    assert message.status[0].level == level


def test_engine_status_has_percentiles() -> None:
    told = pairs(diagnostics.engine_status("fusion", INFO, list(range(101)), 7))
    assert (told["inference_ms_p50"], told["inference_ms_p95"], told["outputs"]) == ("50.000", "95.000", "7")
    assert told["rejected"] == "tensorrt: not here"
    assert pairs(diagnostics.engine_status("fusion", INFO, [], 0))["inference_ms_p50"] == "0.000"


def test_engine_that_fails_is_an_error_with_the_reason() -> None:
    told = diagnostics.engine_status("fusion", INFO, [], 3, "the model fails: RuntimeError: out of memory")
    assert told.level == DiagnosticStatus.ERROR
    assert told.message == "tiny 1 on onnxruntime fp32; the model fails: RuntimeError: out of memory"
    assert diagnostics.engine_status("fusion", INFO, [], 3).level == DiagnosticStatus.OK
