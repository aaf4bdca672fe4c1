"""Which sensors a training sample shows.

    c ~ Uniform( non-empty subsets of what the sample really has )

The full pattern is not drawn more often: it has a pass of its own over the same batch (`PatternConfig`).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from robust_perception.vocabulary import Modality, Pattern


def random_pattern(available: Iterable[Modality], generator: np.random.Generator) -> Pattern:
    """A non-empty subset of `available`, all equally likely; ValueError when nothing is available."""
    sensors = tuple(available)
    chosen = int(generator.integers(1, 1 << len(sensors))) if sensors else 0
    return Pattern.of(m for i, m in enumerate(sensors) if chosen >> i & 1)
