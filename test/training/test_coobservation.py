"""Pairs of sensors that no sample has together are known as such."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import small_data

from robust_perception.training.coobservation import observed_pairs, observed_together
from robust_perception.training.mixture import MixedDataset
from robust_perception.vocabulary import Modality

RGB, DEPTH, THERMAL, AUDIO = Modality


@pytest.fixture
def mixed(tmp_path: Path) -> MixedDataset:
    """One folder with colour, thermal and sound, one with colour and depth."""
    first = small_data.write(tmp_path / "first", train=3)
    for path in (first / "train" / "depth").iterdir():
        path.unlink()
    return MixedDataset.open((first, small_data.write_other(tmp_path / "second")), "train")


def test_what_two_folders_have_together(mixed: MixedDataset) -> None:
    expected = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 1, 1], [1, 0, 1, 1]], bool)
    np.testing.assert_array_equal(observed_together(mixed), expected)
    pairs = observed_pairs(mixed)
    assert pairs == {frozenset(p) for p in ((RGB, DEPTH), (RGB, THERMAL), (RGB, AUDIO), (THERMAL, AUDIO))}
    assert observed_pairs(mixed, (RGB, DEPTH, AUDIO)) == {frozenset((RGB, DEPTH)), frozenset((RGB, AUDIO))}


def test_single_samples_decide(mixed: MixedDataset) -> None:
    folder = mixed.parts[0].folder
    for name in ("000", "002"):
        (folder / "audio" / f"{name}.wav").unlink()
    (folder / "thermal" / "001.png").unlink()
    again = MixedDataset.open([part.root for part in mixed.parts], "train")
    assert frozenset((THERMAL, AUDIO)) not in observed_pairs(again), "each is there, never both"
    assert observed_together(again).diagonal().all()


def test_no_file_is_opened(mixed: MixedDataset) -> None:
    before = observed_pairs(mixed)
    for part in mixed.parts:
        for path in part.folder.glob("*/*"):
            path.write_bytes(b"")
    assert observed_pairs(MixedDataset.open([part.root for part in mixed.parts], "train")) == before
