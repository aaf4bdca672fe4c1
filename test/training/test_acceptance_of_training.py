"""The acceptance statements about training, 5, 9 and 10 of the list in ../model/test_acceptance."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import small_data
import torch
from scipy.stats import spearmanr
from torch import Tensor

from robust_perception.datasets import FolderDataset
from robust_perception.model.embedding import HardCombinations
from robust_perception.model.network import Network
from robust_perception.training.batch import Batch
from robust_perception.training.building import build_network
from robust_perception.training.config import LossConfig
from robust_perception.training.loader import Loader
from robust_perception.training.method_config import MethodConfig, PatternConfig
from robust_perception.training.objective import Helpers, objective, pattern_tensor, task_losses
from robust_perception.training.stages import Moment
from robust_perception.training.targets import assign
from robust_perception.vocabulary import ALL_PATTERNS, MODALITIES, Pattern


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> FolderDataset:
    return FolderDataset(small_data.write(tmp_path_factory.mktemp("acceptance") / "data"), "train")


ALL_PARTS = {"translation": "mean", "shared": True, "probabilistic": True, "auxiliary": True}


def fresh(data: FolderDataset, **parts: object) -> Network:
    torch.manual_seed(0)
    return build_network(small_data.config(network=parts), data).train()


def batches(data: FolderDataset) -> list[tuple[Batch, tuple[Pattern, ...]]]:
    loader = Loader(data, MODALITIES, small_data.config(), 0)
    draws = [loader.draw(epoch, [0, 1, 2, 3]) for epoch in range(4)]
    return [(draw.batch, draw.patterns) for draw in draws]


def test_5_the_kl_teaches_the_head_through_the_whole_objective(data: FolderDataset) -> None:
    network = fresh(data, **ALL_PARTS, bottleneck=16)
    with torch.no_grad():
        for parameter in network.fusion.embedding.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    batch, drawn = batches(data)[0]
    nothing = LossConfig(**dict.fromkeys((f.name for f in dataclasses.fields(LossConfig)), 0.0))
    head = dict(network.fusion.embedding.named_parameters())
    for alpha, passes in (
        (1e-3, PatternConfig(1.0, 0.0)),
        (1e-3, PatternConfig(0.0, 1.0)),
        (0.0, PatternConfig()),
    ):
        network.zero_grad(set_to_none=True)
        now = Moment(0, MethodConfig(alpha=alpha), passes, 1.0)
        loss, parts = objective(network, batch, drawn, nothing, now, Helpers())
        loss.backward()
        assert bool(alpha) is any(name.endswith("/kl") and value > 0 for name, value in parts.items())
        for name, parameter in head.items():
            assert parameter.grad is not None
            assert bool((parameter.grad != 0).any()) is bool(alpha), name


def curve(
    network: Network,
    data: FolderDataset,
    loss_of: Callable[[Network, Batch, tuple[Pattern, ...]], Tensor],
    trained: frozenset[str] | None = None,
) -> list[float]:
    """Losses of a short training; `trained` = names of what learns, None = everything."""
    parameters = [p for n, p in network.named_parameters() if trained is None or n in trained]
    adam = torch.optim.AdamW(parameters, 1e-3)
    values = []
    for batch, drawn in batches(data):
        loss = loss_of(network, batch, drawn)
        adam.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()
        values.append(float(loss.detach()))
    return values


OFF = MethodConfig(gamma=0.0, swap=0.0, alpha=0.0, hard=0.0)


def everything_off(
    network: Network, batch: Batch, drawn: tuple[Pattern, ...], passes: PatternConfig
) -> Tensor:
    """The objective with every method off; hard combinations are known and must not be used."""
    hard = HardCombinations(tuple(p.bits for p in ALL_PATTERNS), 14)
    for _ in range(2):
        hard.observe(torch.arange(1.0, 16.0), torch.arange(1, 16))
        hard.close_window()
    value, _ = objective(network, batch, drawn, LossConfig(), Moment(0, OFF, passes, 0.0), Helpers(hard=hard))
    return value


def task_alone(network: Network, batch: Batch, drawn: tuple[Pattern, ...], passes: PatternConfig) -> Tensor:
    """The base's training, written out: encode, fuse, decode, the heads' losses."""
    size = (batch.label.shape[1], batch.label.shape[2])
    targets = assign(batch.boxes, batch.class_ids, size)
    latents = network.encode(batch.inputs)
    total = torch.zeros(())
    for shown, weight in ((batch.available, passes.full_weight), (drawn, passes.dropout_weight)):
        if weight:
            outputs = network.fusion(latents, pattern_tensor(shown, batch.label.device), size)
            for value in task_losses(outputs, batch, targets, LossConfig()).values():
                total = total + weight * value
    return total


@pytest.mark.parametrize("passes", [PatternConfig(0.0, 1.0), PatternConfig(1.0, 1.0)], ids=["full", "both"])
def test_9_with_the_methods_off_the_objective_is_the_task(passes: PatternConfig, data: FolderDataset) -> None:
    ends, curves = [], []
    for loss_of in (everything_off, task_alone):
        network = fresh(data, **ALL_PARTS)
        curves.append(curve(network, data, lambda *arguments, of=loss_of: of(*arguments, passes)))
        ends.append(network.state_dict())
    assert curves[0] == curves[1]
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


def test_9_what_is_idle_leaves_the_curve_of_the_plain_network(data: FolderDataset) -> None:
    """Translators, halves and the second decoder, attached but idle, train as if they were not there.

    The probabilistic head is left out: its norm is part of the network even where nothing is sampled.
    """
    passes = PatternConfig(0.0, 1.0)
    plain = fresh(data)
    own = frozenset(name for name, _ in plain.named_parameters())
    composed = fresh(data, **{**ALL_PARTS, "probabilistic": False})
    missing, unknown = composed.load_state_dict(plain.state_dict(), strict=False)
    assert missing and not unknown
    expected = curve(plain, data, lambda *arguments: task_alone(*arguments, passes))
    found = curve(composed, data, lambda *arguments: everything_off(*arguments, passes), own)
    assert found == pytest.approx(expected, rel=1e-4)
    assert expected[-1] != pytest.approx(expected[0], rel=1e-2), "it learns"


@pytest.mark.parametrize("turned", [False, True])
def test_10_hard_combinations_wait_for_an_order_that_stays(turned: bool, data: FolderDataset) -> None:
    network = fresh(data, **ALL_PARTS)
    prior = network.fusion.embedding.logvar_prior.weight
    batch, _ = batches(data)[0]
    hard = HardCombinations(tuple(p.bits for p in ALL_PATTERNS), 4)
    now = Moment(0, MethodConfig(hard=0.5, alpha=1e-3), PatternConfig(1.0, 0.0), 1.0)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))

    @torch.no_grad()
    def window() -> tuple[list[float], set[str]]:
        """Every pattern once; mean variances and the names of the losses that counted."""
        names: set[str] = set()
        for first in range(0, 15, 4):
            drawn = tuple(ALL_PATTERNS[(first + i) % 15] for i in range(4))
            _, parts = objective(network, batch, drawn, LossConfig(), now, Helpers(hard=hard))
            names |= parts.keys()
        means = hard.total[1:] / hard.seen[1:]
        hard.close_window()
        return means.tolist(), names

    with torch.no_grad():
        prior.copy_((order / 4.0 - 3.0)[:, None].expand_as(prior))
    before, names = window()
    assert "hard" not in names and not hard.settled
    assert set(hard.hard) == set(torch.argsort(order[1:], descending=True)[:4].add(1).tolist())
    if turned:
        with torch.no_grad():
            prior.copy_(-3.0 - prior)
    after, names = window()
    assert "hard" not in names, "one window has nothing to agree with"
    agreement = spearmanr(before, after).statistic
    assert float(hard.agreement) == pytest.approx(agreement, abs=1e-5)
    assert (agreement > 0.7) is not turned
    _, names = window()
    assert ("hard" in names) is not turned
