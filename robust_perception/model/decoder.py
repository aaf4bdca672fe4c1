"""A light top-down pyramid decoder (after Lin et al. 2017, feature pyramid networks).

    d5 = conv3x3( y5 );   d_l = conv3x3( y_l + up2(d_{l+1}) )  for l = 4, 3

`up2` takes the nearest pixel, cut to the finer level's size, which is exact under SAME padding. p2 goes to
the segmentation as it is: a convolution there would cost as much as all of these.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from robust_perception.model.encoders import LEVELS, ChannelNorm


class PyramidDecoder(nn.Module):
    """Carries what the coarse levels know down to the fine ones.

    Args:
        width: C, channels of p3, p4, p5.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), ChannelNorm(width), nn.ReLU())
            for _ in LEVELS[1:]
        )

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Fused p3..p5, each (B, C, h, w), fine to coarse -> decoded, same shapes and order."""
        decoded: list[Tensor] = []
        coarser: Tensor | None = None
        for level, conv in zip(reversed(levels), self.convs, strict=True):
            x = level
            if coarser is not None:
                height, width = level.shape[-2:]
                x = x + F.interpolate(coarser, scale_factor=2.0, mode="nearest")[..., :height, :width]
            coarser = conv(x)
            decoded.append(coarser)
        return decoded[::-1]
