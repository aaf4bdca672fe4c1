"""Patterns are drawn evenly from what a sample has."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from robust_perception.training.sampling import random_pattern
from robust_perception.vocabulary import MODALITIES, Modality, patterns_of

AVAILABLE = st.sets(st.sampled_from(MODALITIES), min_size=1)


@given(available=AVAILABLE, seed=st.integers(0, 2**32 - 1))
def test_only_what_is_available_and_the_same_for_the_same_seed(available: set[Modality], seed: int) -> None:
    sensors = sorted(available, key=MODALITIES.index)
    drawn = random_pattern(sensors, np.random.default_rng(seed))
    assert set(drawn) <= available
    assert drawn == random_pattern(iter(sensors), np.random.default_rng(seed))


@pytest.mark.parametrize(
    "available", [MODALITIES, (Modality.RGB, Modality.THERMAL), (Modality.DEPTH,)], ids=len
)
def test_every_subset_is_as_likely_as_the_other(available: tuple[Modality, ...]) -> None:
    generator = np.random.default_rng(3)
    counts = Counter(random_pattern(available, generator) for _ in range(6000))
    assert set(counts) == set(patterns_of(available))
    if len(counts) > 1:
        assert stats.chisquare(list(counts.values())).pvalue > 1e-4


def test_nothing_available_is_an_error() -> None:
    with pytest.raises(ValueError, match="got 0"):
        random_pattern([], np.random.default_rng(0))
