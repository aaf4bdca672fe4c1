from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
import torch
from measurements import SIZE, raw_inputs
from torch import Tensor
from variants import build

from robust_perception.model.network import Network
from robust_perception.vocabulary import Modality


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors gain nothing from threads, and threads that wait for a busy core cost minutes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session", params=["plain", "joint"])
def network(request: pytest.FixtureRequest) -> Network:
    """A network without and one with everything that the papers add."""
    return build(request.param)


@pytest.fixture(scope="session")
def plain() -> Network:
    """The network without anything that the papers add."""
    return build("plain")


@pytest.fixture(scope="session")
def joint() -> Network:
    """The network with everything."""
    return build("joint")


@pytest.fixture(scope="session", params=["plain", "sum", "cyin", "poe"])
def variant(request: pytest.FixtureRequest) -> Network:
    """The ways to put a network together, but for the joint one."""
    return build(request.param)


@pytest.fixture(scope="session")
def latents(network: Network) -> Mapping[Modality, tuple[Tensor, ...]]:
    """Latents of one frame of all four sensors."""
    with torch.no_grad():
        return network.encode(raw_inputs(SIZE))
