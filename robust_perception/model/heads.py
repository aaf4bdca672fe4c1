"""Heads: segmentation, anchor-free detection (after FCOS, Tian et al. 2019) and scene.

Segmentation. Every level has its say, and so its own short way for the gradient; N_l are 1x1 convolutions to
the width of p2, `up2` is bilinear:

    s5 = N_5 d5;   s_l = N_l d_l + up2( s_{l+1} )  for l = 4, 3;   s2 = d2 + up2( s3 )

then a 3x3 convolution, class logits, bilinear upsampling to the input's size.

Detection. At each cell (i, j) of strides s = 8, 16, 32, whose centre is u = (j + 1/2) s, v = (i + 1/2) s:

    t      = s exp(r)                        distances to the left, top, right, bottom edge, pixels
    box    = [u - t_l, v - t_t, u + t_r, v + t_b]
    score  = sqrt( sigmoid(class logit) sigmoid(centre-ness logit) )

Scene. Independent probabilities from the sound's vector and the evidence of p3 and p5, averaged over pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robust_perception.model.encoders import LEVELS, ChannelNorm

DETECTION_STRIDES = (8, 16, 32)
RARE = 0.01
"""Initial probability of an object in a cell: without it the first steps drown in the background's loss."""
LARGEST_LOG_DISTANCE = 5.0


class Detections(NamedTuple):
    """Raw detection output over all N cells, strides 8, 16, 32 in turn, row by row.

    Attributes:
        class_logits: float32 (B, N, K).
        log_distances: float32 (B, N, 4), ln of distance / stride to left, top, right, bottom.
        centre_logits: float32 (B, N).
        boxes: float32 (B, N, 4), xyxy, pixels.
    """

    class_logits: Tensor
    log_distances: Tensor
    centre_logits: Tensor
    boxes: Tensor


def cell_centres(height: int, width: int, stride: int, device: torch.device | None = None) -> Tensor:
    """Centres (u, v) of a level's cells in pixels, float32 (h w, 2)."""
    rows, columns = torch.arange(height, device=device), torch.arange(width, device=device)
    v, u = torch.meshgrid(rows, columns, indexing="ij")
    return (torch.stack([u, v], dim=-1).reshape(-1, 2).float() + 0.5) * stride


def upsample(coarse: Tensor, size: Sequence[int]) -> Tensor:
    """Bring maps (B, C, h, w) to another size (H, W), bilinear."""
    return F.interpolate(coarse, size=tuple(size), mode="bilinear", align_corners=False)


class SegmentationHead(nn.Module):
    """Class logits of every pixel of stride 4; `upsample` brings them to the images' size.

    Args:
        width: C, channels of p3, p4, p5.
        fine_width: C_2, channels of p2.
        classes: of the label map.
    """

    def __init__(self, width: int, fine_width: int, classes: int) -> None:
        super().__init__()
        self.narrow = nn.ModuleList(nn.Conv2d(width, fine_width, 1) for _ in LEVELS[1:])
        self.conv = nn.Sequential(
            nn.Conv2d(fine_width, fine_width, 3, padding=1, bias=False), ChannelNorm(fine_width), nn.ReLU()
        )
        self.classify = nn.Conv2d(fine_width, classes, 1)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """p2 (B, C_2, h, w) and p3..p5 (B, C, h, w) -> logits, float32 (B, classes, H / 4, W / 4)."""
        finest, *coarser = levels
        total: Tensor | None = None
        for level, narrow in zip(reversed(coarser), reversed(self.narrow), strict=True):
            said = narrow(level)
            total = said if total is None else said + upsample(total, said.shape[-2:])
        assert total is not None  # LEVELS are four
        h = self.conv(finest + upsample(total, finest.shape[-2:]))
        if torch.compiler.is_exporting() and isinstance(self.classify, nn.Conv2d):
            # As a product, where the norm has its channels last: ONNX Runtime then needs no blocks of 16
            # channels for ten classes, which cost as much again at the images' size.
            last = F.linear(h.permute(0, 2, 3, 1), self.classify.weight[:, :, 0, 0], self.classify.bias)
            return last.permute(0, 3, 1, 2)
        logits: Tensor = self.classify(h)
        return logits


class DetectionHead(nn.Module):
    """Objects at strides 8, 16 and 32; one tower serves all levels."""

    def __init__(self, width: int, foreground: int) -> None:
        super().__init__()
        self.foreground = foreground
        self.tower = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False), ChannelNorm(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False), ChannelNorm(width), nn.ReLU(),
        )  # fmt: skip
        self.predict = nn.Conv2d(width, foreground + 5, 3, padding=1)
        nn.init.normal_(self.predict.weight, std=0.01)
        bias = torch.zeros(foreground + 5)
        bias[:foreground] = -math.log((1.0 - RARE) / RARE)
        self.predict.bias = nn.Parameter(bias)
        self.scales = nn.Parameter(torch.ones(len(DETECTION_STRIDES)))

    def forward(self, levels: Sequence[Tensor]) -> Detections:
        """Decoded p3, p4, p5 -> detections."""
        classes, distances, centres, boxes = [], [], [], []
        for index, (level, stride) in enumerate(zip(levels, DETECTION_STRIDES, strict=True)):
            height, width = level.shape[-2:]
            out = self.predict(self.tower(level)).permute(0, 2, 3, 1)
            out = out.reshape(level.shape[0], height * width, self.foreground + 5)
            log_distance = (out[..., self.foreground : self.foreground + 4] * self.scales[index]).clamp(
                max=LARGEST_LOG_DISTANCE
            )
            cells = cell_centres(height, width, stride, level.device)
            distance = log_distance.exp() * stride
            boxes.append(torch.cat([cells - distance[..., :2], cells + distance[..., 2:]], dim=-1))
            classes.append(out[..., : self.foreground])
            centres.append(out[..., -1])
            distances.append(log_distance)
        return Detections(
            torch.cat(classes, 1), torch.cat(distances, 1), torch.cat(centres, 1), torch.cat(boxes, 1)
        )


class SceneHead(nn.Module):
    """Which sounds and events there are."""

    def __init__(self, width: int, audio_width: int, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2 * width + audio_width, width), nn.ReLU(), nn.Linear(width, classes)
        )

    def forward(self, levels: Sequence[Tensor], audio: Tensor | None) -> Tensor:
        """Decoded p3..p5 and the sound's vector (B, D) -> logits (B, S)."""
        pooled = [levels[-1].mean(dim=(2, 3)), levels[0].mean(dim=(2, 3))]
        logits: Tensor = self.layers(torch.cat(pooled + ([audio] if audio is not None else []), dim=1))
        return logits
