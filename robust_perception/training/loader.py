"""Batches of an epoch, each drawn from (seed, epoch, position) alone.

    order of epoch e           permutation drawn from rng(seed, e)
    crop and pattern of i      drawn from rng(seed, e, i)

No state runs from one batch to the next, so that a run that was killed goes on with exactly the batches it
would have seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from robust_perception.datasets import FolderDataset
from robust_perception.training.augmentation import make_crop
from robust_perception.training.batch import Batch, stack
from robust_perception.training.config import TrainingConfig
from robust_perception.training.sampling import random_pattern
from robust_perception.vocabulary import Modality, Pattern


@dataclass(frozen=True)
class Draw:
    """A batch and the random pattern of each of its samples."""

    batch: Batch
    patterns: tuple[Pattern, ...]


class Loader:
    """The training split as batches.

    Args:
        dataset: the split.
        modalities: of the network.
        config: size, crops, batch.
        seed: of the run.
    """

    def __init__(
        self, dataset: FolderDataset, modalities: tuple[Modality, ...], config: TrainingConfig, seed: int
    ) -> None:
        self.dataset = dataset
        self.modalities = modalities
        self.config = config
        self.seed = seed

    @property
    def steps(self) -> int:
        """Batches of an epoch; a last one that would be smaller is left out unless it is the only one."""
        return max(1, len(self.dataset) // self.config.optimiser.batch)

    def epoch(self, number: int) -> Iterator[Draw]:
        """The batches of epoch `number`; the next is made while the last is learnt from."""
        order = np.random.default_rng([self.seed, number]).permutation(len(self.dataset))
        size = min(self.config.optimiser.batch, len(order))
        groups = [order[i * size : (i + 1) * size].tolist() for i in range(self.steps)]
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="loader") as pool:
            ahead = pool.submit(self.draw, number, groups[0])
            for following in [*groups[1:], None]:
                draw = ahead.result()
                if following is not None:
                    ahead = pool.submit(self.draw, number, following)
                yield draw

    def draw(self, number: int, indices: list[int]) -> Draw:
        """One batch of epoch `number`."""
        crops, patterns = [], []
        for index in indices:
            generator = np.random.default_rng([self.seed, number, index])
            sample = self.dataset[index]
            crop = make_crop(
                sample, self.modalities, self.config.data.size, self.config.augmentation, generator
            )
            crops.append(crop)
            patterns.append(random_pattern([m for m in self.modalities if m in crop.inputs], generator))
        return Draw(stack(crops, self.modalities, len(self.dataset.scene_names)), tuple(patterns))
