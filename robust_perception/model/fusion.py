"""Fusion of whatever sensors are present, level by level of the pyramid.

With x_m the latents (B, C, h, w) of modality m, c_m in {0, 1} its presence, e(c) a learned row per pattern:

    x_m  <- x_m if c_m else 0                              selected, never multiplied: NaN * 0 is NaN
    g_m   = G x_m + b_m(c);  g_m <- -inf where c_m = 0     gate of each channel of each pixel
    w_m   = exp(g_m) / sum_k exp(g_k)                      over the sensors present
    y     = sum_m w_m x_m + W [x_1 .. x_M] + e(c)          W sees what the sensors say together
    y    <- y + A a                                        a: the sound's vector, where present

When no image sensor is present, the w_m vanish and y is e(c) + A a: a prior of what is where, learned like
everything else. The output does not depend on one bit of an absent sensor's latents.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from robust_perception.model.encoders import ChannelNorm
from robust_perception.vocabulary import MODALITIES, Modality

GATE_OF_ABSENT = -1e4
"""Finite, so that a pattern without any image sensor gives 0 / tiny and not NaN."""


def is_present(pattern: Tensor, modality: Modality) -> Tensor:
    """int64 (B,) bitmasks -> bool (B,). Division instead of a shift: every runtime has it."""
    return (pattern // (1 << modality.position)) % 2 == 1


class LevelFusion(nn.Module):
    """Fusion at one level of the pyramid.

    Args:
        modalities: the image modalities, in the order of `MODALITIES`.
        width: C.
        audio_width: D, 0 without sound.
    """

    def __init__(self, modalities: Sequence[Modality], width: int, audio_width: int) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        self.gates = nn.ModuleDict({m.value: nn.Conv2d(width, width, 1) for m in modalities})
        self.mix = nn.Conv2d(width * len(self.modalities), width, 1)
        self.prior = nn.Embedding(1 << len(MODALITIES), width)
        self.gate_prior = nn.Embedding(1 << len(MODALITIES), width * len(self.modalities))
        self.sound = nn.Linear(audio_width, width) if audio_width else None
        self.smooth = nn.Sequential(ChannelNorm(width), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1))
        nn.init.zeros_(self.prior.weight)
        nn.init.zeros_(self.gate_prior.weight)
        for name, weight in self.gates.named_parameters():
            if name.endswith("weight"):
                nn.init.zeros_(weight)  # starts as the plain mean over the sensors present

    def forward(self, latents: Mapping[Modality, Tensor], audio: Tensor | None, pattern: Tensor) -> Tensor:
        """Fuse.

        Args:
            latents: per image modality float32 (B, C, h, w); anything where absent.
            audio: float32 (B, D), zero where absent, or None.
            pattern: int64 (B,).

        Returns:
            float32 (B, C, h, w).
        """
        batch, width = pattern.shape[0], self.prior.embedding_dim
        gate_prior = self.gate_prior(pattern).reshape(batch, len(self.modalities), width, 1, 1)
        seen, gates = [], []
        for index, modality in enumerate(self.modalities):
            present = is_present(pattern, modality)[:, None, None, None]
            x = torch.where(present, latents[modality], 0.0)
            gate = self.gates[modality.value](x) + gate_prior[:, index]
            gates.append(torch.where(present, gate, GATE_OF_ABSENT))
            seen.append(x)
        # Written out: a softmax over any but the last axis is slow in ONNX Runtime, exp of a picture is not.
        peak = functools.reduce(torch.maximum, gates)
        weights = [torch.exp(gate - peak) for gate in gates]
        weighted = sum(weight * x for weight, x in zip(weights, seen, strict=True))
        fused = weighted / sum(weights) + self.mix(torch.cat(seen, dim=1))
        token = self.prior(pattern)
        if audio is not None and self.sound is not None:
            token = token + self.sound(audio)
        fused = fused + token[:, :, None, None]
        smoothed: Tensor = fused + self.smooth(fused)
        return smoothed
