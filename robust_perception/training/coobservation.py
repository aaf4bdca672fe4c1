"""Which sensors were ever recorded together: a translation between two can be learnt only from such samples.

    observed[a, b] = some training sample has both a and b;  observed[a, a] = some sample has a

Symmetric. Data sets trained together may leave pairs that no sample has, such as depth of one and sound of
another: their translators learn nothing and must not be used.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from robust_perception.datasets import FolderDataset
from robust_perception.model.translation import Pair, pairs_of
from robust_perception.training.mixture import MixedDataset
from robust_perception.vocabulary import MODALITIES, Modality


def observed_together(
    dataset: FolderDataset | MixedDataset, modalities: Sequence[Modality] = MODALITIES
) -> npt.NDArray[np.bool_]:
    """The matrix above, bool (4, 4), in the order of `MODALITIES`; files are looked for, none is opened.

    Args:
        dataset: the training split.
        modalities: of the network; the rows and columns of others are False.
    """
    observed = np.zeros((len(MODALITIES), len(MODALITIES)), dtype=bool)
    for name in dataset.names:
        there = [m.position for m in modalities if dataset.path(m, name) is not None]
        observed[np.ix_(there, there)] = True
    return observed


def observed_pairs(
    dataset: FolderDataset | MixedDataset, modalities: Sequence[Modality] = MODALITIES
) -> frozenset[Pair]:
    """Pairs of different sensors that some training sample has together; see `observed_together`."""
    observed = observed_together(dataset, modalities)
    return frozenset(
        pair
        for pair in pairs_of(MODALITIES)
        if all(observed[a.position, b.position] for a in pair for b in pair)
    )
