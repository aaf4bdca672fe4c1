"""One encoder a sensor: raw measurement in, latents out, so that a lost sensor costs nothing.

Input normalisation is part of the encoder and is exported with it:

    rgb      (v - 127) / 128                                          3 channels
    depth    z' = (z - mean) / std where valid, else 0;  valid        2 channels
    thermal  T' = (T - mean) / std;  clip(T' / 8, -1, 1)              2 channels: fine, and coarse
    audio    log-mel (spectrogram.py)

An image encoder is EfficientNet-Lite0 and one 1x1 neck a level to the common width C, at the finest level to
C_2: four times as many pixels as at the next, and texture rather than meaning. Audio has no pixels:
its encoder is a small convolutional network over the spectrogram, pooled to one vector.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robust_perception.model.efficientnet import CHANNELS, EfficientNetLite0
from robust_perception.model.spectrogram import LogMel
from robust_perception.vocabulary import Modality

LEVELS = ("p2", "p3", "p4", "p5")
GROUPS = 8
COARSE_RANGE = 8.0

INPUT_CHANNELS = {Modality.RGB: 3, Modality.DEPTH: 2, Modality.THERMAL: 2}


def widths_of(width: int, fine_width: int) -> tuple[int, ...]:
    """Channels of p2, p3, p4, p5."""
    return (fine_width, *[width] * (len(LEVELS) - 1))


class ChannelNorm(nn.Module):
    """Layer normalisation of each pixel over its channels.

    It mixes neither the patterns of a batch nor a crop's share of background, so that what is trained on
    crops serves whole frames.

        y = (x - mean_c x) / sqrt(var_c x + 1e-5) * weight + bias
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same."""
        # One operator in every runtime, where the formula written out is nine.
        last = F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, 1e-5)
        return last.permute(0, 3, 1, 2)


class ImageEncoder(nn.Module):
    """Encoder of rgb, depth or thermal.

    Args:
        modality: which.
        width: C, channels of the latents p3, p4, p5.
        fine_width: C_2, channels of p2.
        mean: of the valid training values in metres or kelvin; not used for rgb.
        std: likewise.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, modality: Modality, width: int, fine_width: int, mean: float = 0.0, std: float = 1.0
    ) -> None:
        super().__init__()
        self.modality = modality
        self.backbone = EfficientNetLite0(INPUT_CHANNELS[modality])
        self.necks = nn.ModuleDict(
            {
                level: nn.Sequential(nn.Conv2d(CHANNELS[level], wide, 1), ChannelNorm(wide))
                for level, wide in zip(LEVELS, widths_of(width, fine_width), strict=True)
            }
        )
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))

    def normalise(self, x: Tensor) -> Tensor:
        """Raw input -> (B, 2 or 3, H, W), as the table at the head of this file says."""
        if self.modality is Modality.RGB:
            # A number first: TensorRT does nothing to bytes but to make numbers of them.
            return (x.float().permute(0, 3, 1, 2) - 127.0) / 128.0
        if self.modality is Modality.DEPTH:
            valid = x == x  # NaN differs from itself; isnan is not in every runtime
            scaled = torch.where(valid, (x - self.mean) / self.std, 0.0)
            return torch.stack([scaled, valid.float()], dim=1)
        scaled = (x - self.mean) / self.std
        return torch.stack([scaled, (scaled / COARSE_RANGE).clamp(-1.0, 1.0)], dim=1)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Raw input to latents.

        Args:
            x: rgb uint8 (B, H, W, 3) | depth float32 (B, H, W), metres, NaN = invalid |
                thermal float32 (B, H, W), kelvin.

        Returns:
            p2, p3, p4, p5: float32 (B, C, H/s, W/s) at strides s = 4, 8, 16, 32; C_2 channels at p2.
        """
        levels = self.backbone(self.normalise(x))
        return tuple(self.necks[level](levels[level]) for level in LEVELS)


class AudioEncoder(nn.Module):
    """Encoder of one second of sound.

    Args:
        width: D, length of the vector.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.log_mel = LogMel()
        layers: list[nn.Module] = []
        channels = 1
        for wider in (16, 32, 64, width):
            layers += [
                nn.Conv2d(channels, wider, 3, stride=2, padding=1, bias=False),
                nn.GroupNorm(GROUPS, wider),
                nn.ReLU(),
            ]
            channels = wider
        self.layers = nn.Sequential(*layers)
        self.project = nn.Linear(2 * width, width)

    def forward(self, sound: Tensor) -> Tensor:
        """float32 (B, 16000) in [-1, 1] -> float32 (B, D)."""
        h = self.layers(self.log_mel(sound)[:, None]).flatten(2)
        # The mean tells of lasting sounds, the maximum of single ticks.
        return F.relu(self.project(torch.cat([h.mean(dim=2), h.amax(dim=2)], dim=1)))
