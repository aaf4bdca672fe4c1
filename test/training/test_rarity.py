"""Rare classes come oftener, in proportion, and an epoch stays as long as it is."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robust_perception.training.rarity import drawn, weights_by_rarity

CLASSES = st.lists(st.sets(st.integers(1, 6)), min_size=1, max_size=40)


def test_weights_are_the_inverse_frequency_of_the_rarest_class_shown() -> None:
    classes = [{1}, {1}, {1, 2}, set()]
    assert weights_by_rarity(classes, 1.0).tolist() == pytest.approx([4 / 3, 4 / 3, 4.0, 1.0])
    assert weights_by_rarity(classes, 0.5).tolist() == pytest.approx([math.sqrt(4 / 3)] * 2 + [2.0, 1.0])
    assert weights_by_rarity(classes, 0.0).tolist() == [1.0] * 4


@given(classes=CLASSES, balance=st.floats(0, 1))
def test_a_rarer_class_never_weighs_less(classes: list[set[int]], balance: float) -> None:
    weights = weights_by_rarity(classes, balance)
    assert weights.shape == (len(classes),)
    assert (weights >= 1.0).all()
    shown = {c: sum(c in each for each in classes) for each in classes for c in each}
    rarest = [min((shown[c] for c in each), default=len(classes)) for each in classes]
    for one in range(len(classes)):
        for other in range(len(classes)):
            if rarest[one] <= rarest[other]:
                assert weights[one] >= weights[other] - 1e-12


@given(
    weights=st.lists(st.floats(0.1, 50), min_size=1, max_size=40),
    count=st.integers(0, 200),
    seed=st.integers(0, 2**31),
)
def test_each_is_drawn_as_often_as_its_weight_says(weights: list[float], count: int, seed: int) -> None:
    values = np.array(weights)
    times = np.bincount(drawn(values, count, np.random.default_rng(seed)), minlength=values.size)
    assert times.sum() == count
    assert (np.abs(times - count * values / values.sum()) < 1 + 1e-6).all()


def test_what_is_rounded_changes_from_draw_to_draw_and_is_right_on_average() -> None:
    generator, weights = np.random.default_rng(3), np.array([1.0, 2.0, 0.5, 0.25])
    draws = [np.bincount(drawn(weights, 6, generator), minlength=4) for _ in range(4000)]
    assert np.mean(draws, axis=0) == pytest.approx(6 * weights / weights.sum(), abs=0.03)
    order = [drawn(weights, 6, generator).tolist() for _ in range(20)]
    assert len(set(map(tuple, order))) > 10


def test_one_class_a_sample_comes_about_as_often_as_every_other() -> None:
    classes = [{1}] * 30 + [{2}] * 6 + [{3}] * 4
    picked = drawn(weights_by_rarity(classes, 1.0), 120, np.random.default_rng(0))
    assert [int(np.isin(picked, range(*ends)).sum()) for ends in ((0, 30), (30, 36), (36, 40))] == [40] * 3
