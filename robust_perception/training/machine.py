"""What computes a run; nothing of it is part of the recipe, so none of it is in the configuration."""

from __future__ import annotations

from dataclasses import dataclass

from robust_perception.training.ranks import ALONE, Ranks


@dataclass(frozen=True)
class Machine:
    """Processes and their means.

    Attributes:
        ranks: the processes that train together, and this one's device.
        workers: processes that draw batches ahead for this one; 0 = a thread of it.
        compiled: whether the network goes through torch.compile; see `acceleration`.
    """

    ranks: Ranks = ALONE
    workers: int = 0
    compiled: bool = False
