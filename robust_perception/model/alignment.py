"""Shared and unique parts of a latent, and the soft positive-unlabelled contrast (Robult, IJCAI 2025).

Reconstructed [X]: the abstract, reviews and a digest of the paper tell its structure, the losses below are
ours. For a latent H_i of sensor i and the fused one, index 0:

    R_i = s_i(H_i),   U_i = g_i(H_i)           shared and unique, pointwise, each (B, d, h, w)
    L_rec = mean over sensors of || sg[H_i] - D_i([R_i, U_i]) ||^2      keeps U_i: R_i alone cannot do it

Contrast over n regions (an image of one class, a cell of a picture, or a whole sample), unit vectors

    q_j = norm(p_0(H_0,j)),   k_ij = norm(p(R_ij)),   s_jk = exp(q_j . k_ik / tau)

and soft positive weights, through which no gradient flows:

    w_jk = 1[y_j = y_k]          j and k labelled
    w_jk = 1                     j = k: the same region seen by another sensor
    w_jk = pi_jk rho_jk          otherwise
    pi_jk  = sum_v p_j(v) p_k(v)                     agreement of the classifier; one-hot where labelled
    rho_jk = mean over the labelled l of the likeliest class of exp( -|| k_k - k_l ||^2 / (2 h^2) ),
             h the median distance; 0 where no labelled region has that class

    L_lb  = - mean over labelled j of    sum_k (w_jk / sum_k' w_jk') ln( s_jk / sum_k' s_jk' )
    L_ulb = - mean over unlabelled j of  sum_k (w_jk / sum_k' w_jk') ln( s_jk / D_jk )
    D_jk  = s_jk + sum_{k' != k} (1 - w_jk') s_jk'   likely positives are not pushed away

averaged over sensors and over both directions. With every region labelled L_lb is the supervised contrast of
Khosla et al. 2020; without labels and with w = 0 off the diagonal L_ulb is InfoNCE. The weighting of
unlabelled pairs follows the idea of puNCE (Acharya et al., arXiv 2206.01206).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robust_perception.model.bottleneck import mean_over_present, mean_where
from robust_perception.model.errors import ModelError
from robust_perception.vocabulary import Modality


class SharedUnique(nn.Module):
    """s_i and g_i of one sensor: its latent becomes [R, U] along the channels.

    Args:
        width: of the latent, even; R and U have half of it each.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        if width % 2:
            msg = f"shared and unique halves of a latent: expected an even width, got {width}"
            raise ModelError(msg)
        self.shared = nn.Conv2d(width, width // 2, 1)
        self.unique = nn.Conv2d(width, width // 2, 1)
        with torch.no_grad():  # it starts as the latent itself, cut in two
            halves = torch.eye(width)[:, :, None, None].chunk(2)
            for layer, half in zip((self.shared, self.unique), halves, strict=True):
                layer.weight.copy_(half)
                assert layer.bias is not None
                layer.bias.zero_()

    def forward(self, latent: Tensor) -> Tensor:
        """(B, 2 d, h, w) -> [R, U], (B, 2 d, h, w)."""
        return torch.cat([self.shared(latent), self.unique(latent)], dim=1)


class Projection(nn.Module):
    """p: a region's vector to the unit sphere on which it is compared."""

    def __init__(self, width: int, projected: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, projected))

    def forward(self, vectors: Tensor) -> Tensor:
        """(n, C) -> unit vectors (n, P)."""
        return F.normalize(self.layers(vectors), dim=1)


class Regions(NamedTuple):
    """What is known of n regions.

    Attributes:
        label: int64 (n,), class, -1 where not labelled.
        probability: float32 (n, V), the classifier's; one-hot where labelled.
    """

    label: Tensor
    probability: Tensor

    @property
    def labelled(self) -> Tensor:
        """Bool (n,)."""
        return self.label >= 0


def proximity(keys: Tensor, regions: Regions) -> Tensor:
    """rho_jk without its dependence on j: float32 (n,), in [0, 1]; see the head of this file."""
    distance = torch.cdist(keys, keys)
    off_diagonal = distance[~torch.eye(len(keys), dtype=torch.bool, device=keys.device)]
    width = off_diagonal.median().clamp(min=1e-6) if off_diagonal.numel() else distance.new_ones(())
    likeness = torch.exp(-distance.square() / (2.0 * width * width))
    likeliest = regions.probability.argmax(dim=1)
    same = likeliest[:, None] == regions.label[None, :]  # never -1: the likeliest is a class
    return (likeness * same).sum(dim=1) / same.sum(dim=1).clamp(min=1)


@torch.no_grad()
def soft_positives(keys: Tensor, regions: Regions) -> Tensor:
    """w, float32 (n, n) in [0, 1], without gradient; row j belongs to the anchor, column k to the key."""
    agreement = regions.probability @ regions.probability.T
    weights = (agreement * proximity(keys, regions)[None, :]).clamp(0.0, 1.0)
    known = regions.labelled
    same = (regions.label[:, None] == regions.label[None, :]).to(weights.dtype)
    weights = torch.where(known[:, None] & known[None, :], same, weights)
    diagonal = torch.eye(len(keys), dtype=torch.bool, device=keys.device)
    return torch.where(diagonal, torch.ones_like(weights), weights)


def labelled_contrast(similarity: Tensor, weights: Tensor, labelled: Tensor) -> Tensor:
    """L_lb of one direction.

    Args:
        similarity: q . k / tau, float (n, n).
        weights: w, (n, n).
        labelled: bool (n,).

    Returns:
        Scalar; 0 without a labelled region.
    """
    share = weights / weights.sum(dim=1, keepdim=True)
    each = -(share * torch.log_softmax(similarity, dim=1)).sum(dim=1)
    return mean_where(each, labelled)


def unlabelled_contrast(similarity: Tensor, weights: Tensor, labelled: Tensor) -> Tensor:
    """L_ulb of one direction; arguments as `labelled_contrast`; 0 without an unlabelled region."""
    # D_jk = w_jk s_jk + sum_k' (1 - w_jk') s_jk', in logarithms, in which a small tau loses nothing.
    pushed = torch.logsumexp(similarity + _log(1.0 - weights), dim=1, keepdim=True)
    denominator = torch.logaddexp(similarity + _log(weights), pushed)
    share = weights / weights.sum(dim=1, keepdim=True)
    each = -(share * (similarity - denominator)).sum(dim=1)
    return mean_where(each, ~labelled)


def _log(weights: Tensor) -> Tensor:
    """Logarithm, of 0 a number that counts nothing beside any similarity and has a gradient."""
    return weights.log().clamp(min=-1e4)


def contrast(query: Tensor, keys: Mapping[Modality, Tensor], regions: Regions, tau: float) -> Tensor:
    """L_lb + L_ulb, mean over sensors and both directions.

    Args:
        query: unit vectors of the fused latent, (n, P).
        keys: per sensor unit vectors, (n, P).
        regions: their labels and the classifier's opinion.
        tau: temperature; > 0.
    """
    if tau <= 0.0:
        msg = f"temperature of the contrast: expected > 0, got {tau}"
        raise ModelError(msg)
    known = regions.labelled
    terms: list[Tensor] = []
    for key in keys.values():
        weights = soft_positives(key, regions)
        similarity = query @ key.T / tau
        for one_way, weight in ((similarity, weights), (similarity.T, weights.T)):
            terms.append(
                labelled_contrast(one_way, weight, known) + unlabelled_contrast(one_way, weight, known)
            )
    return torch.stack(terms).mean()


def reconstruction_loss(
    latents: Mapping[Modality, Tensor],
    parts: Mapping[Modality, Tensor],
    decoders: Mapping[str, nn.Module],
    available: Mapping[Modality, Tensor],
) -> Tensor:
    """L_rec: mean over the sensors that some sample has of the squared distance of D([R, U]) to sg[H].

    Args:
        latents: H per sensor, (B, C, h, w).
        parts: [R, U] per sensor, (B, C, h, w).
        decoders: D by the sensor's name.
        available: per sensor bool (B,).
    """
    terms = [
        mean_where(
            (latents[m].detach() - decoders[m.value](parts[m])).square().mean(dim=(1, 2, 3)), available[m]
        )
        for m in latents
    ]
    return mean_over_present(terms, [available[m] for m in latents])
