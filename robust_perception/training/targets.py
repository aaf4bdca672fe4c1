"""Detection targets, after FCOS (Tian et al. 2019): which cell answers for which box.

Cell (u, v) of stride s answers for the smallest box of those

* that contain it within 1.5 s of the box's centre, and
* whose largest distance max(l, t, r, b) from the cell lies in the stride's range:
  s = 8: up to 48, s = 16: up to 96, s = 32: above 96 pixels; ranges fit pictures of 240 rows.

A box of which this leaves no cell within s / 2 of its centre, as a narrow one between two columns of cells,
has no answer of use: the cell nearest to its centre answers for it too, at the stride in whose range half its
longer side lies.

    l = u - x1, t = v - y1, r = x2 - u, b = y2 - v
    centre-ness = sqrt( min(l, r) / max(l, r) * min(t, b) / max(t, b) )

with the edges of a box narrower or lower than 2 s moved apart to that length [ours]: the cells of such a box
may all lie at its edge or beside it, and would be worth next to nothing. Its nearest cell is worth 1/3 at
least so, and the score, a product with the centre-ness, can become high enough to publish the box.
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
UNKNOWN = -1
"""Class of a cell that answers for no box where nobody looked for any."""


class Targets(NamedTuple):
    """What each of the N cells should say, strides 8, 16, 32 in turn, row by row.

    Attributes:
        classes: int64 (B, N), 0 = nothing, 1..K, `UNKNOWN` = nobody knows.
        boxes: float32 (B, N, 4), xyxy of the box the cell answers for; zeros where there is none.
        centres: float32 (B, N), centre-ness in [0, 1]; 0 where there is none.
    """

    classes: Tensor
    boxes: Tensor
    centres: Tensor

    def to(self, device: torch.device) -> Targets:
        """The same on a device."""
        return Targets(*(column.to(device) for column in self))

    def unknown_in(self, unsearched: Tensor) -> Targets:
        """The same, but nothing is said of cells without a box in these pixels, bool (B, H, W)."""
        height, width = unsearched.shape[1:]
        levels = [(-(-height // s), -(-width // s), s) for s in DETECTION_STRIDES]
        centres = torch.cat([cell_centres(*level, unsearched.device) for level in levels]).long()
        # The last cells of a picture that is no multiple of their stride may have their centre outside.
        column, row = centres[:, 0].clamp(max=width - 1), centres[:, 1].clamp(max=height - 1)
        hidden = (self.classes == 0) & unsearched[:, row, column]
        return self._replace(classes=self.classes.masked_fill(hidden, UNKNOWN))


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
    central = answers & (offset <= cells.stride[:, None] / 2)
    orphans = torch.nonzero(~central.any(dim=0)).flatten().tolist()
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
    near_own, far_own = sides[torch.arange(count), chosen].view(count, 2, 2).unbind(dim=1)  # (l, t), (r, b)
    half = torch.maximum((near_own + far_own) / 2, cells.stride[:, None])
    aside = (near_own - far_own).abs() / 2
    shape = ((half - aside) / (half + aside)).clamp(min=0.0).prod(dim=-1).sqrt()
    return classes, matched, torch.where(positive, shape, torch.zeros_like(shape))
