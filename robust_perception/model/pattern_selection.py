"""Which pattern each sample of the running batch has, for layers that are not told by their arguments.

A convolution deep in an encoder takes a picture and nothing else. Whoever runs the network selects the
pattern around the run, and adapted layers look it up.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from robust_perception.model.errors import ModelError
from robust_perception.vocabulary import MODALITIES

ROWS = 1 << len(MODALITIES)
"""Rows of a full table; row = `Pattern.bits`."""


class PatternSelection:
    """Which pattern each sample of the running batch has; all adapters of a network look at one of these.

    Attributes:
        pattern: int64 (B,), bitmask of each sample, or None while none is selected.
        rows: bits of the patterns in the batch, each once; unknown, and empty, while a graph is traced.
        index: int64 (B,), position of each sample's pattern in `rows`.
    """

    def __init__(self) -> None:
        self.pattern: Tensor | None = None
        self.rows: tuple[int, ...] = ()
        self.index = torch.zeros(0, dtype=torch.int64)

    @contextlib.contextmanager
    def of(self, pattern: Tensor | None) -> Iterator[None]:
        """Select while the layers run.

        Args:
            pattern: int64 (B,), bitmasks 0..15, or None to leave the selection as it is.

        Raises:
            ModelError: another type, shape or bitmask.
        """
        before = self.pattern, self.rows, self.index
        if pattern is not None:
            self.pattern, (self.rows, self.index) = pattern, _rows_of(pattern)
        try:
            yield
        finally:
            self.pattern, self.rows, self.index = before


def _rows_of(pattern: Tensor) -> tuple[tuple[int, ...], Tensor]:
    if pattern.dtype is not torch.int64 or pattern.ndim != 1:
        msg = f"patterns are int64 (B,), got {pattern.dtype} {tuple(pattern.shape)}"
        raise ModelError(msg)
    if torch.compiler.is_compiling():
        return (), pattern
    found, index = torch.unique(pattern, return_inverse=True)
    rows = tuple(found.tolist())
    if not rows or rows[0] < 0 or rows[-1] >= ROWS:
        msg = f"patterns are one or more bitmasks from 0 to {ROWS - 1}, got {list(rows)}"
        raise ModelError(msg)
    return rows, index
