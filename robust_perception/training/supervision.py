"""Which samples' labels count when only a part of them may be used.

    order: as long as a class has no sample yet, for the rarest such class the sample that shows it and most
           others of them; when every class has one, the rest at random
    labelled(share) = the first max(1, round(share N)) of that order

The order does not depend on the share, so that 1 % lies inside 5 % inside 10 %: what more labels bring is not
mixed up with which ones they are.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from robust_perception.coco_boxes import NO_BOXES
from robust_perception.datasets import Sample
from robust_perception.training.errors import ConfigError
from robust_perception.training.mixture import MixedDataset
from robust_perception.vocabulary import Modality

_STREAM = 0x1ABE1
"""Keeps this choice apart from the loader's, which draws from the same seed."""


def labelled_subset(present: Mapping[str, Collection[int]], share: float, seed: int) -> frozenset[str]:
    """The names whose labels count.

    Args:
        present: name -> foreground classes that its labels show, for every sample that has labels.
        share: part of them, in (0, 1].
        seed: the same gives the same order.

    Returns:
        max(1, round(share * len(present))) names; none of none. For one seed a smaller share gives a subset
        of a larger one's. Every class that occurs has a sample in it once there are enough of them.

    Raises:
        ConfigError: the share is outside (0, 1].
    """
    if not 0.0 < share <= 1.0:
        msg = f"share of labelled samples: expected a value in (0, 1], got {share!r}"
        raise ConfigError(msg)
    if not present:
        return frozenset()
    return frozenset(_order(present, seed)[: max(1, round(share * len(present)))])


def labelled_names(
    dataset: MixedDataset, modalities: Sequence[Modality], share: float, seed: int
) -> frozenset[str] | None:
    """The names whose labels count out of a training split; None, and no file read, for a share of 1.

    Args:
        dataset: the split.
        modalities: of the network; frames with none of them are never drawn and do not count.
        share: part of the samples that have labels, in (0, 1].
        seed: of the run.

    Raises:
        ConfigError: the share is outside (0, 1].
        DatasetError: a label map cannot be read.
    """
    if share == 1.0:
        return None
    seen = (name for name in dataset.names if any(dataset.path(m, name) for m in modalities))
    truth = {name: dataset.ground_truth(name) for name in seen}
    return labelled_subset({name: found for name, found in truth.items() if found is not None}, share, seed)


def without_labels(sample: Sample) -> Sample:
    """The sample as if nobody had ever looked at it: no label map, no boxes, no scene classes."""
    return dataclasses.replace(sample, label=None, boxes=None, class_ids=None, scene=None, crowds=NO_BOXES)


def _order(present: Mapping[str, Collection[int]], seed: int) -> list[str]:
    names = sorted(present)
    generator = np.random.default_rng([seed, _STREAM])
    left = [names[i] for i in generator.permutation(len(names))]
    counts = Counter(c for name in names for c in set(present[name]))
    order: list[str] = []
    uncovered = set(counts)
    while uncovered:
        rarest = min(uncovered, key=lambda c: (counts[c], c))
        # max keeps the first of equals: chance decides among them.
        chosen = max(
            (name for name in left if rarest in present[name]),
            key=lambda name: len(uncovered & set(present[name])),
        )
        left.remove(chosen)
        order.append(chosen)
        uncovered -= set(present[chosen])
    return order + left
