from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

from live_graph import Graph, own_domain
from tiny_model import make_model


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder whose graphs run in a millisecond."""
    return make_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def domain() -> Iterator[int]:
    """A domain of its own, for what starts a graph by itself."""
    with own_domain() as number:
        yield number


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Graph]:
    """A domain of its own; whatever was started in it ends with the test."""
    with Graph(tmp_path) as graph:
        yield graph
