"""Temperatures are fitted on what a cell's logits are about, on frames that have what they need."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import small_data
import torch

from robust_perception.exporting.temperature import fit_temperatures, label_of_cells
from robust_perception.training.building import build_network
from robust_perception.training.mixture import MixedDataset
from robust_perception.vocabulary import Modality, patterns_of


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_the_label_of_a_cell_is_that_of_its_centre(factor: int) -> None:
    size, stride = (16, 24), 4 * factor
    label = np.arange(size[0] * size[1] * factor**2).reshape(size[0] * factor, -1) % 251
    expected = label[stride // 2 :: stride, stride // 2 :: stride]
    assert np.array_equal(label_of_cells(label.astype(np.uint8), size), expected)


def test_frames_that_lack_a_sensor_or_a_label_are_taken_for_what_they_have(tmp_path: Path) -> None:
    data = small_data.write(tmp_path / "data", val=4)
    config = small_data.config()
    torch.manual_seed(0)
    network = build_network(config, MixedDataset.open((data,), "train", "fine")).eval()
    patterns = patterns_of(network.config.modalities)
    (data / "val" / "audio" / "001.wav").unlink()
    for name in ("000", "002"):
        (data / "val" / "label" / f"{name}.png").unlink()
    dataset = MixedDataset.open((data,), "val", "fine")
    both = fit_temperatures(network, dataset, patterns, config.data.size, limit=2)
    assert set(both) == {pattern.bits for pattern in patterns}
    (data / "val" / "label" / "003.png").unlink()
    silent = fit_temperatures(
        network, MixedDataset.open((data,), "val", "fine"), patterns, config.data.size, limit=2
    )
    assert set(silent) == {pattern.bits for pattern in patterns if Modality.AUDIO not in pattern}
