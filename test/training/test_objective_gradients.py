"""The gradient of each part of the objective, through the network in float64, against finite differences.

Checked along random directions of those weights that reach the loss by no path on which a gradient is stopped
on purpose (targets of the token level, sources of translators, positive weights of unlabelled regions). The
divergence between the passes has its teacher in the network itself: see test_losses.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest
import small_data
import torch
from torch import Tensor, nn

from robust_perception.datasets import FolderDataset
from robust_perception.model.embedding import HardCombinations
from robust_perception.model.encoders import AudioEncoder
from robust_perception.model.network import Network
from robust_perception.training import method_losses, regions
from robust_perception.training.building import build_network
from robust_perception.training.config import TrainingConfig
from robust_perception.training.loader import Draw, Loader
from robust_perception.training.method_config import MethodConfig, PatternConfig
from robust_perception.training.objective import Helpers, objective
from robust_perception.training.stages import Moment
from robust_perception.vocabulary import MODALITIES

NOTHING = dict.fromkeys(
    ("cross_entropy", "dice", "detection_class", "detection_box", "detection_centre", "scene"), 0.0
)
NETWORK = {
    "width": 16, "audio_width": 16, "bottleneck": 16, "translation": "mean", "shared": True,
    "probabilistic": True, "auxiliary": True,
}  # fmt: skip
STEP = 1e-6


def in_double(network: Network) -> Network:
    """The network in float64; raw inputs stay what they are."""
    network.double()

    def widen(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(x.double() for x in inputs)

    for encoder in network.encoders.values():
        (encoder if isinstance(encoder, AudioEncoder) else encoder.backbone).register_forward_pre_hook(widen)
    return network


@pytest.fixture(scope="module", autouse=True)
def wide_areas() -> Iterator[None]:
    """Regions' areas in float64 too."""
    with pytest.MonkeyPatch.context() as patch:
        areas = regions.class_areas
        for module in (regions, method_losses):
            patch.setattr(module, "class_areas", lambda *arguments: areas(*arguments).double())
        yield


def config(**losses: float) -> TrainingConfig:
    return small_data.config(network=NETWORK, losses=NOTHING | losses)


def shaken(dataset: FolderDataset, seed: int) -> Network:
    """Weights of no special values."""
    torch.manual_seed(seed)
    network = in_double(build_network(config(), dataset)).train()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if not name.startswith("encoders"):
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return network


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> FolderDataset:
    return FolderDataset(small_data.write(tmp_path_factory.mktemp("gradients") / "data"), "train")


@pytest.fixture(scope="module")
def network(dataset: FolderDataset) -> Network:
    return shaken(dataset, 0)


@pytest.fixture(scope="module")
def teacher(dataset: FolderDataset) -> Network:
    return shaken(dataset, 1).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def draw(dataset: FolderDataset, network: Network) -> Draw:
    drawn = Loader(dataset, network.config.modalities, config(), 0).draw(0, [0, 1, 2, 3])
    # Entropies of float64 logits are rounded to the type of what is wanted.
    return dataclasses.replace(
        drawn, batch=dataclasses.replace(drawn.batch, scene=drawn.batch.scene.double())
    )


def everything_is_hard(draw: Draw) -> HardCombinations:
    bits = sorted({pattern.bits for pattern in draw.patterns})
    hard = HardCombinations(tuple(bits), len(bits))
    for _ in range(2):
        hard.observe(torch.tensor(bits).float(), torch.tensor(bits))
        hard.close_window()
    assert hard.settled
    return hard


BOTH, RANDOM, FULL = PatternConfig(1.0, 1.0), PatternConfig(1.0, 0.0), PatternConfig(0.0, 1.0)
SPLITS = tuple(f"representers.{modality.value}.splits" for modality in MODALITIES)
CASES: dict[str, tuple[dict[str, float], dict[str, float], PatternConfig, tuple[str, ...]]] = {
    "cross_entropy": ({"cross_entropy": 1.0}, {}, FULL, ("fusion", "representers")),
    "detection_box": ({"detection_box": 1.0}, {}, RANDOM, ("fusion", "representers")),
    "scene": ({"scene": 1.0}, {}, RANDOM, ("fusion", "representers")),
    "swap": ({"cross_entropy": 1.0, "dice": 1.0}, {"swap": 0.7}, RANDOM, ("fusion", "representers")),
    "token_bottleneck": ({}, {"beta": 2.0}, FULL, ("representers", "auxiliary.token_decoders")),
    "unimodal": ({}, {"unimodal": 1.0}, FULL, ("representers", "auxiliary.unimodal")),
    "translation": ({}, {"gamma": 1.0}, FULL, ("fusion.completions",)),
    "contrast": ({}, {"contrast": 1.0}, FULL, ("fusion", "representers", "auxiliary.projections")),
    "reconstruction": ({}, {"reconstruction": 1.0}, FULL, ("auxiliary.rebuilders", *SPLITS)),
    "kl": ({}, {"alpha": 1.0}, BOTH, ("fusion", "representers")),
    "hard": ({}, {"hard": 1.0}, RANDOM, ("fusion", "representers", "auxiliary.decoder")),
    "relation": ({}, {"relation": 1.0}, RANDOM, ("fusion", "representers")),
}
"""By what is checked: weights of the task's losses and of the methods, passes, and weights of the network."""


@pytest.mark.parametrize("name", CASES)
def test_along_random_directions(name: str, network: Network, teacher: Network, draw: Draw) -> None:
    task, methods, passes, prefixes = CASES[name]
    now = Moment(0, MethodConfig(**methods), passes, 0.7)  # type: ignore[arg-type]
    weights = config(**task).losses
    hard = everything_is_hard(draw)
    parameters = [p for n, p in network.named_parameters() if n.startswith(prefixes)]
    parts: dict[str, float] = {}

    def loss() -> Tensor:
        helpers = Helpers(torch.Generator().manual_seed(4), hard if methods.get("hard") else None, teacher)
        value, found = objective(network, draw.batch, draw.patterns, weights, now, helpers)
        parts.update(found)
        return value

    def moved(direction: list[Tensor], by: float) -> None:
        for parameter, along in zip(parameters, direction, strict=True):
            parameter.add_(along, alpha=by)

    gradients = torch.autograd.grad(loss(), parameters, allow_unused=True)
    assert any(part.rpartition("/")[2] == name for part in parts) or name == "swap"
    for seed in range(2):
        generator = torch.Generator().manual_seed(seed)
        direction = [
            torch.randn(p.shape, generator=generator, dtype=p.dtype) / len(parameters) ** 0.5
            for p in parameters
        ]
        pairs = zip(gradients, direction, strict=True)
        expected = sum(float((g * along).sum()) for g, along in pairs if g is not None)
        with torch.no_grad():
            moved(direction, STEP)
            above = float(loss())
            moved(direction, -2 * STEP)
            below = float(loss())
            moved(direction, STEP)
        assert abs(expected) > 1e-4
        assert (above - below) / (2 * STEP) == pytest.approx(expected, rel=1e-5)
