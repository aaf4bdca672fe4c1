"""Translation between the latents of sensors, and the rule that fills in a missing one (CyIN, NeurIPS 2025).

One translator G_uv per unordered pair {u, v} of sensors, used in both directions (Eq. 13 to 20), here on what
sensors share, R_u of shape (B, d, h, w):

    R_uv = G_uv(sg[R_u])            L_rec = || sg[R_v] - R_uv ||^2 / var(R_v)          forward
    R_uu = G_uv(R_uv)               L_cyc = || sg[R_u] - R_uu ||^2 / var(R_u)          and back
    L_tran = mean over targets of ( every single source, and all of them together by the rule ),
             forward plus reverse; pairs count where a sample has both sensors

G is a cascaded residual autoencoder: with autoencoders A_i that narrow and widen again,

    x_0 = R,   o_0 = 0,   x_i = x_{i-1} + o_{i-1},   o_i = A_i(x_i),   G(R) = transition(x_n + o_n)

Missing-latent rule, in training and inference alike, over the sources j that may be used (c_j = 1, j != n,
the pair {j, n} was seen together in training):

    R_n = sum_j w_jn G_jn(R_j) / sum_j w_jn
        w = 1                    `mean`
        w = 1 / s_j^2            `poe`, product of experts; s_j^2 averaged over channels
    R_n = sum_j G_jn(R_j)        `sum`, as published (additivity of normal distributions)
    no source at all             R_n = 0

`mean` is the default: a translation and the sum of several cannot both meet one target unless that is 0.
A sound has no pixels: its translators map the spatial mean of an image's latent, and their image is spread
over all pixels. Three rulings of ours: errors are relative to the target's variance, because the latents'
scale is free and would weigh the loss; targets carry no gradient, so that latents do not collapse to be
easily translated; nor do sources, whose latents the token level (`bottleneck`) and the task shape already,
and which at the published weight of 10 forgot the task on small dense data.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn

from robust_perception.model.availability import pick, pick_map
from robust_perception.model.bottleneck import mean_over_present, mean_where
from robust_perception.model.errors import ModelError
from robust_perception.vocabulary import Modality

LEAST_VARIANCE = 1e-3
RULES = ("mean", "sum", "poe")
Pair = frozenset[Modality]


def pairs_of(modalities: Collection[Modality]) -> tuple[Pair, ...]:
    """Unordered pairs of distinct sensors: 6 for 4."""
    return tuple(frozenset(pair) for pair in itertools.combinations(in_order(modalities), 2))


def in_order(modalities: Collection[Modality]) -> tuple[Modality, ...]:
    """In the order of their positions, each once."""
    return tuple(sorted(set(modalities), key=lambda m: m.position))


def pair_name(pair: Pair) -> str:
    """The pair's name, sensors in their order: "rgb-depth"."""
    return "-".join(m.value for m in in_order(pair))


class ResidualTranslator(nn.Module):
    """G: a cascaded residual autoencoder; no bias, no norm, as released.

    Args:
        width: d.
        blocks: n, number of autoencoders.
        kernel: side of the convolutions; 1 for vectors as (B, d, 1, 1).
    """

    def __init__(self, width: int, blocks: int = 2, kernel: int = 3) -> None:
        super().__init__()
        half, quarter = max(width // 2, 1), max(width // 4, 1)

        def conv(source: int, target: int) -> nn.Conv2d:
            return nn.Conv2d(source, target, kernel, padding=kernel // 2, bias=False)

        self.blocks = nn.ModuleList(
            nn.Sequential(
                conv(width, half), nn.LeakyReLU(), conv(half, quarter), nn.LeakyReLU(),
                conv(quarter, half), nn.ReLU(), conv(half, width),
            )
            for _ in range(blocks)
        )  # fmt: skip
        self.transition = nn.Sequential(conv(width, width), nn.ReLU(), conv(width, width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, d, h, w) -> the same."""
        for block in self.blocks:
            x = x + block(x)
        translated: Tensor = self.transition(x)
        return translated


class Translators(nn.Module):
    """All translators of one level and the rule that uses them.

    Args:
        modalities: sensors.
        width: d.
        rule: one of `RULES`.
        seen: pairs that some training sample has together; None = all. The others stay unused.
        blocks: of each translator.
        kernel: of the convolutions between image sensors.
    """

    def __init__(
        self,
        modalities: Sequence[Modality],
        width: int,
        rule: str = "mean",
        seen: Collection[Pair] | None = None,
        blocks: int = 2,
        kernel: int = 3,
    ) -> None:
        super().__init__()
        if rule not in RULES:
            msg = f"rule of the missing latent: expected one of {RULES}, got {rule!r}"
            raise ModelError(msg)
        self.modalities = in_order(modalities)
        self.rule = rule
        self.seen = frozenset(pairs_of(self.modalities) if seen is None else seen)
        self.pairs = nn.ModuleDict(
            {
                pair_name(pair): ResidualTranslator(
                    width, blocks, kernel if all(m.is_image for m in pair) else 1
                )
                for pair in pairs_of(self.modalities)
            }
        )

    def translate(self, latent: Tensor, source: Modality, target: Modality) -> Tensor:
        """G_uv of a latent of the source, (B, d, h, w) -> the same, or (B, d, 1, 1) where a sound takes part.

        Args:
            latent: of the source.
            source: u.
            target: v, another sensor.
        """
        if not (source.is_image and target.is_image):
            latent = latent.mean(dim=(2, 3), keepdim=True)
        translated: Tensor = self.pairs[pair_name(frozenset((source, target)))](latent)
        return translated

    def sources_of(self, target: Modality) -> tuple[Modality, ...]:
        """Sensors whose translation to the target was trained."""
        return tuple(m for m in self.modalities if m is not target and frozenset((m, target)) in self.seen)

    def fill(
        self,
        latents: Mapping[Modality, Tensor],
        target: Modality,
        usable: Mapping[Modality, Tensor],
        precision: Mapping[Modality, Tensor] | None = None,
        ready: Mapping[Modality, Tensor] | None = None,
        row: Tensor | None = None,
    ) -> Tensor:
        """The rule of the missing latent for one sensor.

        Args:
            latents: R per sensor, (B, d, h, w), finite.
            target: n.
            usable: per source bool (B,), whether it may be used for this target.
            precision: 1 / s^2 per source, (B, 1, h, w); needed for `poe` alone.
            ready: what `translate` made of every source's latent, anything where it may not be used; None =
                it is made here.
            row: of the flags, see `availability`.

        Returns:
            R_n, shape of `latents[target]`.
        """
        wanted = latents[target]
        weights: dict[Modality, Tensor] = {}
        translated: dict[Modality, Tensor] = {}
        for source in self.sources_of(target):
            if not torch.compiler.is_compiling() and not bool(usable[source].any()):
                continue
            use = pick_map(usable[source], row)
            if self.rule == "poe":
                if precision is None:
                    msg = "rule poe of the missing latent: expected the precisions of the sources, got none"
                    raise ModelError(msg)
                known = precision[source]
                if not (source.is_image and target.is_image):
                    known = known.mean(dim=(2, 3), keepdim=True)
                weights[source] = torch.where(use, known, 0.0)
            else:
                weights[source] = usable[source][:, None, None, None].to(wanted.dtype)
            if ready is None:
                translated[source] = self.translate(latents[source], source, target)
            else:
                translated[source] = torch.where(use, ready[source], 0.0)
        if not weights:
            return wanted.new_zeros(wanted.shape)
        # Divided first: that is a few numbers, or one a pixel, and not one a channel too.
        total = functools.reduce(torch.add, weights.values()).clamp(min=1e-6)
        parts = []
        for source, weight in weights.items():
            share = weight if self.rule == "sum" else weight / total
            parts.append((share if self.rule == "poe" else pick(share, row)) * translated[source])
        filled: Tensor = functools.reduce(torch.add, parts).expand(wanted.shape)
        return filled

    def loss(
        self,
        latents: Mapping[Modality, Tensor],
        available: Mapping[Modality, Tensor],
        precision: Mapping[Modality, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """L_rec and L_cyc, each a mean over channels, pixels, samples and those terms that some sample has.

        Args:
            latents: R per sensor, (B, d, h, w); no gradient flows into them.
            available: per sensor bool (B,).
            precision: see `fill`.
        """
        forward: list[Tensor] = []
        reverse: list[Tensor] = []
        pairs: list[Tensor] = []  # masks of the terms of `reverse`
        masks: list[Tensor] = []  # of those of `forward`
        latents = {m: latents[m].detach() for m in self.modalities}
        scale = {m: 1.0 / _variance(x, available[m]) for m, x in latents.items()}
        for target in self.modalities:
            wanted = latents[target]
            sources = self.sources_of(target)
            usable = {m: available[m] & available[target] for m in sources}
            for source in sources:
                there = self.translate(latents[source], source, target).expand(wanted.shape)
                forward.append(scale[target] * _distance(there, wanted, source, target, usable[source]))
                back = self.translate(there, target, source).expand(latents[source].shape)
                home = _distance(back, latents[source], target, source, usable[source])
                reverse.append(scale[source] * home)
                pairs.append(usable[source])
                masks.append(usable[source])
            if len(sources) > 1:
                filled = self.fill(latents, target, usable, precision)
                several = torch.stack([usable[m] for m in sources]).sum(dim=0) > 1
                distance = mean_where((filled - wanted).square().mean(dim=(1, 2, 3)), several)
                forward.append(scale[target] * distance)
                masks.append(several)
        if not forward:
            zero = next(iter(latents.values())).new_zeros(())
            return zero, zero
        return mean_over_present(forward, masks), mean_over_present(reverse, pairs)


def _variance(latent: Tensor, available: Tensor) -> Tensor:
    """Of all entries of the samples that have the sensor; 1 where none has."""
    if not bool(available.any()):
        return latent.new_ones(())
    return latent[available].var(unbiased=False).clamp(min=LEAST_VARIANCE)


def _distance(found: Tensor, wanted: Tensor, source: Modality, target: Modality, mask: Tensor) -> Tensor:
    """Squared distance of a translation; where a sound takes part only the spatial mean can be known."""
    if not (source.is_image and target.is_image):
        found, wanted = (x.mean(dim=(2, 3), keepdim=True) for x in (found, wanted))
    return mean_where((found - wanted).square().mean(dim=(1, 2, 3)), mask)
