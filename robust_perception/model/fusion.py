"""Fusion of whatever sensors are present, level by level of the pyramid.

With x_m the latents (B, C, h, w) of modality m, c_m in {0, 1} its presence, e(c) a learned row per pattern:

    x_m  <- x_m if c_m else 0                              selected, never multiplied: NaN * 0 is NaN
    g_m   = G x_m + b_m(c);  g_m <- -inf where c_m = 0     gate of each pixel, or of each of its channels
    w_m   = exp(g_m) / sum_k exp(g_k)                      over the sensors present
    y     = sum_m (w_m x_m + W_m x_m) + e(c)               W_m of the size of a latent
    y    <- y + A a                                        a: the sound's vector, where present
    y    <- y + conv3x3( ReLU( norm(y) ) )                 at p4 and p5; the decoder does it for finer levels

At a level whose missing latents were filled in (`completion`), all x_m count, and b_m(c) tells how far a
guess is to be trusted under c; it starts at -4 for what c lacks, so that training begins with the mean over
what is there, not with guesses of translators that have learnt nothing. `SumFusion` is the plain rival:
y = sum_m c_m x_m, which knows no patterns.

When no image sensor is present, all x_m are 0 and y begins as e(c) + A a: a prior of what is
where, learned like everything else. The output does not depend on one bit of an absent sensor's latents.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from robust_perception.model.availability import flags, is_present, pick_map
from robust_perception.model.encoders import ChannelNorm
from robust_perception.model.pattern_selection import ROWS
from robust_perception.vocabulary import Modality

GATE_OF_ABSENT = -1e4
"""Finite: where no image sensor is present at all, -inf - (-inf) would be NaN."""

FIRST_GATE_OF_GUESS = -4.0


def smoothing(width: int) -> nn.Sequential:
    """The residual step at coarse levels."""
    return nn.Sequential(ChannelNorm(width), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1))


class Proposal(NamedTuple):
    """What one sensor brings to a level.

    Attributes:
        gate: G x_m, (B, C or 1, h, w).
        mixed: W_m x_m, (B, C, h, w).
    """

    gate: Tensor
    mixed: Tensor


class LevelFusion(nn.Module):
    """Fusion at one level of the pyramid.

    Args:
        modalities: the image modalities, in the order of `MODALITIES`.
        width: C.
        audio_width: D, 0 without sound.
        complete: whether missing latents come filled in.
        coarse: whether there is a gate for every channel and a smoothing; one gate a pixel must do where
            there are many of them.
    """

    def __init__(
        self,
        modalities: Sequence[Modality],
        width: int,
        audio_width: int,
        complete: bool = False,
        coarse: bool = True,
    ) -> None:
        super().__init__()
        gates = width if coarse else 1
        self.modalities = tuple(modalities)
        self.complete = complete
        self.gates = nn.ModuleDict({m.value: nn.Conv2d(width, gates, 1) for m in modalities})
        self.mix = nn.ModuleDict({m.value: nn.Conv2d(width, width, 1, bias=False) for m in modalities})
        self.prior = nn.Embedding(ROWS, width)
        self.gate_prior = nn.Embedding(ROWS, gates * len(self.modalities))
        self.sound = nn.Linear(audio_width, width) if audio_width else None
        self.smooth = smoothing(width) if coarse else None
        nn.init.zeros_(self.prior.weight)
        nn.init.zeros_(self.gate_prior.weight)
        for name, weight in self.gates.named_parameters():
            if name.endswith("weight"):
                nn.init.zeros_(weight)  # starts near the plain mean over the sensors present: by biases alone
        if complete:
            rows = torch.arange(ROWS)
            lacks = torch.stack([~is_present(rows, m) for m in self.modalities], dim=1)
            with torch.no_grad():
                self.gate_prior.weight += FIRST_GATE_OF_GUESS * lacks.repeat_interleave(gates, dim=1)

    @property
    def plain(self) -> bool:
        """Whether gates and mixtures are the same for every pattern, and nothing where nothing is seen.

        Adapters follow the pattern; a bias of a mixture, which they leave when they are merged, counts for an
        absent sensor too.
        """
        layers = [*self.gates.values(), *self.mix.values()]
        fixed = all(isinstance(layer, nn.Conv2d) and not list(layer.children()) for layer in layers)
        return fixed and all(layer.bias is None for layer in self.mix.values())

    def propose(self, modality: Modality, latent: Tensor) -> Proposal:
        """What a sensor's latent (B, C, h, w) brings."""
        return Proposal(self.gates[modality.value](latent), self.mix[modality.value](latent))

    def forward(
        self,
        latents: Mapping[Modality, Tensor],
        audio: Tensor | None,
        pattern: Tensor,
        proposals: Mapping[Modality, Proposal] | None = None,
    ) -> Tensor:
        """Fuse.

        Args:
            latents: per image modality float32 (B, C, h, w); anything where absent.
            audio: float32 (B, D), zero where absent, or None.
            pattern: int64 (B,).
            proposals: `propose` of all latents, made ahead at a level that is `plain` and not completed;
                None = made here.

        Returns:
            float32 (B, C, h, w).
        """
        there, row = flags(pattern, () if self.complete else self.modalities)
        present = {m: pick_map(flag, row) for m, flag in there.items()}
        ahead = proposals is not None
        if proposals is None:
            if not self.complete:
                latents = {m: torch.where(present[m], latents[m], 0.0) for m in self.modalities}
            proposals = {m: self.propose(m, latents[m]) for m in self.modalities}
        priors = self.gate_prior.weight.reshape(ROWS, len(self.modalities), -1, 1, 1).unbind(dim=1)
        gates = [
            proposals[m].gate + prior.index_select(0, pattern)
            for m, prior in zip(self.modalities, priors, strict=True)
        ]
        if not self.complete:
            pairs = zip(self.modalities, gates, strict=True)
            gates = [torch.where(present[m], gate, GATE_OF_ABSENT) for m, gate in pairs]
        brought = []
        for m, weight in zip(self.modalities, softmax_over(gates), strict=True):
            part = weight * latents[m] + proposals[m].mixed
            # What was made ahead of an absent sensor's latents may be anything; without biases 0 makes 0.
            brought.append(torch.where(present[m], part, 0.0) if ahead else part)
        token = self.prior(pattern)
        if audio is not None and self.sound is not None:
            token = token + self.sound(audio)
        fused = functools.reduce(torch.add, brought) + token[:, :, None, None]
        result: Tensor = fused if self.smooth is None else fused + self.smooth(fused)
        return result


def softmax_over(maps: Sequence[Tensor]) -> list[Tensor]:
    """Softmax over several maps of one shape.

    Written out: over any axis but the last it is slow in ONNX Runtime; exp of a picture is not.
    """
    peak = functools.reduce(torch.maximum, maps)
    raised = [torch.exp(x - peak) for x in maps]
    total = functools.reduce(torch.add, raised)
    return [x / total for x in raised]


class SumFusion(nn.Module):
    """y = sum_m c_m x_m, then the same smoothing; arguments as `LevelFusion`."""

    def __init__(
        self,
        modalities: Sequence[Modality],
        width: int,
        audio_width: int,
        complete: bool = False,
        coarse: bool = True,
    ) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        self.complete = complete
        self.sound = nn.Linear(audio_width, width) if audio_width else None
        self.smooth = smoothing(width) if coarse else None

    def forward(
        self,
        latents: Mapping[Modality, Tensor],
        audio: Tensor | None,
        pattern: Tensor,
        proposals: None = None,
    ) -> Tensor:
        """As `LevelFusion.forward`."""
        seen = []
        there, row = flags(pattern, self.modalities)
        for modality in self.modalities:
            x = latents[modality]
            seen.append(x if self.complete else torch.where(pick_map(there[modality], row), x, 0.0))
        fused = functools.reduce(torch.add, seen)
        if audio is not None and self.sound is not None:
            fused = fused + self.sound(audio)[:, :, None, None]
        result: Tensor = fused if self.smooth is None else fused + self.smooth(fused)
        return result
