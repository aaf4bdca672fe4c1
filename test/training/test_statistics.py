"""What the encoders are normalised with is what they get."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import small_data

from robust_perception.datasets import FolderDataset
from robust_perception.training.statistics import measure
from robust_perception.vocabulary import Modality


def test_mean_and_spread_of_valid_pixels(tmp_path: Path) -> None:
    data = small_data.write(tmp_path)
    counts = np.zeros(small_data.SIZE, np.uint16)
    counts[:, :10], counts[:, 10:20] = 1000, 3000
    for path in (data / "train" / "depth").iterdir():
        cv2.imwrite(str(path), counts)
    assert measure(FolderDataset(data, "train"), Modality.DEPTH) == pytest.approx((2.0, 1.0), abs=1e-6)


def test_a_picture_that_is_not_radiometric_counts_with_its_nominal_temperatures(tmp_path: Path) -> None:
    data = small_data.write(tmp_path)
    grey = np.zeros(small_data.SIZE, np.uint8)
    grey[:, : small_data.SIZE[1] // 2] = 255
    for path in (data / "train" / "thermal").iterdir():
        cv2.imwrite(str(path), grey)
    assert measure(FolderDataset(data, "train"), Modality.THERMAL) == pytest.approx((298.15, 15.0), abs=1e-3)


def test_nothing_to_measure(tmp_path: Path) -> None:
    data = small_data.write(tmp_path)
    for path in (data / "train" / "depth").iterdir():
        path.unlink()
    assert measure(FolderDataset(data, "train"), Modality.DEPTH) is None
