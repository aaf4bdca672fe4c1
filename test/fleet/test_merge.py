"""Many bags joined are one bag of all their outputs, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robust_perception.datasets import Sample
from robust_perception.evaluation.tally import Columns, Tally
from robust_perception.fleet.errors import ResultError
from robust_perception.fleet.merge import Failed, merge
from robust_perception.fleet.result import BagResult
from robust_perception.vocabulary import FrameSet, Modality, Pattern, Perception, SensorFrame

CLASSES, SCENES = ("background", "cup", "box"), ("quiet", "loud")
RGB = Pattern.parse("rgb")


def frames(seed: int, count: int) -> list[tuple[Sample, Perception]]:
    """Truths and outputs that have little to do with each other; some truths know less than others."""
    generator = np.random.default_rng(seed)
    made = []
    for index in range(count):
        label = generator.integers(0, 3, (8, 8)).astype(np.uint8)
        corners = generator.uniform(0, 4, (2, 2))
        boxes = np.concatenate([corners, corners + 4], axis=1).astype(np.float32)
        near = boxes + generator.normal(0, 0.6, boxes.shape).astype(np.float32)
        knows = generator.random(3) < 0.8
        sample = Sample(
            str(index),
            {},
            label if knows[0] else None,
            boxes if knows[1] else None,
            np.array([1, 2]) if knows[1] else None,
            generator.integers(0, 2, 2).astype(np.float32) if knows[2] else None,
        )
        frame = SensorFrame(Modality.RGB, np.zeros((8, 8, 3), np.uint8), 1)
        perception = Perception(
            frame_set=FrameSet(RGB, {Modality.RGB: frame}, Modality.RGB),
            label_map=generator.integers(0, 3, (8, 8)).astype(np.uint8),
            boxes=near,
            scores=generator.random(2).astype(np.float32),
            class_ids=np.array([1, 2]),
            scene=generator.random(2).astype(np.float32),
            confidence=float(generator.random()),
        )
        made.append((sample, perception))
    return made


def tally(of: list[tuple[Sample, Perception]]) -> Tally:
    counted = Tally.of(len(CLASSES), SCENES)
    for sample, perception in of:
        counted.add(sample, perception, Columns([0, 1], [0, 1]))
    return counted


def result(counted: Tally, frames: int) -> BagResult:
    report = {
        "bag_sha256": "0" * 64,
        "bag_seconds": 1.0,
        "frames": frames,
        "has_truth": True,
        "scene_names": list(SCENES),
        "said": [],
        "seconds": 0.5,
        "patterns": {},
        "passes": {},
    }
    return BagResult("k", report, {RGB: counted.arrays()})


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), sizes=st.lists(st.integers(0, 4), min_size=1, max_size=4))
def test_joined_tallies_are_the_tally_of_all(seed: int, sizes: list[int]) -> None:
    everything = frames(seed, sum(sizes))
    whole = Tally.of(len(CLASSES), SCENES)
    start = 0
    for size in sizes:
        whole.join(tally(everything[start : start + size]).arrays())
        start += size
    np.testing.assert_equal(
        whole.result(RGB, CLASSES).to_json(), tally(everything).result(RGB, CLASSES).to_json()
    )


def test_a_long_bag_weighs_more_than_a_short_one() -> None:
    everything = frames(3, 12)
    parts = [everything[:2], everything[2:]]
    merged = merge(
        ((name, result(tally(part), len(part))) for name, part in zip("ab", parts, strict=True)),
        [Failed("c", "expected a bag, got nothing")],
        CLASSES,
        SCENES,
        {"model": "tiny"},
    )
    (row,) = merged.report.results
    expected = tally(everything).result(RGB, CLASSES)
    assert row.to_json() == expected.to_json()
    means = [tally(part).result(RGB, CLASSES).foreground_miou for part in parts]
    assert row.foreground_miou != pytest.approx(float(np.mean(means)), abs=1e-6)
    assert [r["foreground_miou"] for r in merged.rows] == means
    content = merged.to_json()
    assert (content["measured"], content["not_measured"], content["frames"]) == (2, 1, 12)
    assert content["failed"] == [{"name": "c", "error": "expected a bag, got nothing"}]


def test_losses_that_never_changed_the_output_are_counted_beside_the_slowest() -> None:
    times = [("never", None, 3.0), (300.0, 100.0, 3.0), (250.0, None, None)]
    losses = [
        {"sensor": "rgb", "degrade_ms": gone, "recover_ms": back, "first_s": first}
        for gone, back, first in times
    ]
    one = result(tally([]), 0)
    course = {"losses": losses, "refused": {}, "failures": []}
    merged = merge(
        [("a", BagResult("k", {**one.report, "passes": {"rgb": course}}, one.tallies))],
        [],
        CLASSES,
        SCENES,
        {},
    )
    expected = {"degrade_ms": 300.0, "recover_ms": 100.0, "never_degraded": 1, "never_recovered": 1}
    assert expected.items() <= merged.rows[0].items()
    assert merged.to_json()["losses"] == {"rgb": {"count": 3, **expected}}


def test_a_result_of_other_classes_is_named() -> None:
    other = BagResult("k", result(tally([]), 0).report, {RGB: Tally.of(5, SCENES).arrays()})
    with pytest.raises(ResultError, match="late: expected the result of a bag with 3 classes"):
        merge([("late", other)], [], CLASSES, SCENES, {})
