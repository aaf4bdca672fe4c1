"""The network of the bench of vectors, and what it is trained by.

    x_v -> standardised -> linear, ReLU, linear -> F_v (B, C, 1, 1) -> [bottleneck] -> [shared, unique]
        -> [completion] -> mean over what is there -> linear -> [probabilistic embedding] -> ReLU, linear

A view is a vector, a vector is a map of one pixel: all parts in brackets are the very modules of
`robust_perception.model` that the network for robots is made of. Rows say which of them are there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robust_perception.model.alignment import (
    Projection,
    Regions,
    SharedUnique,
    contrast,
    reconstruction_loss,
)
from robust_perception.model.availability import is_present
from robust_perception.model.bottleneck import (
    BottleneckEncoder,
    Gaussian,
    TokenDecoder,
    divergence,
    mean_where,
    token_bottleneck_loss,
    token_target,
)
from robust_perception.model.completion import Completion, draw_swap
from robust_perception.model.embedding import HardCombinations, ProbabilisticEmbedding, embedding_kl
from robust_perception.model.relation import relation_loss

NAMES = ("fou", "fac", "kar", "pix", "zer", "mor")
CLASSES, WIDTH = 10, 64
PATTERNS = tuple(range(1, 1 << len(NAMES)))
RELATION = 4.0
"""Weight of the distillation of relations that MMANet is published with."""


@dataclass(frozen=True)
class View:
    """Stands for a sensor, with what the modules ask of one."""

    value: str
    position: int
    is_image: bool = True


VIEWS: tuple[Any, ...] = tuple(View(name, position) for position, name in enumerate(NAMES))


@dataclass(frozen=True)
class Row:
    """What is added to modality dropout; weights as in the training's configuration."""

    dropout: bool = True
    cyin: bool = False
    dmrnet: bool = False
    robult: bool = False
    mmanet: bool = False
    full: bool = False


ROWS = {
    "base": Row(dropout=False),
    "dropout": Row(),
    "cyin": Row(cyin=True),
    "dmrnet": Row(dmrnet=True),
    "robult": Row(robult=True),
    "mmanet": Row(mmanet=True),
    "joint": Row(cyin=True, dmrnet=True, robult=True, full=True),
}


class Parts(NamedTuple):
    """What is known of every view: features, distributions, latents and tokens, (B, C, 1, 1)."""

    features: dict[Any, Tensor]
    gaussians: dict[Any, Gaussian]
    latents: dict[Any, Tensor]
    tokens: dict[Any, Tensor]


class VectorNetwork(nn.Module):
    """The network of the head of this file."""

    def __init__(self, widths: Sequence[int], row: Row) -> None:
        super().__init__()
        self.row = row
        self.encoders = nn.ModuleDict(
            {
                v.value: nn.Sequential(nn.Linear(n, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH))
                for v, n in zip(VIEWS, widths, strict=True)
            }
        )

        def each(make: Callable[[], nn.Module]) -> nn.ModuleDict:
            return nn.ModuleDict({v.value: make() for v in VIEWS})

        if row.cyin:
            self.bottlenecks = each(lambda: BottleneckEncoder(WIDTH, WIDTH, WIDTH))
            self.decoders = each(lambda: TokenDecoder(WIDTH, WIDTH, WIDTH))
            self.unimodal = each(lambda: nn.Conv2d(WIDTH, CLASSES, 1))
            self.completion = Completion(VIEWS, WIDTH, row.robult, "mean", blocks=1, kernel=1)
        if row.robult:
            self.splits = each(lambda: SharedUnique(WIDTH))
            self.rebuilders = each(lambda: TokenDecoder(WIDTH, WIDTH, WIDTH))
            self.projections = each(lambda: Projection(WIDTH // 2))
            self.query = Projection(WIDTH)
        self.mix = nn.Conv2d(WIDTH, WIDTH, 1)
        if row.dmrnet:
            self.embedding = ProbabilisticEmbedding(WIDTH, "batch", 1 + max(PATTERNS))
        self.classify = nn.Sequential(nn.ReLU(), nn.Conv2d(WIDTH, CLASSES, 1))

    def represent(self, data: dict[Any, Tensor]) -> Parts:
        """Features, latents and tokens of every view, (B, C, 1, 1), and the bottlenecks' distributions."""
        features = {v: self.encoders[v.value](x)[:, :, None, None] for v, x in data.items()}
        gaussians = {v: self.bottlenecks[v.value](x) for v, x in features.items()} if self.row.cyin else {}
        latents = {v: gaussians[v].mean if gaussians else x for v, x in features.items()}
        tokens = {v: self.splits[v.value](x) for v, x in latents.items()} if self.row.robult else latents
        return Parts(features, gaussians, latents, tokens)

    def fuse(
        self, tokens: dict[Any, Tensor], pattern: Tensor, generator: torch.Generator | None, swap: float
    ) -> tuple[Tensor, Gaussian | None]:
        """Fused latent before its non-linearity, and its distribution."""
        present = presence(pattern)
        if self.row.cyin:
            drawn = draw_swap(present, swap, generator) if swap else None
            full = self.completion(tokens, present, VIEWS, swap=drawn)
            fused = torch.stack(list(full.values())).mean(dim=0)
        else:
            seen = torch.stack([present[v][:, None, None, None] * tokens[v] for v in VIEWS])
            fused = seen.sum(dim=0) / torch.stack(list(present.values())).sum(dim=0)[:, None, None, None]
        h = self.mix(fused)
        if not self.row.dmrnet:
            return h, None
        gaussian = self.embedding(h, pattern)
        return (gaussian.sample(generator) if self.training else gaussian.mean), gaussian

    def forward(self, data: dict[Any, Tensor], pattern: Tensor) -> Tensor:
        """Logits (B, 10)."""
        tokens = self.represent(data).tokens
        logits: Tensor = self.classify(self.fuse(tokens, pattern, None, 0.0)[0])
        return logits[:, :, 0, 0]


def presence(pattern: Tensor) -> dict[Any, Tensor]:
    """Bool (B,) per view of bitmasks int64 (B,)."""
    return {v: is_present(pattern, v) for v in VIEWS}


def losses(
    network: VectorNetwork,
    data: dict[Any, Tensor],
    label: Tensor,
    pattern: Tensor,
    generator: torch.Generator,
    hard: HardCombinations | None,
    teacher: VectorNetwork | None,
    progress: float,
    relation: float = RELATION,
) -> Tensor:
    """Sum of the row's losses of a batch; label -1 = not labelled, `relation` = weight of MMANet's."""
    row, known = network.row, label >= 0
    parts = network.represent(data)
    everything = {v: torch.ones(len(label), dtype=torch.bool) for v in VIEWS}
    full = torch.full_like(pattern, max(PATTERNS))
    translating = row.cyin and progress > 0.2
    total = torch.zeros(())

    def task(logits: Tensor, each: Tensor = known) -> Tensor:
        return mean_where(F.cross_entropy(logits, label.clamp(min=0), reduction="none"), each)

    shown = pattern if row.dropout else full
    h, gaussian = network.fuse(parts.tokens, shown, generator, 0.5 * translating)
    logits = network.classify(h)[:, :, 0, 0]
    total = total + task(logits)
    fused = h
    if row.full:
        fused, _ = network.fuse(parts.tokens, full, generator, 0.0)
        total = total + task(network.classify(fused)[:, :, 0, 0])
    if gaussian is not None and hard is not None:
        total = total + 1e-3 * min(1.0, 2 * progress) * embedding_kl(gaussian)
        hard.observe(gaussian.log_variance.exp().mean(dim=(1, 2, 3)).detach(), shown)
        if hard.settled:
            total = (
                total + 0.3 * task(logits, known & hard.is_hard(shown)) * hard.is_hard(shown).float().mean()
            )
    if row.cyin:
        gaussians = parts.gaussians
        samples = {v: g.sample(generator) for v, g in gaussians.items()}
        targets = {v: token_target(x) for v, x in parts.features.items()}
        divergences = {v: divergence(g) for v, g in gaussians.items()}
        total = total + token_bottleneck_loss(
            samples, divergences, targets, dict(network.decoders.items()), everything, 16.0
        )
        heads = [task(network.unimodal[v.value](samples[v])[:, :, 0, 0]) for v in VIEWS]
        total = total + torch.stack(heads).mean()
        if translating:
            half = {v: x[:, : network.completion.translated] for v, x in parts.tokens.items()}
            there, back = network.completion.translators.loss(half, everything)
            total = total + there + back
    if row.robult:
        total = total + reconstruction_loss(
            parts.latents,
            parts.tokens,
            dict(network.rebuilders.items()),
            everything,
        )
        opinion = torch.softmax(network.classify(fused)[:, :, 0, 0].detach(), dim=1)
        truth = F.one_hot(label.clamp(min=0), CLASSES).float()
        regions = Regions(label, torch.where(known[:, None], truth, opinion))
        keys = {v: network.projections[v.value](x[:, : WIDTH // 2, 0, 0]) for v, x in parts.tokens.items()}
        total = total + 0.1 * contrast(network.query(fused[:, :, 0, 0]), keys, regions, 0.1)
        heads = [task(network.classify(network.mix(parts.tokens[v]))[:, :, 0, 0]) for v in VIEWS]
        total = total + torch.stack(heads).mean()
    if teacher is not None:
        with torch.no_grad():
            seen = teacher.represent(data).tokens
            known_h, _ = teacher.fuse(seen, full, None, 0.0)
            prediction = teacher.classify(known_h)[:, :, 0, 0]
        total = total + relation * relation_loss(h[:, :, 0, 0], known_h[:, :, 0, 0], prediction)
    return total
