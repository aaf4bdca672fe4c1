"""Information bottleneck of each sensor's latent: the token level and the label level of CyIN (NeurIPS 2025).

For a latent F_u of sensor u, (B, C, h, w), of which every pixel is a token:

    (mu, log s^2) = E_u(F_u)           two pointwise layers, one ReLU; both (B, d, h, w);
                                       mu is what they add to F_u where the widths agree [ours]
    B_u = mu + s eps                   eps ~ N(0, I), only inside the losses; the network goes on with mu
    KL  = -1/2 mean_channels( log s^2 + 1 - mu^2 - s^2 )                       mean over tokens and batch

Token level (Eq. 8, 9), from sensor S to sensor T with the decoder D_T that all sources share:

    L_tib = mean over ordered pairs (S, T) of  KL(B_S) + beta || sg[LN(F_T)] - D_T(B_S) ||^2
    L_lib = mean over sensors of the task loss of P_S(B_S)                     (Eq. 11, 12)
    L     = (1 / beta) L_tib + L_lib               so that the fit weighs 1 and the KL 1 / beta

As published but for three rulings of ours: the target is layer-normalised and carries no gradient, and D_T
ends linearly, because the targets are unbounded and would shrink to please the loss (the released decoder
ends in a sigmoid); sound is one token without a place, so it takes part in its own pair only; a sample
counts for a pair only where it has both sensors, and a pair for the mean only where some sample does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robust_perception.model.errors import ModelError
from robust_perception.vocabulary import Modality

LOG_VARIANCE = (-8.0, 4.0)
"""Bounds that keep exp finite; between them the gradient is untouched."""


class Gaussian(NamedTuple):
    """Independent normal distributions.

    Attributes:
        mean: float32 (B, d, h, w).
        log_variance: the same shape.
    """

    mean: Tensor
    log_variance: Tensor

    def sample(self, generator: torch.Generator | None = None, scale: float = 1.0) -> Tensor:
        """Mean + scale sigma eps; differentiable in both parameters."""
        noise = torch.empty_like(self.mean).normal_(generator=generator)
        return self.mean + scale * torch.exp(0.5 * self.log_variance) * noise

    @property
    def precision(self) -> Tensor:
        """1 / s^2 of s^2 averaged over channels, as `translation` weighs by: (B, 1, h, w)."""
        return 1.0 / self.log_variance.exp().mean(dim=1, keepdim=True)


def kl_to_standard_normal(gaussian: Gaussian) -> Tensor:
    """KL( N(mean, variance) || N(0, 1) ) of every entry: >= 0, and 0 at mean 0, log variance 0."""
    mean, log_variance = gaussian
    return 0.5 * (log_variance.exp() + mean * mean - log_variance - 1.0)


def divergence(gaussian: Gaussian) -> Tensor:
    """KL of every sample, mean over channels and pixels: (B,)."""
    return kl_to_standard_normal(gaussian).mean(dim=(1, 2, 3))


class BottleneckEncoder(nn.Module):
    """E_u: a latent to the distribution of its compressed form.

    Args:
        width: C of the latent.
        hidden: C_ib.
        latent: d.
    """

    def __init__(self, width: int, hidden: int, latent: int) -> None:
        super().__init__()
        self.hidden = nn.Conv2d(width, hidden, 1)
        self.mean = nn.Conv2d(hidden, latent, 1)
        self.log_variance = nn.Conv2d(hidden, latent, 1)
        self.residual = width == latent
        if self.residual:  # it starts as the network without it
            nn.init.zeros_(self.mean.weight)
            nn.init.zeros_(self.mean.bias)  # type: ignore[arg-type]
        nn.init.zeros_(self.log_variance.weight)
        nn.init.constant_(self.log_variance.bias, -2.0)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Gaussian:
        """(B, C, h, w) -> two of (B, d, h, w)."""
        hidden = F.relu(self.hidden(x))
        mean = x + self.mean(hidden) if self.residual else self.mean(hidden)
        return Gaussian(mean, self.log_variance(hidden).clamp(*LOG_VARIANCE))


class TokenDecoder(nn.Module):
    """D_v: a sample of any sensor's bottleneck to sensor v's latent; two pointwise layers, linear end."""

    def __init__(self, latent: int, hidden: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(latent, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, width, 1))

    def forward(self, sample: Tensor) -> Tensor:
        """(B, d, h, w) -> (B, C, h, w)."""
        decoded: Tensor = self.layers(sample)
        return decoded


def token_target(latent: Tensor) -> Tensor:
    """sg[LN(F)]: each pixel normalised over its channels, no gradient; (B, C, h, w)."""
    detached = latent.detach()
    return F.layer_norm(detached.movedim(1, -1), detached.shape[1:2]).movedim(-1, 1)


def token_bottleneck_loss(
    samples: Mapping[Modality, Tensor],
    divergences: Mapping[Modality, Tensor],
    targets: Mapping[Modality, Tensor],
    decoders: Mapping[str, nn.Module],
    available: Mapping[Modality, Tensor],
    beta: float,
) -> Tensor:
    """(1 / beta) L_tib of one level.

    Args:
        samples: B_S per sensor, (B, d, h, w).
        divergences: `divergence` of their distributions.
        targets: `token_target` of F_T per sensor, (B, C, h, w).
        decoders: D_T by the sensor's name.
        available: per sensor bool (B,), whether the sample has it.
        beta: weight of the fit inside L_tib; > 0.

    Returns:
        Scalar; 0 when no sample has any of the sensors.
    """
    if beta <= 0.0:
        msg = f"beta of the information bottleneck: expected > 0, got {beta}"
        raise ModelError(msg)
    terms: list[Tensor] = []
    masks: list[Tensor] = []
    for source, sample in samples.items():
        compression = divergences[source] / beta
        for target, wanted in targets.items():
            if source is not target and not (source.is_image and target.is_image):
                continue
            fit = (wanted - decoders[target.value](sample)).square().mean(dim=(1, 2, 3))
            masks.append(available[source] & available[target])
            terms.append(mean_where(compression + fit, masks[-1]))
    return mean_over_present(terms, masks)


def mean_where(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of values (B,) over the samples where mask is true; 0 where it nowhere is."""
    return torch.where(mask, values, torch.zeros_like(values)).sum() / mask.sum().clamp(min=1)


def mean_over_present(terms: Sequence[Tensor], masks: Sequence[Tensor]) -> Tensor:
    """Mean of those terms, scalars by `mean_where`, whose mask (B,) has a sample; 0 where none has.

    Args:
        terms: at least one.
        masks: of each.
    """
    there = torch.stack([mask.any() for mask in masks]).tolist()
    present = [term for term, counts in zip(terms, there, strict=True) if counts]
    return torch.stack(present or list(terms)).mean()
