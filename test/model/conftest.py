from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
import torch
from measurements import SIZE, raw_inputs, shake
from torch import Tensor

from robust_perception.model.network import Network, NetworkConfig
from robust_perception.vocabulary import MODALITIES, Modality


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors gain nothing from threads, and threads that wait for a busy core cost minutes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def network() -> Network:
    """A narrow network of all four sensors with random weights, in evaluation mode."""
    torch.manual_seed(0)
    built = Network(NetworkConfig(MODALITIES, ("background", "cup", "crate"), ("quiet", "loud"), 16, 16))
    shake(built.fusion)
    return built.eval()


@pytest.fixture(scope="session")
def latents(network: Network) -> Mapping[Modality, tuple[Tensor, ...]]:
    """Latents of one frame of all four sensors."""
    with torch.no_grad():
        return network.encode(raw_inputs(SIZE))
