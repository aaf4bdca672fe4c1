"""What the figures say of engines whose times are known, on a clock that only their work moves on."""

from __future__ import annotations

import numpy as np
import pytest
from stand_ins import FakeEngine, WorkClock, variant

from robust_perception.benchmarking import latency, rates, switching, turns
from robust_perception.benchmarking.frames import Frames
from robust_perception.benchmarking.records import Record
from robust_perception.vocabulary import ALL_PATTERNS, FrameSet, Modality, Pattern, Perception

FULL = ALL_PATTERNS[0]
PATTERNS = [FULL, Pattern.parse("rgb+depth"), Pattern.parse("audio")]


@pytest.fixture
def clock() -> WorkClock:
    return WorkClock()


@pytest.fixture
def frames() -> Frames:
    return Frames(Modality, (8, 8))


def value(records: list[Record], backend: str, metric: str, pattern: object = "all") -> float:
    (found,) = [
        r.value for r in records if (r.backend, r.metric, r.pattern) == (backend, metric, str(pattern))
    ]
    return found


def test_a_ratio_is_of_one_round() -> None:
    assert turns.paired_ratio([1, 10, 3], [2, 5, 3]) == 1.0, "0.5, 2 and 1"
    assert turns.paired_ratio([4, 400, 4], [2, 200, 2]) == 2.0


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_everyone_has_a_turn_in_every_round_and_is_first_as_often(count: int) -> None:
    rounds = [turns.order(count, turn) for turn in range(count)]
    assert all(sorted(one) == list(range(count)) for one in rounds)
    assert sorted(one[0] for one in rounds) == list(range(count))


def test_latency_of_engines_whose_times_are_known(clock: WorkClock, frames: Frames) -> None:
    slow = dict.fromkeys(Modality, 20.0)
    variants = [variant(clock), variant(clock, "second", encoding=slow, fuse=40.0, decode=2.0)]
    records = latency.measure(variants, frames, PATTERNS, 4, clock)
    assert value(records, "first", "p50", FULL) == pytest.approx(61.0), "4 x 10 + 20 + 1"
    assert value(records, "second", "ratio", FULL) == pytest.approx(2.0)
    assert value(records, "first", "ratio", "audio") == 1.0
    assert value(records, "first", "ratio_to_full", "audio") == pytest.approx(31 / 61)
    assert value(records, "first", "throughput", FULL) == pytest.approx(1000 / 61)
    for step, expected in {"encode": 20.0, "fuse": 20.0, "decode": 1.0}.items():
        assert value(records, "first", step, "rgb+depth") == pytest.approx(expected)


def test_what_it_costs_is_the_time_of_the_processors(clock: WorkClock, frames: Frames) -> None:
    records = latency.measure([variant(clock)], frames, PATTERNS, 3, clock, lambda: 2.0 * clock())
    assert value(records, "first", "cost", FULL) == pytest.approx(2 * 61.0)
    assert value(records, "first", "cost_to_full", "audio") == pytest.approx(31 / 61)


def test_variants_see_the_same_frames_in_turn(clock: WorkClock, frames: Frames) -> None:
    calls: list[tuple[str, int]] = []
    variants = [variant(clock, name, calls=calls) for name in ("first", "second")]
    latency.measure(variants, frames, [FULL], 2, clock)
    uncounted, counted = calls[::2], calls[1::2]
    assert [name for name, _ in uncounted] == ["first", "second", "second", "first"]
    assert [name for name, _ in counted] == [name for name, _ in uncounted], "each after one of its own"
    for seen in (uncounted, counted):
        stamps = [stamp for _, stamp in seen]
        assert stamps[0] == stamps[1] != stamps[2] == stamps[3]
    assert not {stamp for _, stamp in uncounted} & {stamp for _, stamp in counted}, "all frames are new"


def test_what_another_variant_leaves_behind_is_not_charged(
    clock: WorkClock, frames: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, int]] = []
    variants = [variant(clock, name, calls=calls) for name in ("first", "second")]
    original = FakeEngine.infer

    def infer(engine: FakeEngine, frame_set: FrameSet) -> Perception:
        if calls and calls[-1][0] != engine.name:
            clock.work(100.0)
        return original(engine, frame_set)

    monkeypatch.setattr(FakeEngine, "infer", infer)
    records = latency.measure(variants, frames, [FULL], 4, clock)
    for name in ("first", "second"):
        assert value(records, name, "p99", FULL) == pytest.approx(61.0)


def test_a_machine_that_slows_down_changes_no_ratio(frames: Frames) -> None:
    class Tired(WorkClock):
        def work(self, milliseconds: float) -> float:
            self.speed *= 1.001
            return super().work(milliseconds)

    clock = Tired()
    variants = [variant(clock), variant(clock, "second", fuse=81.0)]
    records = latency.measure(variants, frames, [FULL], 40, clock)
    assert value(records, "second", "ratio", FULL) == pytest.approx(2.0, rel=0.01)
    assert value(records, "second", "p99", FULL) > 1.2 * value(records, "second", "p50", FULL)


def test_a_switch_costs_what_the_first_frame_takes_more(clock: WorkClock, frames: Frames) -> None:
    records = switching.measure([variant(clock, switch=6.1)], frames, [FULL, PATTERNS[1]], 10, clock)
    assert value(records, "first", "cost") == pytest.approx(6100)
    assert value(records, "first", "ratio") == pytest.approx(
        np.median([1 + 6.1 / 61, 1 + 6.1 / 41] * 10), 0.02
    )
    assert value(records, "first", "own_cost") == pytest.approx(6100)
    assert value(records, "first", "count") == 20
    assert value(records, "first", "lost_frames") == 0
    assert value(records, "first", "differing_frames") == 0


def test_what_other_sensors_do_to_the_caches_is_no_cost_of_a_switch(clock: WorkClock, frames: Frames) -> None:
    records = switching.measure([variant(clock, switch=0.5, cold=3.0)], frames, PATTERNS, 4, clock)
    assert value(records, "first", "cost") == pytest.approx(3500)
    assert value(records, "first", "own_cost") == pytest.approx(500)
    assert value(records, "first", "ratio") > value(records, "first", "own_ratio") > 1


def test_a_trace_of_the_pattern_before_is_seen(clock: WorkClock, frames: Frames) -> None:
    records = switching.measure([variant(clock, leaks=True)], frames, PATTERNS, 4, clock)
    # Four rounds of three switches. Under the pattern that no fresh session is made for, the first output
    # stands for it: its two other frames differ instead.
    assert value(records, "first", "differing_frames") == 4 * (1 + 1 + 2)


def test_one_pattern_has_no_switch(clock: WorkClock, frames: Frames) -> None:
    assert switching.measure([variant(clock)], frames, [FULL], 4, clock) == []


def test_sensors_tick_as_often_as_they_say() -> None:
    seen = [rates.ticks(instant) for instant in range(rates.OUTPUTS)]
    assert {m: sum(m in ticking for ticking in seen) for m in Modality} == rates.RATES
    assert seen[0] == set(Modality), "the first output has a frame of each"


def test_an_average_output_costs_its_new_frames(clock: WorkClock, frames: Frames) -> None:
    records = rates.measure([variant(clock)], frames, FULL, 2, clock)
    price = 21 + (30 * 10 + 30 * 10 + 9 * 10 + 1 * 10) / 30
    assert value(records, "first", "price", FULL) == pytest.approx(price)
    assert value(records, "first", "average_output", FULL) == pytest.approx(price)
    assert value(records, "first", "ratio", FULL) == pytest.approx(1.0)
    assert value(records, "first", "all_new", FULL) == pytest.approx(61.0)


def test_an_engine_that_encodes_everything_again_is_found_out(clock: WorkClock, frames: Frames) -> None:
    records = rates.measure([variant(clock, reuses=False)], frames, FULL, 1, clock)
    assert value(records, "first", "ratio", FULL) == pytest.approx(61 / (21 + 70 / 3))


def test_the_same_frames_have_the_same_hash_and_new_stamps() -> None:
    one, two = Frames(Modality, (8, 8)), Frames(Modality, (8, 8))
    assert one.sha256 == two.sha256 != Frames(Modality, (8, 8), seed=1).sha256
    assert one.sha256 != Frames(Modality, (8, 16)).sha256
    first, second = one.frame(Modality.RGB), one.frame(Modality.RGB)
    assert first.stamp_ns != second.stamp_ns
    assert not np.array_equal(first.data, second.data)
    assert one.frame(Modality.RGB, 0).data is one.frame(Modality.RGB, 0).data
