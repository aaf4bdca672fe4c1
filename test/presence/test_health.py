"""One sensor: every way to be lost has its name."""

from __future__ import annotations

import numpy as np
import pytest

from robust_perception.presence import SensorState
from robust_perception.vocabulary import Modality, Reason, SensorFrame

RGB, DEPTH, AUDIO = Modality.RGB, Modality.DEPTH, Modality.AUDIO
MS = 1_000_000


def test_late_exactly_after_the_timeout(bench):
    bench.send(RGB)
    bench.wait(500)
    assert bench.status(RGB).state is SensorState.ALIVE
    bench.wait(1)
    status = bench.status(RGB)
    assert (status.state, status.reason) == (SensorState.LATE, Reason.LATE)
    assert "no message for 0.501 s" in status.detail
    assert status.time_to_degrade_ns == 501 * MS


def test_late_by_header_age_alone_counts_the_time_on_the_way(bench):
    bench.send(RGB, stamp=bench.now - 400)
    bench.wait(100)
    assert bench.status(RGB).state is SensorState.ALIVE
    bench.wait(1)
    assert bench.status(RGB).reason is Reason.LATE


def test_sensor_that_was_long_on_the_way_and_falls_silent_is_not_said_to_speak(bench):
    bench.stream(RGB, frames=5, lag=30)
    bench.wait(471 - 33)
    status = bench.status(RGB)
    assert status.reason is Reason.LATE
    assert status.detail == (
        "no message for 0.471 s, and the last is 0.501 s old by its stamp, at most 0.500 s is allowed"
    )


def test_sensor_slower_than_its_timeout_is_told_what_to_raise(bench):
    bench.stream(RGB, frames=3, period=600)
    assert bench.status(RGB).advice == "", "two intervals may be an accident"
    bench.send(RGB)
    status = bench.status(RGB)
    assert status.state is SensorState.RECOVERING
    assert status.advice == "its period is 0.600 s, over the timeout of 0.500 s; raise rgb.timeout"
    bench.wait(599)
    assert bench.status(RGB).rate_hz == pytest.approx(1 / 0.6), "it speaks, though seldom"
    bench.stream(DEPTH, frames=9, period=450)
    bench.wait(501)
    assert (bench.status(DEPTH).reason, bench.status(DEPTH).advice) == (Reason.LATE, "")


def test_exactly_as_old_as_the_timeout_is_not_late(bench):
    bench.send(RGB, stamp=bench.now - 500)
    assert bench.status(RGB).state is SensorState.ALIVE


def test_late_by_arrival_when_ros_time_stands_still(bench):
    bench.send(RGB)
    bench.steady += 501
    assert bench.status(RGB).reason is Reason.LATE
    assert bench.status(RGB).header_age_ns == 0


def test_old_stamps_under_wall_time_name_the_mend(bench):
    bench.stream(RGB, frames=5, lag=3_600_000)
    status = bench.status(RGB)
    assert status.reason is Reason.LATE
    assert "header age" in status.detail
    assert "use_sim_time" in status.detail
    assert bench.take() is None


def test_old_stamps_are_welcome_when_header_age_is_not_checked(make_bench):
    bench = make_bench(check_header_age=False)
    bench.stream(RGB, frames=5, lag=3_600_000)
    assert bench.pattern() == "rgb"


@pytest.mark.parametrize("stamp", [0, -5])
def test_zero_stamp(bench, stamp):
    bench.stream(DEPTH, frames=1)
    bench.send(RGB, stamp=stamp)
    status = bench.status(RGB)
    assert (status.state, status.reason, status.refused) == (SensorState.BAD, Reason.ZERO_STAMP, 1)
    assert bench.pattern() == "depth"


def test_sound_of_the_first_simulated_second_has_a_stamp(bench):
    bench.now = 100
    second = SensorFrame(AUDIO, np.arange(16_000, dtype=np.float32), (bench.now - 1_000) * MS)
    bench.sync.observe(second, bench.now * MS, bench.steady * MS)
    assert bench.status(AUDIO).reason is None


def test_future_stamp_beyond_the_tolerance_only(bench):
    bench.send(DEPTH, stamp=bench.now + 500)
    bench.send(RGB, stamp=bench.now + 501)
    assert bench.status(RGB).reason is Reason.FUTURE_STAMP
    assert bench.status(DEPTH).reason is None


@pytest.mark.parametrize(("ahead_ms", "reason"), [(500, None), (501, Reason.FUTURE_STAMP)])
def test_sound_is_from_the_future_by_its_end(bench, ahead_ms, reason):
    window = np.arange(16_000, dtype=np.float32)
    frame = SensorFrame(AUDIO, window, (bench.now + ahead_ms - 1_000) * MS)
    bench.sync.observe(frame, bench.now * MS, bench.steady * MS)
    assert bench.status(AUDIO).reason is reason


def test_a_frame_that_took_long_to_unpack_is_no_reset_of_the_clock(bench):
    bench.stream(RGB, DEPTH, frames=3)
    read = (bench.now, bench.steady)
    frame = bench.frame(RGB)
    bench.wait(150)
    bench.send(DEPTH)
    bench.sync.observe(frame, read[0] * MS, read[1] * MS)
    bench.send(DEPTH, stamp=bench.now - 50)
    assert bench.status(DEPTH).refused == 1


def test_future_stamp_before_the_simulated_clock_runs_names_the_clock(bench):
    stamp, bench.now = bench.now, 0
    bench.send(RGB, stamp=stamp)
    assert "/clock" in bench.status(RGB).detail


def test_one_frame_out_of_order_is_dropped_and_the_sensor_lives(bench):
    bench.stream(RGB, frames=3)
    bench.take()
    bench.send(RGB, stamp=bench.now - 50)
    assert bench.take() is None
    bench.wait(33)
    bench.send(RGB)
    assert bench.pattern() == "rgb"
    assert (bench.status(RGB).refused, bench.status(RGB).losses) == (1, 0)


def test_frames_out_of_order_between_good_ones_are_no_new_timeline(bench):
    for late in (200, 190, 180, 170):  # each later than the one before, but never in a row
        bench.stream(RGB, frames=1)
        bench.send(RGB, stamp=bench.now - late)
    assert bench.status(RGB).refused == 4


def test_an_old_frame_that_is_repeated_is_no_new_timeline(bench):
    bench.stream(RGB, frames=2)
    stamp = bench.now - 200
    for _ in range(5):
        bench.send(RGB, stamp=stamp)
    assert bench.status(RGB).refused == 5


def test_stamps_that_never_run_forward_again_are_named(bench):
    bench.stream(RGB, frames=2)
    for step in range(20):
        bench.send(RGB, stamp=bench.now - 200 - 60 * step)
        bench.wait(33)
    status = bench.status(RGB)
    assert (status.state, status.reason) == (SensorState.BAD, Reason.BACKWARD_STAMP)


def test_a_looping_bag_under_its_own_clock_loses_nothing(bench):
    for _ in range(4):
        for _ in range(30):
            bench.send(RGB, DEPTH)
            bench.wait(33)
            taken = bench.take()
            assert str(taken.pattern) == "rgb+depth"
            assert all(0 <= age <= 500 * MS for age in taken.header_age_ns.values())
        bench.now -= 990
    assert (bench.status(RGB).refused, bench.status(RGB).losses) == (0, 0)


def test_header_age_runs_on_in_steady_time_over_a_loop(bench):
    bench.send(RGB, stamp=bench.now - 100)
    bench.wait(50)
    bench.now -= 60_000
    assert bench.status(RGB).header_age_ns == 150 * MS
    bench.wait(351)
    assert bench.status(RGB).reason is Reason.LATE


def test_a_looping_bag_under_wall_time_is_followed_after_three_frames(make_bench):
    bench = make_bench(check_header_age=False)
    for loop in range(4):
        for index in range(30):
            bench.send(RGB, stamp=1_000 + 33 * index)
            expected_refused = 2 * loop if index >= 2 or loop == 0 else 2 * (loop - 1) + index + 1
            assert bench.status(RGB).refused == expected_refused
            assert bench.status(RGB).reason is None
            bench.wait(33)
    assert bench.status(RGB).losses == 0


def test_a_leap_of_the_clock_costs_one_frame_and_no_loss(bench):
    bench.stream(RGB, frames=5)
    bench.now += 60_000
    assert bench.status(RGB).reason is Reason.LATE
    assert bench.take() is None
    bench.send(RGB)
    assert bench.pattern() == "rgb"
    assert bench.status(RGB).losses == 0


def test_a_sensor_silent_since_before_a_leap_of_the_clock_is_lost(bench):
    bench.stream(RGB, frames=5)
    bench.now += 60_000
    bench.wait(500)
    assert bench.status(RGB).losses == 1


def test_frozen_content_with_live_stamps(bench):
    bench.stream(RGB, frames=5)
    for _ in range(31):
        bench.send(RGB, content=7)
        assert bench.status(RGB).reason is None
        bench.wait(33)
    bench.send(RGB, content=7)
    status = bench.status(RGB)
    assert (status.state, status.reason) == (SensorState.FROZEN, Reason.FROZEN)
    assert "identical content for 1.023 s" in status.detail
    assert status.rate_hz == pytest.approx(30, abs=1)
    bench.wait(33)
    bench.send(RGB)
    assert bench.status(RGB).state is SensorState.RECOVERING
    bench.wait(33)
    bench.send(RGB)
    assert bench.status(RGB).state is SensorState.ALIVE


def test_content_may_stay_the_same_for_exactly_the_limit(bench):
    for _ in range(11):
        bench.send(RGB, content=7)
        assert bench.status(RGB).reason is None
        bench.wait(100)
    bench.send(RGB, content=7)
    assert bench.status(RGB).reason is Reason.FROZEN


def test_a_lone_frame_is_not_frozen_content(make_bench):
    bench = make_bench(timeout_ns=5_000 * MS)
    bench.send(RGB)
    bench.wait(4_000)
    assert bench.status(RGB).state is SensorState.ALIVE


def test_frozen_check_can_be_switched_off(make_bench):
    bench = make_bench(frozen_after_ns=0)
    for _ in range(100):
        bench.send(RGB, content=7)
        bench.wait(33)
    assert bench.status(RGB).reason is None


def test_a_driver_repeating_one_frame_is_frozen(bench):
    stamp = bench.now
    for _ in range(20):
        bench.send(RGB, stamp=stamp)
        bench.wait(33)
    status = bench.status(RGB)
    assert (status.state, status.reason) == (SensorState.FROZEN, Reason.FROZEN)
    assert "came again" in status.detail


def test_every_frame_sent_twice_does_not_hinder_recovery(bench):
    bench.send(RGB)
    bench.wait(501)
    for _ in range(2):
        bench.send(RGB)
        bench.send(RGB, stamp=bench.now)
        bench.wait(33)
    assert bench.status(RGB).state is SensorState.ALIVE


def test_refused_messages_name_the_cause_once_the_good_frame_is_too_old(bench):
    bench.send(RGB)
    for _ in range(16):
        bench.wait(33)
        bench.sync.reject(RGB, Reason.WRONG_ENCODING, "expected rgb8, got bayer", bench.steady * MS)
        expected = None if bench.steady <= 5_500 else Reason.WRONG_ENCODING
        assert bench.status(RGB).reason is expected
    assert bench.status(RGB).detail == "expected rgb8, got bayer"
    bench.wait(501)
    status = bench.status(RGB)
    assert status.reason is Reason.LATE
    assert "expected rgb8, got bayer" in status.detail


def test_audio_is_as_old_as_its_last_sample(bench):
    block = SensorFrame(AUDIO, np.arange(16_000, dtype=np.float32), (bench.now - 1_000) * MS)
    bench.sync.observe(block, bench.now * MS, bench.steady * MS)
    assert bench.status(AUDIO).header_age_ns == 0
    bench.wait(500)
    assert bench.status(AUDIO).reason is None
    bench.wait(1)
    assert bench.status(AUDIO).reason is Reason.LATE


def test_an_arrival_age_is_never_negative(bench):
    """Two threads read the clocks, and the one that read first asks last."""
    bench.send(RGB)
    bench.now, bench.steady = bench.now - 20, bench.steady - 20
    assert bench.status(RGB).arrival_age_ns == 0
