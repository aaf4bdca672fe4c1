from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
from measurements import SIZE, raw_inputs, shake
from torch import Tensor

from robust_perception.model.network import Network
from robust_perception.model.network_config import NetworkConfig
from robust_perception.vocabulary import MODALITIES, Modality


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors gain nothing from threads, and threads that wait for a busy core cost minutes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "sum": {"fusion": "sum"},
    "cyin": {"fusion": "sum", "bottleneck": 16, "translation": "sum"},
    "joint": {
        "width": 32, "bottleneck": 16, "translation": "mean", "shared": True, "probabilistic": True,
        "auxiliary": True,
    },
    "poe": {"bottleneck": 16, "translation": "poe", "shared": True},
}  # fmt: skip
"""What of the papers a network has; the halves of the joint one are wide enough for translators to learn."""


def build(variant: str) -> Network:
    """A narrow network of all four sensors with random weights, in evaluation mode."""
    torch.manual_seed(0)
    names = {"class_names": ("background", "cup", "crate"), "scene_names": ("quiet", "loud")}
    widths = {"width": 16, "audio_width": 16}
    built = Network(NetworkConfig(MODALITIES, **{**names, **widths, **VARIANTS[variant]}))
    shake(built.fusion)
    shake(built.representers)
    return built.eval()


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
