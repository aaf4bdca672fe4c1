"""The smallest model that has everything, made once for every file of tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_model import make_model

from robust_perception.engine.manifest import Manifest


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its folder."""
    return make_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def manifest(folder: Path) -> Manifest:
    """What it says of itself."""
    return Manifest.load(folder)
