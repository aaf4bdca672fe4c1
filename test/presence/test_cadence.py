"""How often a sensor speaks, and how many of its frames were lost on the way."""

from __future__ import annotations

import pytest

from robust_perception.presence import SensorState
from robust_perception.presence.cadence import Cadence
from robust_perception.vocabulary import Modality, Reason

RGB = Modality.RGB
MS = 1_000_000


def test_rate_and_gaps(bench):
    for index in range(40):
        if index not in (20, 21, 30):
            bench.send(RGB, stamp=bench.now - index % 7)
        bench.wait(33)
    status = bench.status(RGB)
    assert status.rate_hz == pytest.approx(30.3, abs=0.1)
    assert status.gaps == 3
    bench.wait(600)
    assert bench.status(RGB).rate_hz == 0


def test_a_sensor_whose_clock_is_set_has_no_gaps(bench):
    bench.stream(RGB, frames=10, lag=99_000_000)
    assert bench.status(RGB).reason is Reason.LATE
    bench.stream(RGB, frames=5)
    status = bench.status(RGB)
    assert (status.state, status.gaps) == (SensorState.ALIVE, 0)
    bench.wait(33)
    bench.stream(RGB, frames=2)
    assert bench.status(RGB).gaps == 1, "what is missing from then on counts"


@pytest.mark.parametrize(("timeout", "gain"), [(500, 990), (3_000, 2_970)])
def test_stamps_that_gain_no_more_than_the_timeout_or_a_second_hold_gaps(make_bench, timeout, gain):
    bench = make_bench(timeout_ns=timeout * MS)
    bench.stream(RGB, frames=10, lag=gain)
    bench.stream(RGB, frames=2)
    assert bench.status(RGB).gaps == gain / 33


def test_without_a_check_of_header_age_every_gap_counts(make_bench):
    bench = make_bench(check_header_age=False)
    for index in (*range(10), *range(11, 20)):
        bench.send(RGB, stamp=1_000 + 2_000 * index)  # a bag at 60 times its speed
        bench.wait(33)
    assert bench.status(RGB).gaps == 1


def test_time_that_is_leapt_over_holds_no_gaps(bench):
    """A seek in a bag, or a machine that slept: nobody sent frames of that hour."""
    bench.stream(RGB, frames=20, period=33)
    bench.now += 3_600_000
    bench.stream(RGB, frames=20, period=33)
    assert bench.status(RGB).gaps == 0
    bench.wait(33)
    bench.stream(RGB, frames=2, period=33)
    assert bench.status(RGB).gaps == 1, "what is missing from then on counts"


def test_a_new_rate_is_learned(bench):
    bench.stream(RGB, frames=20, period=33)
    bench.stream(RGB, frames=20, period=100)
    status = bench.status(RGB)
    assert status.rate_hz == pytest.approx(10)
    assert status.gaps <= 10


@pytest.mark.parametrize(("interval", "missed"), [(14, 0), (16, 1), (24, 1), (29, 2)])
def test_missing_frames_are_those_of_the_nearest_whole_number_of_periods(interval, missed):
    cadence = Cadence()
    for time in (*range(0, 81, 10), 80 + interval):
        cadence.add(time)
    assert cadence.missed == missed


def test_a_period_of_two_intervals_counts_nothing_and_one_moment_is_no_interval():
    cadence = Cadence()
    for time in (5, 5, 15, 45):
        cadence.add(time)
    assert (cadence.missed, cadence.period_ns, cadence.known) == (0, 20, False)


def test_a_row_that_starts_anew_keeps_its_period():
    cadence = Cadence()
    for time in range(0, 81, 10):
        cadence.add(time)
    cadence.restart()
    cadence.add(1_000)
    assert (cadence.missed, cadence.period_ns) == (0, 10)
    cadence.add(1_020)
    assert cadence.missed == 1
