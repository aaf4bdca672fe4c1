"""The tiny model and the small folder of other rooms' tests, and bags made of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import small_folder
from tiny_model import make_model

from robust_perception.bags.dataset import write_dataset
from robust_perception.datasets import FolderDataset

FRAMES = 6


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def bags(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three bags of 2, 4 and 6 frames, the second without truth, and a damaged one."""
    root = tmp_path_factory.mktemp("fleet")
    data = FolderDataset(small_folder.write(root / "data", FRAMES), "test")
    folder = root / "bags"
    for name, limit in (("a", 2), ("b", 4), ("sub/c", 6)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_dataset(data, folder / name, rate=10.0, limit=limit, labels=name != "b")
    (folder / "broken").mkdir()
    (folder / "broken" / "metadata.yaml").write_text("nonsense: [")
    return folder
