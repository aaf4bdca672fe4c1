"""Probabilistic embedding of sensor combinations, and what makes one hard (DMRNet, ECCV 2024).

A point embedding of every combination c under one classifier is pulled to the same place for all c. So the
loss acts on a sample around the mean, and the mean, which inference uses, is free to differ:

    mu = norm(W_mu h),   log s^2 = norm(W_s h) + v(c)         each (B, C, h, w)
    z  = mu + scale s eps   in training;   z = mu   in inference
    KL = mean over batch and pixels of  sum over channels 1/2 (s^2 + mu^2 - log s^2 - 1)
    L  = L_task(z) + alpha KL + beta_h L_hcr,       alpha = 1e-3 after a ramp

Hard combinations are those whose predicted variance is largest, mined over windows of training:

    sbar(c) = mean over the window of mean_dim s^2(x, c);    EMA over windows, 0.9 old
    H       = the k combinations of largest sbar
    L_hcr   = (1 / B) sum over samples with c in H of the task loss of an auxiliary decoder

Rulings of ours: the norm is over channels, as in all the network, because batches mix combinations (BN as
published is a choice); v(c), a learned row a combination, lets the variance tell combinations apart behind
that norm; the KL carries gradient (in the code released for NYUv2 it does not).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robust_perception.model.bottleneck import LOG_VARIANCE, Gaussian, kl_to_standard_normal
from robust_perception.model.encoders import ChannelNorm
from robust_perception.model.errors import ModelError
from robust_perception.model.pattern_selection import ROWS

KEPT = 0.9
"""Share of the old windows in the running mean of the variance."""

LEAST_AGREEMENT = 0.7
"""Spearman's rank correlation of two windows, from which on the order is believed."""

FIRST_LOG_VARIANCE = -2.0
"""A standard deviation of 0.4 of the mean's: training starts from latents that say something."""


class ProbabilisticEmbedding(nn.Module):
    """The head of the fused latent.

    Args:
        width: C.
        norm: "channel", or "batch" as published.
        combinations: rows of v(c).
    """

    def __init__(self, width: int, norm: str = "channel", combinations: int = ROWS) -> None:
        super().__init__()
        if norm not in ("channel", "batch"):
            msg = f"norm of the probabilistic embedding: expected 'channel' or 'batch', got {norm!r}"
            raise ModelError(msg)

        def branch() -> nn.Sequential:
            scale = ChannelNorm(width) if norm == "channel" else nn.BatchNorm2d(width)
            return nn.Sequential(nn.Conv2d(width, width, 1), scale)

        self.mean = branch()
        self.logvar = branch()
        self.logvar_prior = nn.Embedding(combinations, width)
        nn.init.constant_(self.logvar_prior.weight, FIRST_LOG_VARIANCE)
        with torch.no_grad():  # the mean starts as the latent
            first = self.mean[0]
            assert isinstance(first, nn.Conv2d) and first.bias is not None
            first.weight.copy_(torch.eye(width)[:, :, None, None])
            first.bias.zero_()

    def forward(self, h: Tensor, pattern: Tensor) -> Gaussian:
        """H (B, C, h, w) and pattern int64 (B,) -> the distribution of z, each (B, C, h, w)."""
        log_variance = self.logvar(h) + self.logvar_prior(pattern)[:, :, None, None]
        return Gaussian(self.mean(h), log_variance.clamp(*LOG_VARIANCE))


def embedding_kl(gaussian: Gaussian) -> Tensor:
    """KL of z: sum over channels, mean over batch and pixels; scalar."""
    return kl_to_standard_normal(gaussian).sum(dim=1).mean()


class HardCombinations(nn.Module):
    """Mines the combinations of largest variance; its state is in the checkpoint.

    Args:
        combinations: bits of those that occur.
        count: k.
    """

    total: Tensor
    seen: Tensor
    mean: Tensor
    windows: Tensor
    agreement: Tensor

    def __init__(self, combinations: tuple[int, ...], count: int) -> None:
        super().__init__()
        if not 0 < count <= len(combinations):
            msg = f"number of hard combinations: expected 1..{len(combinations)}, got {count}"
            raise ModelError(msg)
        self.combinations = combinations
        self.count = count
        for name in ("total", "seen", "mean"):
            self.register_buffer(name, torch.zeros(1 + max(combinations)))
        self.register_buffer("windows", torch.zeros((), dtype=torch.int64))
        self.register_buffer("agreement", torch.zeros(()))

    @torch.no_grad()
    def observe(self, values: Tensor, pattern: Tensor) -> None:
        """Take in how hard samples are: values (B,), e.g. mean_dim s^2, under pattern int64 (B,)."""
        self.total.index_add_(0, pattern, values.to(self.total.dtype))
        self.seen.index_add_(0, pattern, torch.ones_like(values, dtype=self.seen.dtype))

    @torch.no_grad()
    def close_window(self) -> None:
        """End a window: renew sbar and remember how well its order agrees with the one so far (Spearman).

        Combinations that did not occur, now or before, have no rank and say nothing of the agreement; where
        none did, there was no window.
        """
        measured, known = self.seen > 0, self.mean > 0  # what is averaged is positive: 0 = never measured
        if not bool(measured.any()):
            return
        window = torch.where(measured, self.total / self.seen.clamp(min=1), self.mean)
        if int(self.windows):
            rows = torch.tensor(self.combinations, device=window.device)
            both = rows[(measured & known)[rows]]
            nothing = len(both) < 2 <= len(rows)
            self.agreement.copy_(window.new_zeros(()) if nothing else spearman(window[both], self.mean[both]))
            window = torch.where(known, KEPT * self.mean + (1.0 - KEPT) * window, window)
        self.mean.copy_(window)
        self.forget_window()
        self.windows.add_(1)

    @torch.no_grad()
    def forget_window(self) -> None:
        """Drop what this window has seen so far."""
        self.total.zero_()
        self.seen.zero_()

    @property
    def settled(self) -> bool:
        """Whether the order of two windows agrees well enough to act on it."""
        return float(self.agreement) > LEAST_AGREEMENT

    @property
    def hard(self) -> tuple[int, ...]:
        """Bits of H, of those that occurred; empty before the first window has ended."""
        mean = self.mean.tolist()
        known = [bits for bits in self.combinations if mean[bits] > 0]
        return tuple(sorted(known, key=lambda bits: (-mean[bits], bits))[: self.count])

    def is_hard(self, pattern: Tensor) -> Tensor:
        """Bool (B,) of patterns int64 (B,)."""
        hard = torch.tensor(self.hard, dtype=pattern.dtype, device=pattern.device)
        found: Tensor = torch.isin(pattern, hard)
        return found


def spearman(a: Tensor, b: Tensor) -> Tensor:
    """Rank correlation of two vectors without ties; 1 for fewer than two entries."""
    if len(a) < 2:
        return torch.ones((), device=a.device)
    ranks = [x.argsort().argsort().double() for x in (a, b)]
    centred = [r - r.mean() for r in ranks]
    correlation: Tensor = centred[0] @ centred[1] / (centred[0].norm() * centred[1].norm())
    return correlation.float()
