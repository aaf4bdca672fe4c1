from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from robust_perception.simulation.compose import compose
from robust_perception.simulation.scene import Scene


@pytest.fixture(scope="session")
def rig() -> Iterator[Any]:
    """One rig for the session; tests reset it to the scene they need."""
    from robust_perception.simulation.errors import GraphicsError

    try:
        from robust_perception.simulation.rig import Rig

        made = Rig(0)
    except GraphicsError as error:
        pytest.skip(f"no off-screen EGL here: {error}")
    with made:
        yield made


@pytest.fixture(scope="session")
def find_seed() -> Callable[[Callable[[Scene], bool]], int]:
    """The first seed whose scene has a property."""

    def find(wanted: Callable[[Scene], bool]) -> int:
        return next(seed for seed in range(2000) if wanted(compose(seed)))

    return find
