"""How much oftener samples come whose classes are rare.

    f_c = part of the labelled samples that show class c
    w_i = max over the classes c of sample i of f_c^(-g),  1 where it shows none;  g = `data.class_balance`

With g = 0 all come equally often; with g = 1 and one class a sample, every class does. g = 1/2 is the square
root of LVIS (Gupta et al. 2019), without its threshold: what counts here are ratios, since an epoch stays as
long as it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt


def weights_by_rarity(classes: Sequence[Collection[int]], balance: float) -> npt.NDArray[np.float64]:
    """Weights of labelled samples.

    Args:
        classes: per sample the foreground classes it shows.
        balance: g, in [0, 1].

    Returns:
        float64 (n,), at least 1.
    """
    shown = Counter(c for each in classes for c in set(each))
    rarity = {c: (len(classes) / count) ** balance for c, count in shown.items()}
    return np.array([max((rarity[c] for c in each), default=1.0) for each in classes])


def drawn(
    weights: npt.NDArray[np.float64], count: int, generator: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Draw samples in proportion to their weights, each as often as that says but for rounding.

    Args:
        weights: positive, (n,).
        count: draws.
        generator: the only source of chance.

    Returns:
        int64 (count,), indices in a random order; sample i comes count w_i / sum(w) times, but for rounding.
    """
    until = np.cumsum(weights) / weights.sum() * count
    until[-1] = count  # whatever the sum's last bits are
    times = np.diff(np.floor(until + generator.random()), prepend=0.0).astype(np.int64)
    return generator.permutation(np.repeat(np.arange(weights.size), times))
