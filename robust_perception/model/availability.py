"""Which sensors each sample has, read out of bitmasks.

A graph would make each flag of several operators on a single number. There are 16 patterns only: a graph's
flags are those of all of them, so that what is made of flags alone is a constant, and `pick` takes the row of
the pattern where flags meet pictures.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from robust_perception.model.pattern_selection import ROWS
from robust_perception.vocabulary import Modality

Flags = dict[Modality, Tensor]
"""Per sensor bool (B,)."""


def is_present(pattern: Tensor, modality: Modality) -> Tensor:
    """int64 (B,) bitmasks -> bool (B,). Division instead of a shift: every runtime has it."""
    return (pattern // (1 << modality.position)) % 2 == 1


def flags(pattern: Tensor, modalities: Iterable[Modality]) -> tuple[Flags, Tensor | None]:
    """Which sensors are there.

    Args:
        pattern: int64 (B,), bitmasks.
        modalities: of interest.

    Returns:
        The samples' flags and None; while a graph is traced those of all patterns, (16,), and the pattern,
        which is the row that counts.
    """
    exporting = torch.compiler.is_exporting()
    rows = torch.arange(ROWS, device=pattern.device) if exporting else pattern
    return {m: is_present(rows, m) for m in modalities}, pattern if exporting else None


def pick(values: Tensor, row: Tensor | None) -> Tensor:
    """What was made of `flags`, (B, ...) or (16, ...), -> the samples', (B, ...)."""
    return values if row is None else values.index_select(0, row)


def pick_map(values: Tensor, row: Tensor | None) -> Tensor:
    """Like `pick`, of one value a sample -> (B, 1, 1, 1)."""
    return pick(values[:, None, None, None], row)
