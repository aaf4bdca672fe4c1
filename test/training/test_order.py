"""Where labels are few every batch has its share of them; else only rare classes come twice in an epoch."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robust_perception.training.order import earlier_uses, epoch_order

FLAGS = st.lists(st.booleans(), min_size=1, max_size=60)


@given(flags=FLAGS, batch=st.integers(1, 16), share=st.floats(0, 1), seed=st.integers(0, 2**31))
def test_what_an_epoch_shows(flags: list[bool], batch: int, share: float, seed: int) -> None:
    labelled = np.array(flags)
    batch = min(batch, labelled.size)
    order = epoch_order(labelled, batch, share, np.random.default_rng(seed))
    assert order.shape == (labelled.size // batch, batch)
    again = epoch_order(labelled, batch, share, np.random.default_rng(seed))
    assert np.array_equal(order, again)
    counts = Counter(order.ravel().tolist())
    assert all(count == 1 for sample, count in counts.items() if not labelled[sample])
    if 0 < labelled.sum() < share * labelled.size:
        assert set(labelled[order].sum(axis=1)) == {math.ceil(share * batch)}
        often = [counts[sample] for sample in np.flatnonzero(labelled).tolist()]
        assert max(often) - min(often) <= 1, "each as often as the others"
    else:
        assert set(counts.values()) == {1}


@given(flags=FLAGS, seed=st.integers(0, 2**31))
def test_enough_labels_or_none_at_all_leave_the_order_to_chance(flags: list[bool], seed: int) -> None:
    labelled = np.array(flags)
    plain = np.random.default_rng(seed).permutation(labelled.size).reshape(1, -1)
    for known in (labelled, np.zeros_like(labelled), np.ones_like(labelled)):
        share = known.mean()
        assert np.array_equal(epoch_order(known, known.size, share, np.random.default_rng(seed)), plain), (
            share
        )


@pytest.mark.parametrize(
    ("batch", "shards", "share"), [(8, 2, 0.5), (8, 4, 0.5), (8, 2, 0.25), (12, 3, 0.75)]
)
def test_every_shard_of_a_batch_has_its_part(batch: int, shards: int, share: float) -> None:
    labelled = np.arange(96) < 5
    order = epoch_order(labelled, batch, share, np.random.default_rng(0))
    parts = labelled[order].reshape(-1, batch // shards).sum(axis=1)
    assert set(parts) == {batch // shards * share}


@given(
    flags=FLAGS,
    batch=st.integers(1, 16),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**31),
    data=st.data(),
)
def test_weights_change_how_often_labels_come_and_nothing_else(
    flags: list[bool], batch: int, share: float, seed: int, data: st.DataObject
) -> None:
    labelled = np.array(flags)
    batch, known = min(batch, labelled.size), np.flatnonzero(labelled)
    weights = np.array(data.draw(st.lists(st.floats(1, 9), min_size=known.size, max_size=known.size)))
    plain = epoch_order(labelled, batch, share, np.random.default_rng(seed))
    order = epoch_order(labelled, batch, share, np.random.default_rng(seed), weights)
    assert np.array_equal(labelled[order].sum(axis=1), labelled[plain].sum(axis=1))
    counts = np.bincount(order.ravel(), minlength=labelled.size)
    assert counts[~labelled].max(initial=0) <= 1
    if known.size:
        expected = counts[known].sum() * weights / weights.sum()
        assert (np.abs(counts[known] - expected) < 1 + 1e-6).all()


@given(values=st.lists(st.integers(0, 5), max_size=30))
def test_earlier_uses_are_counted(values: list[int]) -> None:
    seen: Counter[int] = Counter()
    expected = []
    for value in values:
        expected.append(seen[value])
        seen[value] += 1
    assert earlier_uses(np.array(values, dtype=np.int64)).tolist() == expected
