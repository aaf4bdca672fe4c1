"""How a sensor comes back: after how many frames, how close together, and when it is held back."""

from __future__ import annotations

import pytest

from robust_perception.presence import SensorState
from robust_perception.vocabulary import Modality, Reason

RGB, DEPTH = Modality.RGB, Modality.DEPTH
MS = 1_000_000


def test_bad_from_the_start_then_good_is_alive_at_once(bench):
    bench.sync.reject(RGB, Reason.BAD_DATA, "short", bench.steady * MS)
    assert bench.status(RGB).state is SensorState.BAD
    bench.send(RGB)
    assert bench.status(RGB).state is SensorState.ALIVE


def test_back_within_two_frames_ten_times_every_three_seconds(bench):
    for _ in range(12):
        bench.stream(RGB, frames=60)
        bench.wait(3_000 - 60 * 33)
        assert bench.status(RGB).reason is Reason.LATE
        bench.send(RGB)
        assert bench.status(RGB).reason is Reason.RECOVERING
        bench.wait(33)
        bench.send(RGB)
        assert bench.status(RGB).reason is None
        assert bench.status(RGB).last_recovery_frames == 2
        bench.wait(33)
    assert bench.status(RGB).losses == 12


def test_frames_too_far_apart_are_no_recovery(bench):
    bench.send(RGB)
    for _ in range(3):
        bench.wait(501)
        bench.send(RGB)
        assert bench.status(RGB).state is SensorState.RECOVERING


@pytest.mark.parametrize(("pause", "state"), [(50, SensorState.ALIVE), (51, SensorState.RECOVERING)])
def test_the_pause_within_a_recovery_can_be_set(make_bench, pause, state):
    bench = make_bench(recover_within_ns=50 * MS)
    bench.send(RGB)
    bench.wait(501)
    bench.stream(RGB, frames=1, period=pause)
    bench.send(RGB)
    assert bench.status(RGB).state is state


def test_a_refusal_breaks_the_row(bench):
    bench.send(RGB)
    bench.wait(501)
    bench.send(RGB)
    bench.send(RGB, stamp=0)
    bench.wait(33)
    bench.send(RGB)
    assert bench.status(RGB).state is SensorState.RECOVERING


def test_a_flapping_sensor_is_held_until_it_has_been_steady(make_bench):
    bench = make_bench(timeout_ns=100 * MS)
    states = []
    for _ in range(8):  # 0.5 s on, 0.5 s off
        bench.stream(RGB, frames=15)
        states.append(bench.status(RGB).state)
        bench.wait(505)
        assert bench.status(RGB).reason is Reason.LATE
    assert states == [SensorState.ALIVE] * 4 + [SensorState.RECOVERING] * 4
    assert bench.status(RGB).losses == 4
    for _ in range(61):
        bench.send(RGB)
        status = bench.status(RGB)
        assert (status.state, status.reason) == (SensorState.RECOVERING, Reason.RECOVERING)
        assert "lost 4 times" in status.detail
        bench.wait(33)
    bench.send(RGB)
    assert bench.status(RGB).state is SensorState.ALIVE


def lose_and_return(bench, frames: int, period: int) -> SensorState:
    """Its state after so many good frames after a loss."""
    bench.wait(501)
    assert bench.status(RGB).reason is Reason.LATE
    for _ in range(frames - 1):
        bench.stream(RGB, frames=1, period=period)
    bench.send(RGB)
    return bench.status(RGB).state


def test_a_sensor_that_was_held_back_is_forgiven_once_it_is_steady(make_bench):
    bench = make_bench(flap_losses=1, flap_hold_ns=100 * MS)
    bench.send(RGB)
    assert lose_and_return(bench, frames=2, period=99) is SensorState.ALIVE
    assert lose_and_return(bench, frames=2, period=99) is SensorState.RECOVERING
    assert lose_and_return(bench, frames=2, period=100) is SensorState.ALIVE, "steady for as long as it must"
    bench.stream(RGB, frames=200)
    assert lose_and_return(bench, frames=2, period=33) is SensorState.ALIVE


def test_a_cold_start_forgets_the_losses(make_bench):
    bench = make_bench(flap_losses=1)
    bench.send(RGB)
    lose_and_return(bench, frames=2, period=33)
    bench.sync.set_enabled(RGB, False)
    bench.sync.set_enabled(RGB, True)
    bench.send(RGB)
    assert lose_and_return(bench, frames=2, period=33) is SensorState.ALIVE


def test_disabled_and_enabled_again_is_a_cold_start(bench):
    bench.stream(RGB, DEPTH, frames=3)
    bench.sync.set_enabled(RGB, False)
    bench.send(RGB)
    status = bench.status(RGB)
    assert (status.state, status.reason, status.frames) == (SensorState.DISABLED, Reason.DISABLED, 0)
    assert bench.pattern() == "depth"
    bench.sync.set_enabled(RGB, True)
    assert bench.status(RGB).reason is Reason.NEVER_SEEN
    bench.send(RGB)
    assert bench.pattern() == "rgb+depth"
