"""Batches of an epoch, each drawn from (seed, epoch, position) alone.

    order of epoch e                       drawn from rng(seed, e); see `order`
    crop and pattern of sample i           drawn from rng(seed, e, i)
      when it comes again in the epoch     drawn from rng(seed, e, i, how often it came before)

No state runs from one batch to the next, so that a run that was killed goes on with exactly the batches it
would have seen, and it makes no difference which process draws which part of a batch (`shards`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset

from robust_perception.datasets import DatasetError, FolderDataset
from robust_perception.training.augmentation import make_crop
from robust_perception.training.batch import Batch, stack
from robust_perception.training.config import TrainingConfig
from robust_perception.training.mixture import MixedDataset
from robust_perception.training.order import earlier_uses, epoch_order
from robust_perception.training.rarity import weights_by_rarity
from robust_perception.training.sampling import random_pattern
from robust_perception.training.supervision import without_labels
from robust_perception.vocabulary import Modality, Pattern


@dataclass(frozen=True)
class Draw:
    """A batch and the random pattern of each of its samples."""

    batch: Batch
    patterns: tuple[Pattern, ...]


class Loader:
    """The training split as batches; frames without any sensor of the network are left out.

    Args:
        dataset: the split.
        modalities: of the network.
        config: size, crops, batch, part of a batch with labels where they are few.
        seed: of the run.
        labelled: names of the samples whose labels count; the others come without label map, boxes and scene
            classes, and their crops lie anywhere. None = all.
        needs: frames that lack one of these sensors are left out too.
        shards: equal parts of a batch.
        own: the shards that are drawn here.
        workers: processes that draw ahead; 0 = a thread of this one.
    """

    def __init__(
        self,
        dataset: FolderDataset | MixedDataset,
        modalities: tuple[Modality, ...],
        config: TrainingConfig,
        seed: int,
        labelled: Collection[str] | None = None,
        *,
        needs: Pattern | None = None,
        shards: int = 1,
        own: range = range(1),
        workers: int = 0,
    ) -> None:
        self.dataset = MixedDataset.of(dataset)
        self.labelled = labelled
        self.modalities = modalities
        self.indices = np.array(
            [
                i
                for i, name in enumerate(dataset.names)
                if any(dataset.path(m, name) for m in modalities)
                and all(dataset.path(m, name) for m in needs or ())
            ],
            dtype=np.int64,
        )
        self.has_labels = np.array(
            [
                self.dataset.has_ground_truth(i) and (labelled is None or self.dataset.names[i] in labelled)
                for i in self.indices
            ],
            dtype=bool,
        )
        self.weights = self._weights(config.data.class_balance) if config.data.class_balance else None
        self.config = config
        self.seed = seed
        self.shards, self.own, self.workers = shards, own, workers

    @property
    def steps(self) -> int:
        """Batches of an epoch; a last one that would be smaller is left out unless it is the only one."""
        return max(1, len(self.indices) // self.config.optimiser.batch)

    def _weights(self, balance: float) -> npt.NDArray[np.float64]:
        """Of the samples with labels, by the classes these show."""
        names = [self.dataset.names[i] for i in self.indices[self.has_labels]]
        return weights_by_rarity([self.dataset.ground_truth(name) or () for name in names], balance)

    def epoch(self, number: int) -> Iterator[list[Draw]]:
        """The own shards of each batch of epoch `number`; the next are made while the last are learnt from.

        Raises:
            DatasetError: a frame cannot be read.
        """
        batch = min(self.config.optimiser.batch, len(self.indices))
        order = epoch_order(
            self.has_labels,
            batch,
            self.config.data.labelled_in_batch,
            np.random.default_rng([self.seed, number]),
            self.weights,
        )
        uses = earlier_uses(order).ravel()
        samples = self.indices[order.ravel()]
        size = batch // self.shards
        starts = [step * batch + shard * size for step in range(self.steps) for shard in self.own]
        parts = [slice(start, start + size) for start in starts]
        groups = [(samples[part].tolist(), uses[part].tolist()) for part in parts]
        ahead = self._by_processes(number, groups) if self.workers else self._by_thread(number, groups)
        for _ in range(self.steps):
            yield [next(ahead) for _ in self.own]

    def _by_thread(self, number: int, groups: list[tuple[list[int], list[int]]]) -> Iterator[Draw]:
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="loader") as pool:
            ahead = pool.submit(self.draw, number, *groups[0])
            for following in [*groups[1:], None]:
                draw = ahead.result()
                if following is not None:
                    ahead = pool.submit(self.draw, number, *following)
                yield draw

    def _by_processes(self, number: int, groups: list[tuple[list[int], list[int]]]) -> Iterator[Draw]:
        draws = DataLoader(
            _Draws(self, number, groups),
            batch_size=None,
            num_workers=self.workers,
            generator=torch.Generator(),  # else it would draw from the run's chance
        )
        for draw in draws:
            if isinstance(draw, DatasetError):
                raise draw
            yield draw

    def draw(self, number: int, indices: Sequence[int], uses: Sequence[int] = ()) -> Draw:
        """One batch of epoch `number`.

        Args:
            number: of the epoch.
            indices: of the samples.
            uses: how often each of them came before in the epoch; none of them did if left out.
        """
        crops, patterns = [], []
        for index, use in zip(indices, uses or [0] * len(indices), strict=True):
            generator = np.random.default_rng([self.seed, number, index, *([use] if use else [])])
            sample = self.dataset[index]
            if self.labelled is not None and self.dataset.names[index] not in self.labelled:
                sample = without_labels(sample)
            crop = make_crop(
                sample, self.modalities, self.config.data.size, self.config.augmentation, generator
            )
            crops.append(crop)
            patterns.append(random_pattern([m for m in self.modalities if m in crop.inputs], generator))
        known = [self.dataset.known_classes(index) for index in indices]
        batch = stack(crops, self.modalities, len(self.dataset.scene_names), known)
        return Draw(batch, tuple(patterns))


class _Draws(Dataset["Draw | DatasetError"]):
    """Draws of an epoch by position; an error is an answer, lest the worker wrap it in its traceback."""

    def __init__(self, loader: Loader, number: int, groups: list[tuple[list[int], list[int]]]) -> None:
        self._loader, self._number, self._groups = loader, number, groups

    def __len__(self) -> int:
        return len(self._groups)

    def __getitem__(self, position: int) -> Draw | DatasetError:
        try:
            return self._loader.draw(self._number, *self._groups[position])
        except DatasetError as error:
            return error
