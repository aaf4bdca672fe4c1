"""Gradients of the methods' losses against finite differences in float64, with respect to every weight.

What is not here is beside its loss: KL and samples (test_embedding), the token level's distributions
(test_bottleneck), reconstruction (test_alignment), relations (test_relation), the heads' losses and
distillation (../training/test_losses). What training puts together: ../training/test_objective_gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robust_perception.model.adapter_bank import AdapterConfig, FrozenBatchNorm2d, attach
from robust_perception.model.adapters import KINDS
from robust_perception.model.alignment import (
    Regions,
    contrast,
    labelled_contrast,
    soft_positives,
    unlabelled_contrast,
)
from robust_perception.model.bottleneck import (
    BottleneckEncoder,
    TokenDecoder,
    divergence,
    token_bottleneck_loss,
    token_target,
)
from robust_perception.model.efficientnet import SameConv2d
from robust_perception.model.embedding import ProbabilisticEmbedding, embedding_kl
from robust_perception.model.encoders import ChannelNorm
from robust_perception.model.translation import RULES, Translators
from robust_perception.vocabulary import MODALITIES, Pattern

RGB, DEPTH, THERMAL, AUDIO = MODALITIES


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def redraw(module: nn.Module, seed: int = 2) -> list[nn.Parameter]:
    """Weights of no special values, in float64: a fresh layer's zeros would hide what they multiply."""
    module.double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0.0, 0.5, generator=generator)
    return list(module.parameters())


def is_right(loss: Callable[[], Tensor | tuple[Tensor, ...]], leaves: Iterable[Tensor]) -> bool:
    """Gradients of a loss that looks at these leaves itself; gradcheck moves them in place."""
    leaves = tuple(leaves)
    for leaf, gradient in zip(leaves, torch.autograd.grad(total(loss()), leaves), strict=True):
        assert bool((gradient != 0).any()), f"a leaf of shape {tuple(leaf.shape)} has no part in the loss"
    return torch.autograd.gradcheck(lambda *_: loss(), leaves)


def total(values: Tensor | tuple[Tensor, ...]) -> Tensor:
    return values if isinstance(values, Tensor) else torch.stack(values).sum()


def test_token_level_through_its_samples_and_all_its_layers() -> None:
    images = (RGB, DEPTH)
    encoders = {m: BottleneckEncoder(3, 2, 3) for m in images}
    decoders = {m.value: TokenDecoder(3, 2, 3) for m in images}
    leaves = [p for module in (*encoders.values(), *decoders.values()) for p in redraw(module)]
    features = {m: normal(2, 3, 1, 2, seed=m.position) for m in images}
    there = {RGB: torch.tensor([True, True]), DEPTH: torch.tensor([True, False])}

    def loss() -> Tensor:
        gaussians = {m: encoders[m](x) for m, x in features.items()}
        generator = torch.Generator().manual_seed(1)
        samples = {m: g.sample(generator) for m, g in gaussians.items()}
        targets = {m: token_target(x) for m, x in features.items()}
        divergences = {m: divergence(g) for m, g in gaussians.items()}
        return token_bottleneck_loss(samples, divergences, targets, decoders, there, 4.0)

    assert is_right(loss, leaves)


@pytest.mark.parametrize("rule", RULES)
def test_translation_forward_and_reverse(rule: str) -> None:
    members = (RGB, THERMAL, AUDIO)
    translators = Translators(members, 4, rule, blocks=1, kernel=1)
    leaves = redraw(translators)
    latents = {m: normal(2, 4, *((1, 2) if m.is_image else (1, 1)), seed=m.position) for m in members}
    there = {RGB: torch.tensor([True, True]), THERMAL: torch.tensor([True, True])}
    there[AUDIO] = torch.tensor([False, True])
    precision = {m: normal(2, 1, *x.shape[2:], seed=9).exp() for m, x in latents.items()}
    assert is_right(lambda: translators.loss(latents, there, precision), leaves)


def regions(labels: list[int], classes: int = 3) -> Regions:
    label = torch.tensor(labels)
    opinion = torch.softmax(2.0 * normal(len(labels), classes, seed=7), dim=1)
    known = F.one_hot(label.clamp(min=0), classes).double()
    return Regions(label, torch.where((label >= 0)[:, None], known, opinion))


HALF_LABELLED = [0, 1, 1, -1, -1, -1]


@pytest.mark.parametrize("loss", [labelled_contrast, unlabelled_contrast])
def test_each_half_of_the_contrast_with_soft_positives(
    loss: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> None:
    found = regions(HALF_LABELLED)
    weights = soft_positives(normal(6, 4, seed=2), found)
    assert bool(((weights > 0.01) & (weights < 0.99)).any()), "some pairs are positive by half"
    similarity = normal(6, 6, seed=3).requires_grad_()
    assert is_right(lambda: loss(similarity, weights, found.labelled), [similarity])


def test_the_whole_contrast_with_respect_to_the_fused_latent() -> None:
    """Keys carry the weights' stopped gradient where a region has no label."""
    query = normal(6, 4, seed=4).requires_grad_()
    keys = {m: F.normalize(normal(6, 4, seed=m.position), dim=1) for m in (RGB, DEPTH)}
    found = regions(HALF_LABELLED)
    assert is_right(lambda: contrast(F.normalize(query, dim=1), keys, found, 0.3), [query])


def test_the_whole_contrast_with_respect_to_everything_where_all_is_labelled() -> None:
    query = normal(4, 3, seed=4).requires_grad_()
    keys = {m: normal(4, 3, seed=m.position).requires_grad_() for m in (RGB, DEPTH)}
    found = regions([0, 1, 1, 2])

    def loss() -> Tensor:
        unit = {m: F.normalize(key, dim=1) for m, key in keys.items()}
        return contrast(F.normalize(query, dim=1), unit, found, 0.3)

    assert is_right(loss, [query, *keys.values()])


@pytest.mark.parametrize("norm", ["channel", "batch"])
def test_kl_of_the_embedding_and_its_sample_through_the_head(norm: str) -> None:
    head = ProbabilisticEmbedding(3, norm, combinations=3)
    leaves = redraw(head)
    h, pattern, weight = normal(3, 3, 1, 2), torch.tensor([0, 2, 1]), normal(3, 3, 1, 2, seed=5)

    def loss() -> tuple[Tensor, Tensor]:
        gaussian = head(h, pattern)
        return embedding_kl(gaussian), (weight * gaussian.sample(torch.Generator().manual_seed(2))).sum()

    assert torch.autograd.gradcheck(lambda *_: loss(), leaves)


class Layers(nn.Module):
    """A smooth network of every layer that takes an adapter: (B, 2, 3, 3) -> (B, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1), nn.Tanh(), FrozenBatchNorm2d(4), SameConv2d(4, 4, 3, groups=4),
            nn.GroupNorm(2, 4), nn.Tanh(), nn.Conv2d(4, 4, 1), ChannelNorm(4), nn.Flatten(2),
            nn.Linear(9, 2), nn.Flatten(1), nn.LayerNorm(8), nn.Linear(8, 3),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return out


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_rows_of_adapters_and_the_input_of_adapted_layers(kind: str) -> None:
    network = Layers().eval()
    redraw(network)
    trained = (Pattern.parse("rgb"), Pattern.parse("rgb+depth"))
    bank = attach(network, AdapterConfig(kind, budget=1.0, rank=2, places=("body",)), trained, MODALITIES)
    rows = [row for pattern in trained for row in bank.parameters_of(pattern)]
    assert len(bank.adapters) == (4 if kind == "lora" else 9)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for row in rows:
            row.normal_(0.5, 0.5, generator=generator)
    x, weight = normal(4, 2, 3, 3).requires_grad_(), normal(4, 3, seed=1)
    shown = torch.tensor([*(pattern.bits for pattern in (*trained, trained[0])), Pattern.parse("audio").bits])

    def loss() -> Tensor:
        with bank.selection.of(shown):
            return (weight * network(x).tanh()).sum()

    assert is_right(loss, [*rows, x])
