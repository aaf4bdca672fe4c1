"""Frame sets: any subset, no master, no waiting for the dead, nothing twice."""

from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest

from robust_perception.presence import (
    ConfigError,
    SensorConfig,
    SensorState,
    Synchronizer,
    SynchronizerConfig,
    UnknownSensorError,
)
from robust_perception.presence.timeline import Timeline
from robust_perception.vocabulary import ALL_PATTERNS, MODALITIES, Modality, Reason, SensorFrame

RGB, DEPTH, THERMAL, AUDIO = MODALITIES
MS = 1_000_000


@pytest.mark.parametrize("pattern", ALL_PATTERNS, ids=str)
def test_cold_start_with_any_subset(bench, pattern):
    bench.send(*pattern)
    assert bench.ready()
    taken = bench.take()
    assert taken.pattern == pattern
    assert taken.reference is next(iter(pattern))
    assert taken.absent == {m: Reason.NEVER_SEEN for m in MODALITIES if m not in pattern}


def test_nothing_seen_gives_nothing_and_says_so(bench):
    assert not bench.ready()
    assert bench.take() is None
    assert bench.sync.blocked_reason == "no sensor is alive"
    assert {bench.status(m).state for m in MODALITIES} == {SensorState.NEVER_SEEN}


@pytest.mark.parametrize("lost", MODALITIES, ids=str)
def test_each_sensor_may_be_lost_and_the_others_go_on_at_once(bench, lost):
    rest = [m for m in MODALITIES if m is not lost]
    bench.stream(*MODALITIES, frames=10)
    bench.take()
    last = bench.steady - 33
    while bench.steady - last <= 500:
        bench.send(*rest)
        assert bench.take().pattern.bits == 15
        bench.wait(20)
    assert bench.ready(), "the loss itself is news, no new frame is needed"
    taken = bench.take()
    assert set(taken.pattern) == set(rest)
    assert taken.absent == {lost: Reason.LATE}
    assert not bench.ready()


def test_after_a_loss_the_last_set_goes_on_without_the_lost_and_newer_frames_wait(bench):
    bench.stream(*MODALITIES, frames=10)
    before = bench.take()
    assert bench.sync.reduced(bench.now * MS, bench.steady * MS) is None, "nobody is lost"
    while bench.status(DEPTH).state is SensorState.ALIVE:
        bench.wait(33)
        bench.send(RGB, THERMAL, AUDIO)
        if bench.status(DEPTH).header_age_ns < 460 * MS:
            before = bench.take()
    reduced = bench.sync.reduced(bench.now * MS, bench.steady * MS)
    assert str(reduced.pattern) == "rgb+thermal+audio"
    assert all(reduced.frames[m] is before.frames[m] for m in reduced.pattern)
    assert reduced.absent == {DEPTH: Reason.LATE}
    assert bench.sync.reduced(bench.now * MS, bench.steady * MS) is None, "that has been said"
    newer = bench.take()
    assert newer.pattern == reduced.pattern
    assert newer.stamp_ns > reduced.stamp_ns


def test_a_set_too_old_is_not_given_again(bench):
    bench.stream(*MODALITIES, frames=10)
    bench.take()
    for _ in range(20):  # nobody takes for longer than the time-out
        bench.wait(33)
        bench.send(RGB)
    assert bench.sync.reduced(bench.now * MS, bench.steady * MS) is None
    assert str(bench.take().pattern) == "rgb"


def test_what_is_left_of_a_set_is_not_given_where_policy_forbids_it(make_bench):
    bench = make_bench({"min_modalities": 2})
    bench.send(RGB, DEPTH)
    bench.take()
    bench.sync.set_enabled(DEPTH, False)
    assert bench.sync.reduced(bench.now * MS, bench.steady * MS) is None
    assert bench.sync.blocked_reason == "min_modalities: 2 must be alive, there is rgb"
    bench.sync.set_enabled(RGB, False)
    assert bench.sync.reduced(bench.now * MS, bench.steady * MS) is None, "of nobody is nothing left"


def test_the_newest_are_those_that_no_set_has_had(bench):
    bench.send(RGB, DEPTH)
    bench.take()
    assert bench.sync.newest(bench.now * MS, bench.steady * MS) == []
    bench.wait(33)
    bench.send(DEPTH)
    newest = bench.sync.newest(bench.now * MS, bench.steady * MS)
    assert [(frame.modality, frame.stamp_ns) for frame in newest] == [(DEPTH, bench.now * MS)]


def test_all_lost_gives_no_output_and_comes_back(bench):
    bench.stream(*MODALITIES, frames=3)
    bench.take()
    bench.wait(501)
    assert not bench.ready()
    assert bench.take() is None
    assert bench.sync.blocked_reason == "no sensor is alive"
    bench.stream(THERMAL, frames=2)
    assert bench.ready()
    assert bench.pattern() == "thermal"
    assert bench.sync.blocked_reason is None


def test_the_same_frames_do_not_come_out_twice(bench):
    bench.send(RGB, DEPTH)
    assert bench.pattern() == "rgb+depth"
    bench.wait(100)
    assert not bench.ready()
    assert bench.take() is None
    assert bench.sync.blocked_reason is None


def test_a_set_waits_for_a_frame_about_to_come_but_not_longer_than_gather(bench):
    bench.stream(RGB, DEPTH, frames=10)
    bench.take()
    bench.send(RGB)
    assert not bench.ready()
    bench.wait(19)
    assert not bench.ready()
    bench.wait(1)
    assert bench.ready()


@pytest.mark.parametrize("second", [RGB, THERMAL], ids=str)
def test_gathering_counts_from_the_first_new_frame_whatever_comes_after(bench, second):
    bench.stream(RGB, DEPTH, THERMAL, frames=10)
    bench.take()
    bench.send(RGB)
    bench.wait(15)
    bench.send(second)
    assert not bench.ready()
    bench.wait(5)
    assert bench.ready()


def test_a_frame_late_by_less_than_half_a_period_is_still_waited_for(bench):
    bench.stream(RGB, DEPTH, frames=10, period=100)
    bench.take()
    bench.wait(30)
    bench.send(RGB)
    bench.wait(15)
    assert not bench.ready()
    bench.send(DEPTH)
    assert bench.ready()


def test_a_set_is_out_as_soon_as_the_last_expected_frame_is_in(bench):
    bench.stream(RGB, DEPTH, frames=10)
    bench.take()
    bench.send(RGB)
    bench.wait(5)
    bench.send(DEPTH)
    assert bench.ready()


def test_a_slow_sensor_is_not_waited_for_between_its_frames(bench):
    for index in range(30):
        bench.send(RGB, *((DEPTH,) if index % 6 == 0 else ()))
        bench.wait(33)
    bench.take()
    bench.send(RGB)  # the frame of depth is due here, too
    assert not bench.ready()
    bench.send(DEPTH)
    bench.take()
    bench.wait(33)
    bench.send(RGB)
    assert bench.ready()


def test_a_silent_sensor_stops_being_waited_for_before_its_timeout(bench):
    bench.stream(RGB, DEPTH, frames=10)
    bench.take()
    bench.wait(33)
    bench.send(RGB)
    assert bench.status(DEPTH).state is SensorState.ALIVE
    assert bench.ready()


def test_reference_follows_the_order_given(make_bench):
    bench = make_bench({"reference_order": (THERMAL, RGB)})
    bench.send(RGB, DEPTH)
    assert bench.take().reference is RGB
    bench.wait(10)
    bench.send(THERMAL)
    assert bench.take().reference is THERMAL
    bench.wait(501)
    bench.stream(AUDIO, DEPTH, frames=2)
    assert bench.take().reference is DEPTH


def test_policy_forbids_output_and_says_which(make_bench):
    bench = make_bench({"required_any": (RGB, THERMAL), "min_modalities": 2})
    bench.send(DEPTH, AUDIO)
    assert not bench.ready()
    assert bench.take() is None
    assert bench.sync.blocked_reason.startswith("required_any: one of rgb, thermal")
    bench.sync.set_enabled(DEPTH, False)
    bench.sync.set_enabled(AUDIO, False)
    bench.send(RGB)
    assert bench.take() is None
    assert bench.sync.blocked_reason == "min_modalities: 2 must be alive, there is rgb"
    bench.send(THERMAL)
    assert bench.pattern() == "rgb+thermal"


def test_a_sensor_without_configuration_is_disabled_and_its_frames_are_refused():
    sync = Synchronizer(SynchronizerConfig((SensorConfig(RGB, 500 * MS),)))
    frame = SensorFrame(DEPTH, np.zeros(4, np.float32), 10)
    with pytest.raises(UnknownSensorError, match=r"configured sensors \(rgb\), got depth"):
        sync.observe(frame, 10, 10)
    sync.observe(SensorFrame(RGB, np.zeros(4, np.uint8), 10), 10, 10)
    assert sync.take(10, 10).absent == dict.fromkeys((DEPTH, THERMAL, AUDIO), Reason.DISABLED)
    assert sync.status(10, 10)[DEPTH].detail == "not configured"


def test_reset_forgets_all_but_what_is_switched_off(bench):
    bench.sync.set_enabled(DEPTH, False)
    bench.stream(RGB, frames=3)
    bench.wait(501)
    assert not bench.ready()
    bench.sync.reset()
    assert bench.sync.blocked_reason is None
    assert bench.status(RGB).state is SensorState.NEVER_SEEN
    assert bench.status(DEPTH).state is SensorState.DISABLED
    bench.now -= 500_000
    bench.send(RGB)
    assert bench.pattern() == "rgb"


def test_nothing_of_before_a_reset_comes_out_after_it(bench):
    bench.send(RGB, DEPTH)
    bench.take()
    bench.sync.reset()
    bench.wait(33)
    bench.send(RGB)
    assert bench.sync.reduced(bench.now * MS, bench.steady * MS) is None


def test_a_clock_thrown_back_once_has_one_new_epoch():
    timeline = Timeline(clock_back_ns=100, clock_leap_ns=1_000)
    readings = [(10_000, 0), (12_000, 10), (5_000, 20), (5_010, 30), (4_990, 40)]
    assert [timeline.at(*reading)[2:] for reading in readings] == [(0, 0), (0, 1), (1, 1), (1, 1), (1, 1)]


def test_a_clock_that_creeps_back_has_been_reset_in_the_end():
    timeline = Timeline(clock_back_ns=100, clock_leap_ns=1_000)
    epochs = [timeline.at(10_000 - 50 * step, step).epoch for step in range(4)]
    assert epochs == [0, 0, 0, 1], "more than the tolerance below the highest reading"


def test_clock_readings_swapped_between_threads_are_no_jump(bench):
    bench.stream(RGB, frames=5)
    bench.ready()
    bench.now, bench.steady = bench.now - 20, bench.steady - 20
    bench.send(DEPTH)
    assert bench.pattern() == "rgb+depth"


def test_concurrent_use_keeps_sets_whole():
    sync = Synchronizer(SynchronizerConfig(tuple(SensorConfig(m, 10**12) for m in MODALITIES)))
    count, failures, taken = 300, [], []
    done = threading.Event()

    def feed(modality: Modality) -> None:
        try:
            for i in range(1, count + 1):
                sync.observe(
                    SensorFrame(modality, np.full(5_000, i, np.float32), i * 1_000), i * 1_000, i * 1_000
                )
        except Exception as error:
            failures.append(error)

    def consume() -> None:
        while not done.is_set():
            frame_set = sync.take(count * 1_000, count * 1_000)
            if frame_set is not None:
                taken.append({m: f.stamp_ns for m, f in frame_set.frames.items()})

    feeders = [threading.Thread(target=feed, args=(m,)) for m in MODALITIES]
    consumer = threading.Thread(target=consume)
    for thread in (consumer, *feeders):
        thread.start()
    for thread in feeders:
        thread.join(timeout=10)
    last = sync.take(count * 1_000, count * 1_000)
    done.set()
    consumer.join(timeout=10)
    assert not failures
    final = taken[-1] if last is None else {m: f.stamp_ns for m, f in last.frames.items()}
    assert final == dict.fromkeys(MODALITIES, count * 1_000)
    for before, after in itertools.pairwise(taken):
        assert before != after
        assert all(after[m] >= stamp for m, stamp in before.items())
    assert {sync.status(0, count * 1_000)[m].frames for m in MODALITIES} == {count}


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: SensorConfig(RGB, 0), r"SensorConfig\(rgb\)\.timeout_ns: expected .* at least 1, got 0"),
        (lambda: SensorConfig(RGB, 0.5), r"timeout_ns: expected a whole number"),
        (lambda: SensorConfig(RGB, True), r"timeout_ns: expected a whole number"),
        (lambda: SensorConfig("rgb", 1), r"modality: expected a Modality, got 'rgb'"),
        (lambda: SensorConfig(RGB, 1, recover_frames=0), r"recover_frames"),
        (lambda: SynchronizerConfig(()), r"sensors: expected each sensor once"),
        (lambda: SynchronizerConfig((SensorConfig(RGB, 1),) * 2), r"sensors: .*'rgb', 'rgb'"),
        (
            lambda: SynchronizerConfig((SensorConfig(RGB, 1),), required_any=(DEPTH,)),
            r"required_any: .*'depth'",
        ),
        (
            lambda: SynchronizerConfig((SensorConfig(RGB, 1),), min_modalities=2),
            r"min_modalities: .*at most 1",
        ),
        (lambda: SynchronizerConfig((SensorConfig(RGB, 1),), reference_order=(RGB, RGB)), r"reference_order"),
    ],
)
def test_settings_out_of_range_say_what_was_expected(build, message):
    with pytest.raises(ConfigError, match=message):
        build()
