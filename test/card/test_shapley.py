"""The Shapley value by what defines it."""

from __future__ import annotations

import math
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robust_perception.card.errors import CardError
from robust_perception.card.shapley import shapley
from robust_perception.vocabulary import ALL_PATTERNS, MODALITIES, Modality, Pattern, patterns_of

qualities = st.lists(st.floats(0, 100), min_size=15, max_size=15).map(
    lambda values: dict(zip(ALL_PATTERNS, values, strict=True))
)


@given(qualities)
def test_shares_add_up_to_the_quality_with_all(values: dict[Pattern, float]) -> None:
    assert sum(shapley(values, MODALITIES).values()) == pytest.approx(values[ALL_PATTERNS[0]], abs=1e-9)


@given(qualities)
@settings(max_examples=20)
def test_it_is_the_mean_over_all_orders_of_joining(values: dict[Pattern, float]) -> None:
    joined = dict.fromkeys(MODALITIES, 0.0)
    orders = list(permutations(MODALITIES))
    for order in orders:
        before = 0.0
        for count, sensor in enumerate(order, start=1):
            now = values[Pattern.of(order[:count])]
            joined[sensor] += (now - before) / len(orders)
            before = now
    for sensor, share in shapley(values, MODALITIES).items():
        assert share == pytest.approx(joined[sensor], abs=1e-9)


def test_who_adds_nothing_gets_nothing_and_equals_get_the_same() -> None:
    pair = [Modality.RGB, Modality.DEPTH, Modality.AUDIO]
    # rgb and depth are each worth 40 and nothing more together; sound never matters
    values = {p: 40.0 if Modality.RGB in p or Modality.DEPTH in p else 0.0 for p in patterns_of(pair)}
    assert shapley(values, pair) == pytest.approx(
        {Modality.RGB: 20.0, Modality.DEPTH: 20.0, Modality.AUDIO: 0.0}
    )


def test_a_sensor_the_others_do_better_without_is_below_zero() -> None:
    pair = [Modality.RGB, Modality.AUDIO]
    values = {Pattern.of(pair): 50.0, Pattern.parse("rgb"): 60.0, Pattern.parse("audio"): 0.0}
    assert shapley(values, pair) == pytest.approx({Modality.RGB: 55.0, Modality.AUDIO: -5.0})


@pytest.mark.parametrize("missing", [None, math.nan])
def test_a_pattern_that_is_not_known_is_named(missing: float | None) -> None:
    values = dict.fromkeys(ALL_PATTERNS, 1.0)
    values.pop(Pattern.parse("depth+audio"))
    if missing is not None:
        values[Pattern.parse("depth+audio")] = missing
    with pytest.raises(CardError, match=r"got none for depth\+audio"):
        shapley(values, MODALITIES)
