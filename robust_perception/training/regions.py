"""Regions of a batch, whose vectors Robult's contrast compares.

On the grid of a latent, (h, w) cells of a picture (H, W):

    labelled sample     one region a class that is there: each cell weighs by the class's share of it
    unlabelled sample   blocks of 2 x 2 cells, of which none is known; the classifier gives probabilities

    background          not known either where the data folder does not label every class: the classifier
                        gives probabilities of background and of the classes that may hide in it

    v_r = sum_cells a_r x / sum_cells a_r              a_r >= 0 the area of region r in a cell

Pixels labelled 255 belong to no region. When there are more regions than asked for, an even choice is taken.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from robust_perception.model.alignment import Regions
from robust_perception.vocabulary import UNLABELLED

BLOCK = 2
LEAST_AREA = 0.25
"""Of a cell: a region that fills less of the grid says nothing."""


class RegionAreas(NamedTuple):
    """Where n regions of a batch lie.

    Attributes:
        sample: int64 (n,), index in the batch.
        area: float32 (n, h, w), share of each cell.
        regions: their classes.
    """

    sample: Tensor
    area: Tensor
    regions: Regions

    def pool(self, latent: Tensor) -> Tensor:
        """Vectors of the regions: (B, C, h, w) -> (n, C)."""
        weight = self.area / self.area.sum(dim=(1, 2), keepdim=True)
        return torch.einsum("nchw,nhw->nc", latent[self.sample], weight)


def class_areas(label: Tensor, classes: int, grid: tuple[int, int]) -> Tensor:
    """Share of each class in each cell: label int64 (B, H, W) -> float32 (B, classes, h, w)."""
    known = label != UNLABELLED
    truth = F.one_hot(torch.where(known, label, 0), classes).permute(0, 3, 1, 2) * known[:, None]
    return F.adaptive_avg_pool2d(truth.float(), grid)


@torch.no_grad()
def regions_of(
    label: Tensor, logits: Tensor, known: Tensor, grid: tuple[int, int], limit: int
) -> RegionAreas:
    """Regions of a batch.

    Args:
        label: int64 (B, H, W), 255 = unlabelled.
        logits: of the full pattern, (B, V, H, W).
        known: bool (B, V), the classes that the sample's data folder labels.
        grid: (h, w) of the latents.
        limit: largest number of regions.
    """
    classes = logits.shape[1]
    areas = class_areas(label, classes, grid)
    labelled = (label != UNLABELLED).flatten(1).any(dim=1)
    sample, kind = torch.nonzero(areas.sum(dim=(2, 3)) >= LEAST_AREA, as_tuple=True)
    area = areas[sample, kind]
    probability = F.one_hot(kind, classes).float()
    unsure = (kind == 0) & ~known.all(dim=1)[sample]
    if bool(unsure.any()):
        found = _hidden(logits, known, sample[unsure], area[unsure])
        kind, probability[unsure] = kind.masked_fill(unsure, -1), found
    blank = torch.nonzero(~labelled)[:, 0]
    if len(blank):
        rows, columns = -(-grid[0] // BLOCK), -(-grid[1] // BLOCK)
        blocks = torch.eye(rows * columns, device=label.device).reshape(-1, rows, columns)
        blocks = blocks.repeat_interleave(BLOCK, 1).repeat_interleave(BLOCK, 2)[:, : grid[0], : grid[1]]
        opinion = F.adaptive_avg_pool2d(torch.softmax(logits[blank].float(), dim=1), grid)
        weight = blocks / blocks.sum(dim=(1, 2), keepdim=True)
        found = torch.einsum("bvhw,rhw->brv", opinion, weight).flatten(0, 1)
        sample = torch.cat([sample, blank.repeat_interleave(len(blocks))])
        area = torch.cat([area, blocks.repeat(len(blank), 1, 1)])
        kind = torch.cat([kind, torch.full((len(found),), -1, device=label.device)])
        probability = torch.cat([probability, found])
    if len(sample) > limit:
        kept = torch.arange(limit, device=label.device) * len(sample) // limit
        sample, area, kind, probability = sample[kept], area[kept], kind[kept], probability[kept]
    return RegionAreas(sample, area, Regions(kind, probability))


def _hidden(logits: Tensor, known: Tensor, sample: Tensor, area: Tensor) -> Tensor:
    """Opinion on n regions of background, (n, V): none of the classes that their folders do label."""
    labelled = known[sample].clone()
    labelled[:, 0] = False
    possible = logits[sample].float().masked_fill(labelled[:, :, None, None], -torch.inf)
    opinion = F.adaptive_avg_pool2d(torch.softmax(possible, dim=1), (area.shape[1], area.shape[2]))
    return torch.einsum("nvhw,nhw->nv", opinion, area) / area.sum(dim=(1, 2))[:, None]
