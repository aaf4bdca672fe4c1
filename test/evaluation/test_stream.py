"""Slides in time, and the truth of a moment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import small_folder

from robust_perception.bags.truth import Truth
from robust_perception.datasets import FIRST_STAMP_NS, FolderDataset
from robust_perception.evaluation.stream import Slides, TruthNow
from robust_perception.faults.kinds import Fault
from robust_perception.faults.script import FaultScript
from robust_perception.vocabulary import MODALITIES, Modality, SensorFrame

MS = 1_000_000


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> FolderDataset:
    return FolderDataset(small_folder.write(tmp_path_factory.mktemp("folder") / "data"), "test")


def test_every_sample_is_shown_at_its_rate_for_its_time(dataset: FolderDataset) -> None:
    slides = Slides(dataset, [2, 0], rate_hz=10.0, hold_s=0.3)
    arrivals = list(slides.arrivals(FaultScript()))
    assert len(arrivals) == 2 * 3 * len(MODALITIES)
    assert slides.seconds == pytest.approx(0.5)
    assert slides.start_ns == arrivals[0].time_ns
    for place, arrival in enumerate(arrivals):
        step, frame = place // len(MODALITIES), arrival.frame
        assert isinstance(frame, SensorFrame)
        assert arrival.time_ns == frame.end_ns == FIRST_STAMP_NS + step * 100 * MS
        shown = dataset[[2, 0][step // 3]].frames[frame.modality]
        np.testing.assert_array_equal(frame.data, shown.data)
    assert [t.stamp_ns for t in slides.truths()] == [FIRST_STAMP_NS, FIRST_STAMP_NS + 300 * MS]


@pytest.mark.parametrize("keep", [1, 2])
def test_the_whole_is_shown_again_and_what_is_kept_is_the_same_array(
    dataset: FolderDataset, keep: int
) -> None:
    rgb = [Modality.RGB]
    slides = Slides(dataset, [2, 0], hold_s=0.1, repeat=2, modalities=rgb, keep=keep)
    frames = [arrival.frame for arrival in slides.arrivals(FaultScript())]
    shown = [frame.data for frame in frames if isinstance(frame, SensorFrame)]
    assert slides.seconds == pytest.approx(0.3)
    assert len(shown) == len(list(slides.truths())) == 4
    for data, index in zip(shown, [2, 0, 2, 0], strict=True):
        np.testing.assert_array_equal(data, dataset[index].frames[Modality.RGB].data)
    assert [shown[0] is shown[2], shown[1] is shown[3]] == [keep == 2] * 2


def test_a_sample_that_lacks_a_sensor_shows_the_others(tmp_path: Path) -> None:
    root = small_folder.write(tmp_path / "data", 2)
    (root / "test" / "depth" / "01.png").unlink()
    slides = Slides(FolderDataset(root, "test"), range(2), hold_s=0.1)
    frames = [arrival.frame for arrival in slides.arrivals(FaultScript())]
    shown = [frame.modality for frame in frames if isinstance(frame, SensorFrame)]
    assert shown == [*MODALITIES, *(m for m in MODALITIES if m is not Modality.DEPTH)]


def test_arrivals_are_in_order_also_when_some_are_late(dataset: FolderDataset) -> None:
    late = Fault(0.0, 9.0, Modality.DEPTH, "jitter", {"seconds": 0.35})
    arrivals = list(Slides(dataset, range(4)).arrivals(FaultScript([late])))
    times = [arrival.time_ns for arrival in arrivals]
    assert len(times) == 4 * 10 * len(MODALITIES)
    assert times == sorted(times)


def test_the_script_is_as_old_as_it_is_said_to_be(dataset: FolderDataset) -> None:
    loss = FaultScript([Fault(8.0, 8.2, Modality.RGB, "loss")])
    slides = Slides(dataset, [0], hold_s=0.5, modalities=[Modality.RGB])
    assert len(list(slides.arrivals(loss))) == 5
    assert len(list(slides.arrivals(loss, lead_s=8.0))) == 3


def test_the_truth_of_a_moment_is_the_newest_that_is_not_after_it() -> None:
    now = TruthNow(iter([Truth(100), Truth(200), Truth(250)]), oldest_s=100e-9)
    found = [now.at(t) for t in (99, 100, 199, 200, 249, 260, 350, 351)]
    assert [None if t is None else t.stamp_ns for t in found] == [None, 100, 100, 200, 200, 250, 250, None]
