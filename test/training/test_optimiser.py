"""Learning rate, groups and running average."""

from __future__ import annotations

import pytest
import torch

from robust_perception.model.network import Network
from robust_perception.model.network_config import NetworkConfig
from robust_perception.training.config import OptimiserConfig
from robust_perception.training.optimiser import WeightAverage, build, rate
from robust_perception.vocabulary import Modality


@pytest.fixture(scope="module")
def network() -> Network:
    return Network(NetworkConfig((Modality.RGB, Modality.DEPTH), ("background", "thing"), width=16))


def test_the_rate_rises_and_falls() -> None:
    config = OptimiserConfig(learning_rate=1.0, warmup=0.1)
    rates = [rate(k, 100, config) for k in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates.index(max(rates)) in (9, 10)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 1e-3


def test_every_parameter_is_in_one_group_with_its_factor(network: Network) -> None:
    config = OptimiserConfig(backbone_scale=0.25, weight_decay=0.1)
    groups = build(network, config).param_groups
    found = {id(p): group for group in groups for p in group["params"]}
    assert len(found) == sum(len(g["params"]) for g in groups) == len(list(network.parameters()))
    for name, parameter in network.named_parameters():
        group = found[id(parameter)]
        assert group["scale"] == (0.25 if ".backbone." in name else 1.0), name
        plain = parameter.ndim == 1 or "prior" in name
        assert group["weight_decay"] == (0.0 if plain else 0.1), name


def test_the_average_follows_and_settles(network: Network) -> None:
    average = WeightAverage(network, 0.9)
    with torch.no_grad():
        before = network.fusion.segmentation.classify.bias.clone()
        network.fusion.segmentation.classify.bias += 1.0
    average.update(network, 10_000)
    moved = average.network.fusion.segmentation.classify.bias - before
    assert torch.allclose(moved, torch.full_like(moved, 0.1))
    for step in range(200):
        average.update(network, 10_000 + step)
    assert torch.allclose(average.network.fusion.segmentation.classify.bias, before + 1.0, atol=1e-4)


def test_decay_zero_is_the_newest_weights(network: Network) -> None:
    average = WeightAverage(network, 0.0)
    with torch.no_grad():
        network.fusion.segmentation.classify.bias += 1.0
    average.update(network, 0)
    assert torch.equal(
        average.network.fusion.segmentation.classify.bias, network.fusion.segmentation.classify.bias
    )
