"""A step in parts that add up to the same thing wherever they are computed.

A batch of b samples is cut into S shards of b / S. Losses are formed of a shard by itself, and

    gradient of the step = 1/S sum over shards  d L(shard) / d weights

The running statistics of norms move from where the step began by each shard alone, and their mean is kept.
Process r of W takes the shards r S/W to (r + 1) S/W - 1, so a run of S shards gives the same weights on
every W that divides S, up to the order in which floats are summed: it may be killed on eight GPUs and go on
upon one. With S > 1 norms and losses see b / S samples at a time, which is another recipe than S = 1.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from robust_perception.training.errors import ConfigError
from robust_perception.training.ranks import Ranks


def own_shards(shards: int, ranks: Ranks) -> range:
    """Those that this process computes.

    Raises:
        ConfigError: they cannot be dealt out evenly.
    """
    if shards % ranks.count:
        msg = (
            f"optimiser.shards: expected a multiple of the {ranks.count} processes that train together, "
            f"got {shards}; each process computes whole shards of a batch"
        )
        raise ConfigError(msg)
    each = shards // ranks.count
    return range(ranks.index * each, (ranks.index + 1) * each)


@torch.no_grad()
def sum_gradients(parameters: Iterable[nn.Parameter], ranks: Ranks) -> None:
    """Replace every gradient by its sum over the processes.

    A parameter that no process has a gradient for keeps none, so that the optimiser leaves it alone there
    too; one that some process has a gradient for gets one everywhere.
    """
    if ranks.count == 1:
        return
    parameters = list(parameters)
    has = torch.tensor([p.grad is not None for p in parameters], dtype=torch.float32)
    ranks.sum_([has])
    moved = [p for p, any_has in zip(parameters, has.tolist(), strict=True) if any_has]
    for parameter in moved:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    ranks.sum_([p.grad for p in moved if p.grad is not None])


class NormStatistics:
    """Running statistics of a network's norms over the shards of a step.

    Args:
        network: whose.
        shards: of a step; nothing is done when there is one.
        ranks: who computes them.
    """

    def __init__(self, network: nn.Module, shards: int, ranks: Ranks) -> None:
        self._shards, self._ranks = shards, ranks
        norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        tracked = [m for m in norms if m.running_mean is not None and m.running_var is not None]
        self._moving: list[Tensor] = []
        for norm in tracked if shards > 1 else []:
            assert norm.running_mean is not None and norm.running_var is not None
            self._moving += [norm.running_mean, norm.running_var]
        self._start = [torch.zeros_like(tensor) for tensor in self._moving]
        self._sum = [torch.zeros_like(tensor) for tensor in self._moving]
        self._counts: list[Tensor] = []
        for norm in tracked if shards > 1 else []:
            if norm.num_batches_tracked is not None:
                self._counts.append(norm.num_batches_tracked)
        self._counted = [torch.zeros_like(count) for count in self._counts]

    @torch.no_grad()
    def begin_step(self) -> None:
        """Remember where the step begins."""
        for start, total, moving in zip(self._start, self._sum, self._moving, strict=True):
            start.copy_(moving)
            total.zero_()
        for counted, count in zip(self._counted, self._counts, strict=True):
            counted.copy_(count)

    @torch.no_grad()
    def end_shard(self) -> None:
        """Take in where a shard moved them, and go back."""
        for start, total, moving in zip(self._start, self._sum, self._moving, strict=True):
            total.add_(moving)
            moving.copy_(start)
        for counted, count in zip(self._counted, self._counts, strict=True):
            count.copy_(counted)  # a norm whose sensor the shard lacks has not counted

    @torch.no_grad()
    def end_step(self) -> None:
        """Set them to the mean of all shards of all processes."""
        self._ranks.sum_(self._sum)
        for total, moving in zip(self._sum, self._moving, strict=True):
            moving.copy_(total / self._shards)
        for count in self._counts:
            count.add_(1)
