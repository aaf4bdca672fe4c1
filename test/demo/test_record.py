"""What belongs together is put together, and compared with the truth of its instant."""

from __future__ import annotations

import numpy as np

from robust_perception.demo.record import Record
from robust_perception.vocabulary import MODALITIES, Modality, Pattern

NAMES = ("background", "cup")


def say(record: Record, stamp_ns: int, pattern: str = "rgb", published_ns: int = 0) -> None:
    """The presence message of an output."""
    chosen = Pattern.parse(pattern)
    record.output(
        published_ns=published_ns or stamp_ns + 50,
        stamp_ns=stamp_ns,
        pattern=chosen,
        measured_ns=dict.fromkeys(chosen, stamp_ns),
        states=dict.fromkeys(MODALITIES, "alive"),
        rates_hz=dict.fromkeys(MODALITIES, 10.0),
        latency_ms=1.0,
        inference_ms=1.0,
    )


def label(value: int) -> np.ndarray:
    """Half cup in truth; what is said of it by `value`."""
    pixels = np.zeros((4, 4), np.uint8)
    pixels[:2] = value
    return pixels


def test_an_output_is_compared_whatever_order_its_messages_come_in() -> None:
    record = Record(NAMES)
    record.truth(7, label(1))
    record.true_scene(7, frozenset({"tone"}))
    record.label_map(7, label(1))
    say(record, 7)
    record.scene(7, frozenset({"tone"}))
    (output,) = record.snapshot().outputs
    assert output.quality == 100.0
    assert output.scene_right is True


def test_two_outputs_of_one_stamp_are_kept_apart() -> None:
    record = Record(NAMES)
    record.truth(7, label(1))
    say(record, 7, "rgb+depth")
    record.label_map(7, label(1))
    record.label_map(7, label(0))
    say(record, 7, "rgb", published_ns=90)
    first, second = record.snapshot().outputs
    assert (first.turn, first.quality) == (0, 100.0)
    assert (second.turn, second.quality) == (1, 0.0)
    by_pattern = record.snapshot().by_pattern
    assert by_pattern[Pattern.parse("rgb+depth")].foreground_miou() == 100.0
    assert by_pattern[Pattern.parse("rgb")].foreground_miou() == 0.0


def test_without_truth_there_is_no_quality() -> None:
    record = Record(NAMES)
    record.label_map(7, label(1))
    say(record, 7)
    (output,) = record.snapshot().outputs
    assert output.quality is None
    assert output.scene_right is None


def test_a_model_of_other_classes_is_not_compared() -> None:
    record = Record(NAMES)
    record.model_classes(("background", "cup", "plate"))
    assert record.ready.is_set()
    record.truth(7, label(1))
    record.label_map(7, label(2))
    say(record, 7)
    assert record.snapshot().outputs[0].quality is None


def test_sound_alone_is_judged_by_what_was_heard_last() -> None:
    record = Record(NAMES)
    record.true_scene(1_000, frozenset())
    record.true_scene(2_000, frozenset({"tone"}))
    record.scene(500, frozenset({"tone"}))
    record.output(
        published_ns=2_100,
        stamp_ns=500,
        pattern=Pattern.parse("audio"),
        measured_ns={Modality.AUDIO: 1_990},
        states={},
        rates_hz={},
        latency_ms=1.0,
        inference_ms=1.0,
    )
    assert record.snapshot().outputs[0].scene_right is True


def test_outputs_are_handed_out_by_time_of_publication() -> None:
    record = Record(NAMES)
    say(record, 8, published_ns=200)
    say(record, 7, published_ns=100)
    record.script_time(5_000_000_000, 2.0)
    record.sensor(Modality.RGB, 7)
    seen = record.snapshot()
    assert [output.stamp_ns for output in seen.outputs] == [7, 8]
    assert seen.origin_ns == 3_000_000_000
    assert seen.arrivals[Modality.RGB] == [7]
