"""Scene metrics against hand-made numbers and their definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robust_perception.evaluation.scene import SceneMetric, average_precision, balanced_accuracy

PAIRS = st.lists(
    st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.4, 0.5, 0.9])), min_size=1, max_size=20
)


def split(pairs: list[tuple[bool, float]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([t for t, _ in pairs], bool), np.array([s for _, s in pairs], np.float32)


def test_a_case_worked_out_by_hand() -> None:
    truth = np.array([True, False, True, False])
    scores = np.array([0.9, 0.8, 0.7, 0.1], np.float32)
    # hits at ranks 1 and 3: (1/1 + 2/3) / 2
    assert average_precision(truth, scores) == pytest.approx(100 * (1 + 2 / 3) / 2)
    # at 0.5 both true ones are said, and one of two untrue ones
    assert balanced_accuracy(truth, scores >= 0.5) == pytest.approx(75)


@given(PAIRS)
def test_average_precision_equals_its_definition(pairs: list[tuple[bool, float]]) -> None:
    truth, scores = split(pairs)
    if not truth.any():
        assert np.isnan(average_precision(truth, scores))
        return
    area, recall = 0.0, 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        said = scores >= threshold
        now = float((truth & said).sum() / truth.sum())
        area += (now - recall) * float((truth & said).sum() / said.sum())
        recall = now
    assert average_precision(truth, scores) == pytest.approx(100 * area)


@given(PAIRS, st.randoms(use_true_random=False))
def test_the_order_of_frames_does_not_matter(pairs: list[tuple[bool, float]], random: object) -> None:
    shuffled = list(pairs)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    expected = average_precision(*split(pairs))
    assert average_precision(*split(shuffled)) == pytest.approx(expected, nan_ok=True)


@given(PAIRS, st.booleans())
def test_always_saying_the_same_is_worth_50(pairs: list[tuple[bool, float]], said: bool) -> None:
    truth, _ = split(pairs)
    value = balanced_accuracy(truth, np.full(truth.size, said))
    assert np.isnan(value) if truth.all() or not truth.any() else value == 50


def test_classes_are_measured_each_for_itself() -> None:
    metric = SceneMetric(["quiet", "loud", "never"])
    assert metric.compute() is None
    metric.add(np.array([1, 0, 0], np.float32), np.array([0.9, 0.6, 0.1], np.float32))
    metric.add(np.array([0, 1, 0], np.float32), np.array([0.2, 0.4, 0.1], np.float32))
    result = metric.compute()
    assert result is not None
    assert result.average_precision == pytest.approx({"quiet": 100, "loud": 50, "never": np.nan}, nan_ok=True)
    assert result.balanced_accuracy == pytest.approx({"quiet": 100, "loud": 0, "never": np.nan}, nan_ok=True)
    assert result.mean_average_precision == pytest.approx(75)


def test_half_a_probability_is_enough_to_say_a_class() -> None:
    metric = SceneMetric(["quiet"])
    for truth, probability in ((1, 0.5), (0, 0.49)):
        metric.add(np.array([truth], np.float32), np.array([probability], np.float32))
    result = metric.compute()
    assert result is not None and result.balanced_accuracy == {"quiet": 100.0}


def test_frames_of_another_metric_are_the_frames_they_were() -> None:
    first, second = SceneMetric(["quiet", "loud"]), SceneMetric(["quiet", "loud"])
    for frame in ((1, 0, 0.9, 0.3), (0, 1, 0.8, 0.2), (1, 1, 0.4, 0.7)):
        truth, probability = np.array([frame[:2], frame[2:]], np.float32)
        second.add(truth, probability)
    first.join(SceneMetric(["quiet", "loud"]).arrays())
    assert first.compute() is None
    first.join(second.arrays())
    assert first.compute() == second.compute()
    with pytest.raises(ValueError, match=r"scene: expected two arrays of shape \(1,\)"):
        SceneMetric(["quiet"]).join(second.arrays())


def test_other_shapes_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"scene: expected two arrays of shape \(1,\), got \(2,\) and \(1,\)"
    ):
        SceneMetric(["x"]).add(np.zeros(2, np.float32), np.zeros(1, np.float32))
