"""A data folder, bags of it, and a tiny model that perceives them."""

from __future__ import annotations

from pathlib import Path

import pytest
import small_folder
from small_folder import FRAMES, RATE
from tiny_model import make_model

from robust_perception.bags import types
from robust_perception.bags.dataset import image, write_dataset
from robust_perception.bags.writer import BagWriter
from robust_perception.datasets import FIRST_STAMP_NS, FolderDataset


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_folder.write(tmp_path_factory.mktemp("folder") / "data", FRAMES)


@pytest.fixture(scope="module")
def bag(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bags") / "bag"
    write_dataset(FolderDataset(data, "test"), path, rate=RATE, labels=True)
    return path


@pytest.fixture(scope="module")
def long_bag(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds of changing frames, without labels."""
    path = tmp_path_factory.mktemp("bags") / "long"
    dataset = FolderDataset(data, "test")
    with BagWriter(path) as writer:
        for i in range(40):
            stamp = FIRST_STAMP_NS + i * 100_000_000
            sample = dataset[i % FRAMES].frames
            for m in list(sample)[:2]:
                values = sample[m].data
                encoding = "rgb8" if values.ndim == 3 else "32FC1"
                writer.write(f"/{m}/image", types.IMAGE, image(values, encoding, stamp, "c"), stamp)
    return path
