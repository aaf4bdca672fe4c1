"""Detection targets, after FCOS (Tian et al. 2019): which cell answers for which box.

Cell (u, v) of stride s answers for the smallest box of those

* that contain it within 1.5 s of the box's centre (a box too small to hold any such cell takes the cell
  nearest to its centre: it would have no answer otherwise), and
* whose largest distance max(l, t, r, b) from the cell lies in the stride's range:
  s = 8: up to 48, s = 16: up to 96, s = 32: above 96 pixels; ranges fit pictures of 240 rows.

    l = u - x1, t = v - y1, r = x2 - u, b = y2 - v
    centre-ness = sqrt( min(l, r) / max(l, r) * min(t, b) / max(t, b) )
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from robust_perception.model.heads import DETECTION_STRIDES, cell_centres

RANGES = ((0.0, 48.0), (48.0, 96.0), (96.0, math.inf))
RADIUS = 1.5
TINY = 1e-3


class Targets(NamedTuple):
    """What each of the N cells should say, strides 8, 16, 32 in turn, row by row.

    Attributes:
        classes: int64 (B, N), 0 = nothing, 1..K.
        boxes: float32 (B, N, 4), xyxy of the box the cell answers for; zeros where there is none.
        centres: float32 (B, N), centre-ness in [0, 1]; 0 where there is none.
    """

    classes: Tensor
    boxes: Tensor
    centres: Tensor

    def to(self, device: torch.device) -> Targets:
        """The same on a device."""
        return Targets(*(column.to(device) for column in self))


class Cells(NamedTuple):
    """The cells of all levels: centres (N, 2), stride (N,), least and largest distance (N,)."""

    centres: Tensor
    stride: Tensor
    low: Tensor
    high: Tensor


def all_cells(size: tuple[int, int]) -> Cells:
    """Cells of a picture of `size` (H, W)."""
    centres: list[Tensor] = []
    stride: list[Tensor] = []
    low: list[Tensor] = []
    high: list[Tensor] = []
    for step, (least, largest) in zip(DETECTION_STRIDES, RANGES, strict=True):
        points = cell_centres(-(-size[0] // step), -(-size[1] // step), step)
        centres.append(points)
        for column, value in ((stride, float(step)), (low, least), (high, largest)):
            column.append(torch.full((len(points),), value))
    return Cells(torch.cat(centres), torch.cat(stride), torch.cat(low), torch.cat(high))


def assign(boxes: Sequence[Tensor], class_ids: Sequence[Tensor], size: tuple[int, int]) -> Targets:
    """Targets of a batch.

    Args:
        boxes: per sample float32 (n, 4), xyxy, pixels.
        class_ids: per sample int64 (n,), 1..K.
        size: (H, W) of the pictures.
    """
    cells = all_cells(size)
    rows = [_assign_one(b, c, cells) for b, c in zip(boxes, class_ids, strict=True)]
    return Targets(*(torch.stack(column) for column in zip(*rows, strict=True)))


def _assign_one(boxes: Tensor, class_ids: Tensor, cells: Cells) -> tuple[Tensor, Tensor, Tensor]:
    count = len(cells.stride)
    if len(boxes) == 0:
        return torch.zeros(count, dtype=torch.int64), torch.zeros(count, 4), torch.zeros(count)
    near = cells.centres[:, None] - boxes[None, :, :2]
    far = boxes[None, :, 2:] - cells.centres[:, None]
    sides = torch.cat([near, far], dim=-1)  # (N, n, 4): l, t, r, b
    inside = sides.amin(dim=-1) > 0
    offset = (cells.centres[:, None] - (boxes[:, :2] + boxes[:, 2:])[None] / 2).abs().amax(dim=-1)
    largest = sides.amax(dim=-1)
    fits = (largest > cells.low[:, None]) & (largest <= cells.high[:, None])
    answers = inside & fits & (offset < RADIUS * cells.stride[:, None])
    orphans = torch.nonzero(~answers.any(dim=0)).flatten().tolist()
    for index in orphans:
        side = float((boxes[index, 2:] - boxes[index, :2]).max()) / 2
        level = next(i for i, (_, high) in enumerate(RANGES) if side <= high)
        distance = offset[:, index] + torch.where(cells.stride == DETECTION_STRIDES[level], 0.0, torch.inf)
        answers[int(distance.argmin()), index] = True
    area = (boxes[:, 2:] - boxes[:, :2]).prod(dim=-1)
    cost = torch.where(answers, area[None].expand_as(answers), torch.full_like(largest, torch.inf))
    least, chosen = cost.min(dim=1)
    positive = torch.isfinite(least)
    classes = torch.where(positive, class_ids[chosen], torch.zeros_like(chosen))
    matched = torch.where(positive[:, None], boxes[chosen], torch.zeros(count, 4))
    own = sides[torch.arange(count), chosen].clamp(min=TINY)
    ratio = own.view(count, 2, 2)  # (l, t), (r, b)
    shape = (ratio.amin(dim=1) / ratio.amax(dim=1)).prod(dim=-1).sqrt()
    return classes, matched, torch.where(positive, shape, torch.zeros_like(shape))
