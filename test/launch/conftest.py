from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from robust_perception.environment import PROFILE_VARIABLES


@pytest.fixture
def launch_file(repository: Path) -> Path:
    """The launch file as shipped."""
    return repository / "launch" / "fusion.launch.py"


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A launch file sets environment variables; put them back."""
    before = dict(os.environ)
    for variable in PROFILE_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    yield
    os.environ.clear()
    os.environ.update(before)
