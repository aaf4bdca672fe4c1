"""The order in which an epoch shows its samples, and how often those with labels come.

    labelled share of the data >= s     a permutation, cut into batches
    labelled share of the data <  s     every batch of b: ceil(s b) with labels, spread evenly over it, the
                                        others without; those with labels in one permutation after another

Few labels are seen many times in an epoch that way, each time as another crop under another pattern, and no
batch is without any. Drawn evenly, a twentieth of the labels would leave two batches of eight out of three
without supervision.

With weights (`rarity`) samples with labels take the places of such samples in proportion to them: some come
more than once, others not at all. An epoch is as long as without.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from robust_perception.training.rarity import drawn


def epoch_order(
    labelled: npt.NDArray[np.bool_],
    batch: int,
    share: float,
    generator: np.random.Generator,
    weights: npt.NDArray[np.float64] | None = None,
) -> npt.NDArray[np.int64]:
    """Samples of each batch of an epoch.

    Args:
        labelled: bool (n,), which samples have labels; n > 0.
        batch: samples of a batch, at most n.
        share: s, in [0, 1]: part of every batch with labels where a smaller part of the data has any; of no
            effect where none has, or at least s.
        generator: of the epoch.
        weights: of the samples with labels, in their order; None = all alike.

    Returns:
        int64 (n // batch, batch), indices of samples; a last batch that would be smaller is left out.
    """
    count = labelled.size
    steps = count // batch
    known = np.flatnonzero(labelled)
    if not 0 < known.size < share * count:
        order = generator.permutation(count)[: steps * batch]
        if weights is not None and known.size:
            places = np.flatnonzero(labelled[order])
            order[places] = known[drawn(weights, places.size, generator)]
        return order.reshape(steps, batch)
    each = math.ceil(share * batch)
    if weights is None:
        rounds = math.ceil(steps * each / known.size)
        often = np.concatenate([generator.permutation(known) for _ in range(rounds)])[: steps * each]
    else:
        often = known[drawn(weights, steps * each, generator)]
    once = generator.permutation(np.flatnonzero(~labelled))[: steps * (batch - each)]
    with_labels = np.zeros(batch, dtype=bool)
    with_labels[np.arange(each) * batch // each] = True
    order = np.empty((steps, batch), dtype=np.int64)
    order[:, with_labels] = often.reshape(steps, each)
    order[:, ~with_labels] = once.reshape(steps, batch - each)
    return order


def earlier_uses(order: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How often the sample at each place of an order came before it in that order; of the order's shape."""
    flat = order.ravel()
    by_sample = np.argsort(flat, kind="stable")
    ordered = flat[by_sample]
    first = np.searchsorted(ordered, ordered)
    uses = np.empty(flat.size, dtype=np.int64)
    uses[by_sample] = np.arange(flat.size) - first
    return uses.reshape(order.shape)
