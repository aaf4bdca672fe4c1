"""Which frames an export looks at, where few have a sensor and few show an object."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import small_data

from robust_perception.engine.manifest import Manifest
from robust_perception.exporting import references
from robust_perception.exporting.frames import calibration_frames, threshold_frames
from robust_perception.training.errors import ExportError
from robust_perception.training.mixture import MixedDataset
from robust_perception.training.validation import spread
from robust_perception.vocabulary import ALL_PATTERNS, MODALITIES, UNLABELLED, Modality, Pattern

COUNT = 12


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return small_data.write(tmp_path / "data", train=1, val=COUNT)


def keep(data: Path, kind: str, *names: str) -> None:
    """Remove all other validation files of a kind."""
    for path in (data / "val" / kind).iterdir():
        if path.stem not in names:
            path.unlink()


def relabel(data: Path, value: int, *names: str) -> None:
    for name in names:
        cv2.imwrite(str(data / "val" / "label" / f"{name}.png"), np.full(small_data.SIZE, value, np.uint8))


def val(data: Path) -> MixedDataset:
    return MixedDataset.open((data,), "val")


def test_where_all_frames_have_everything_they_are_evenly_spread(data: Path) -> None:
    dataset = val(data)
    for limit in (4, 5, COUNT, 0):
        assert calibration_frames(dataset, MODALITIES, limit) == spread(COUNT, limit)
        assert threshold_frames(dataset, ALL_PATTERNS, limit) == (spread(COUNT, limit), [])


def test_a_rare_sensor_is_calibrated_on_the_frames_that_have_it(data: Path) -> None:
    keep(data, "thermal", "001", "005")
    assert spread(COUNT, 8) == [0, 1, 3, 4, 6, 7, 9, 10]
    assert calibration_frames(val(data), MODALITIES, 8) == [0, 1, 3, 4, 5, 6, 7, 9, 10]
    assert calibration_frames(val(data), (Modality.THERMAL,), 8) == [1, 5]


def test_thresholds_are_chosen_on_frames_whose_boxes_are_known(data: Path) -> None:
    names = [f"{i:03}" for i in range(COUNT)]
    keep(data, "label", *names[1::2])
    relabel(data, UNLABELLED, names[3])
    (data / "val" / "boxes_coco.json").write_text(
        json.dumps({"images": [{"id": 1, "file_name": "002.png"}], "annotations": []})
    )
    chosen, unseen = threshold_frames(val(data), ALL_PATTERNS, 0)
    assert (chosen, unseen) == ([1, 2, 5, 7, 9, 11], [])


def test_the_few_frames_with_a_box_are_looked_at_under_every_pattern_they_show(data: Path) -> None:
    relabel(data, 0, *(f"{i:03}" for i in range(COUNT) if i not in (5, 7)))
    keep(data, "thermal", "000", "007")
    keep(data, "audio", "000")
    dataset = val(data)
    chosen, unseen = threshold_frames(dataset, ALL_PATTERNS, 2)
    assert set(spread(COUNT, 2)) == {0, 6}
    assert set(chosen) - {0, 6} <= {5, 7}
    assert 7 in chosen, "no other shows thermal and a box"
    assert unseen == [pattern for pattern in ALL_PATTERNS if Modality.AUDIO in pattern]
    assert threshold_frames(dataset, [Pattern.parse("rgb+thermal")], 2) == ([0, 6, 7], [])


def test_a_sensor_that_no_frame_has_is_named(data: Path, tmp_path: Path) -> None:
    keep(data, "thermal")
    manifest = Manifest.load(Path(__file__).parents[2] / "models" / "default", check_files=False)
    with pytest.raises(ExportError, match=r"all of \['rgb', .*\] as reference, got no frame with thermal"):
        references.reference_inputs(val(data), manifest)
