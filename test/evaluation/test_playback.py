"""The graph's own times on the source's clock: what a loss takes, and that nothing depends on the machine."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robust_perception.bags.truth import Truth
from robust_perception.evaluation.losses import MS, Loss, losses, quiet
from robust_perception.evaluation.playback import Playback, Played
from robust_perception.evaluation.stream import Arrival
from robust_perception.faults.kinds import Fault
from robust_perception.faults.script import FaultScript
from robust_perception.presence.config import TIMEOUTS_S
from robust_perception.runtime.errors import MessageError
from robust_perception.runtime.pacing import TICK
from robust_perception.vocabulary import FrameSet, Modality, Pattern, Perception, Reason, SensorFrame

S = 1_000_000_000
SENSORS = (Modality.RGB, Modality.DEPTH, Modality.THERMAL)


class Blank:
    """Perceives nothing."""

    def encode(self, frames: Sequence[SensorFrame], pattern: Pattern | None) -> bool:
        return False

    def infer(self, frame_set: FrameSet) -> Perception:
        none = np.zeros(0, np.float32)
        ids = np.zeros(0, np.int64)
        return Perception(frame_set, np.zeros((2, 2), np.uint8), none.reshape(0, 4), none, ids, none, 1.0)


class Ticking:
    """Sensors that tick together, every frame another one."""

    modalities = SENSORS
    scene_names = ()
    check_header_age = True
    start_ns = S
    unfit: Mapping[Modality, str] = {}

    def __init__(self, period_s: float = 0.1, count: int = 60, refused: int = -1) -> None:
        self.periods_s: Mapping[Modality, float] = dict.fromkeys(SENSORS, period_s)
        self.seconds = (count - 1) * period_s
        self._period_s, self._count, self._refused = period_s, count, refused

    def arrivals(self, script: FaultScript, lead_s: float = 0.0) -> Iterator[Arrival]:
        found = []
        for i in range(self._count):
            time_ns = S + round(i * self._period_s * S)
            for m in SENSORS:
                if i == self._refused and m is Modality.RGB:
                    found.append(Arrival(time_ns, MessageError(m, Reason.BAD_DATA, "broken")))
                    continue
                sent = SensorFrame(m, np.full((2, 2), i, np.float32), time_ns)
                found += [
                    Arrival(time_ns + round(d.delay_s * S), d.frame)
                    for d in script.apply(sent, i * self._period_s + lead_s)
                ]
        yield from sorted(found, key=lambda arrival: arrival.time_ns)

    def truths(self) -> Iterator[Truth]:
        yield from ()


def outputs(playback: Playback) -> list[tuple[int, str]]:
    return [(p.published_ns, str(p.pattern)) for p in playback.run()]


def test_every_set_comes_out_at_the_moment_it_is_there() -> None:
    playback = Playback(Blank(), Ticking())
    assert outputs(playback) == [(S + i * S // 10, "rgb+depth+thermal") for i in range(60)]
    assert {m: len(ends) for m, ends in playback.arrived.items()} == dict.fromkeys(SENSORS, 60)


def test_a_loss_takes_the_timeout_and_a_return_two_frames() -> None:
    script = FaultScript([Fault(2.0, 3.5, Modality.RGB, "loss")])
    playback = Playback(Blank(), Ticking(), script)
    made: list[Played] = list(playback.run())
    (loss,) = losses(playback.arrived, made, TIMEOUTS_S)
    timeout_ms = 1e3 * TIMEOUTS_S[Modality.RGB]
    assert loss.degraded_ms is not None
    assert timeout_ms < loss.degraded_ms <= timeout_ms + 1e3 * TICK
    assert (loss.frames_back, loss.back_ms) == (2, 100.0)


@pytest.mark.parametrize("dead", [(Modality.RGB,), SENSORS])
def test_a_sensor_that_never_returns_is_lost_to_the_end(dead: tuple[Modality, ...]) -> None:
    source = Ticking()
    playback = Playback(Blank(), source, FaultScript([Fault(2.0, math.inf, m, "loss") for m in dead]))
    made = list(playback.run())
    assert losses(playback.arrived, made, TIMEOUTS_S) == [], "nobody has said when the recording ends"
    found = losses(playback.arrived, made, TIMEOUTS_S, S + round(source.seconds * S))
    assert {loss.modality for loss in found} == set(dead)
    for loss in found:
        assert (loss.last_ns, loss.open, loss.back_ms) == (S + 19 * S // 10, True, None)
        if len(dead) == 1:
            assert loss.degraded_ms is not None
            assert 0 < loss.degraded_ms - 1e3 * TIMEOUTS_S[Modality.RGB] <= 1e3 * TICK
        else:
            assert loss.degraded_ms is None, "nobody left"


def test_slower_sensors_have_three_of_their_periods() -> None:
    made = outputs(Playback(Blank(), Ticking(period_s=0.5, count=6)))
    assert [pattern for _, pattern in made] == ["rgb+depth+thermal"] * 6


def test_all_lost_is_no_output_and_a_long_pause_costs_nothing() -> None:
    script = FaultScript([Fault(2.0, 4000.0, m, "loss") for m in SENSORS])
    made = outputs(Playback(Blank(), Ticking(count=20, period_s=0.1), script))
    assert len(made) == 20
    pause = FaultScript([Fault(0.5, 1e6, m, "delay", {"seconds": 59.0}) for m in SENSORS])
    assert outputs(Playback(Blank(), Ticking(count=8), pause))[4][0] == S + 4 * S // 10


def test_only_the_sensors_that_are_switched_on_take_part() -> None:
    made = outputs(Playback(Blank(), Ticking(), sensors=Pattern.parse("depth+thermal")))
    assert {pattern for _, pattern in made} == {"depth+thermal"}


def test_a_message_that_is_refused_is_told_and_does_no_harm() -> None:
    playback = Playback(Blank(), Ticking(refused=7))
    assert len(outputs(playback)) == 60
    assert playback.refused == {"rgb: bad data: broken": 1}


@given(
    st.lists(
        st.tuples(st.sampled_from(SENSORS), st.floats(0, 5), st.floats(0.1, 3), st.floats(0, 0.3)), max_size=5
    )
)
@settings(max_examples=25)
def test_any_schedule_gives_the_same_twice_in_order_and_never_from_a_silent_sensor(
    windows: list[tuple[Modality, float, float, float]],
) -> None:
    faults = [Fault(at, at + length, m, "loss") for m, at, length, _ in windows]
    faults += [Fault(at, at + length, m, "jitter", {"seconds": late}) for m, at, length, late in windows]
    runs = []
    for every_tick in (False, True):  # looks that are left out would have found nothing
        with pytest.MonkeyPatch.context() as patch:
            if every_tick:
                patch.setattr("robust_perception.evaluation.playback._rest_ns", lambda *_: 0)
            playback = Playback(Blank(), Ticking(), FaultScript(faults))
            made = list(playback.run())
        runs.append([(p.published_ns, p.pattern, p.measured_ns) for p in made])
    assert runs[0] == runs[1]
    times = [at for at, _, _ in runs[0]]
    assert times == sorted(times)
    for at, pattern, measured in runs[0]:
        assert set(measured) == set(pattern)
        for m in pattern:
            assert measured[m] in playback.arrived[m]
            assert 0 <= at - measured[m] <= (TIMEOUTS_S[m] + TICK) * S


class Made(NamedTuple):
    """An output: what it was made from, and how old, ms, each of its sensors' measurements was."""

    published_ns: int
    pattern: Pattern
    measured_ns: Mapping[Modality, int]


def made(ms: int, **measured: int) -> Made:
    sensors = {Modality(name): at * MS for name, at in measured.items()}
    return Made(ms * MS, Pattern.of(sensors), sensors)


RGB, DEPTH, THERMAL = SENSORS
TIMEOUTS = dict.fromkeys(SENSORS, 0.3)


def arrivals_of(**times: Sequence[int]) -> dict[Modality, list[int]]:
    return {Modality(name): [ms * MS for ms in own] for name, own in times.items()}


STEADY = range(0, 2_001, 100)
GAP = (*range(0, 501, 100), *range(1_000, 2_001, 100))
"""Lost after 500 ms, back at 1000."""


def test_a_loss_by_hand() -> None:
    outputs = [
        made(200, rgb=200),  # before the loss, as after an earlier one
        made(500, rgb=500, depth=500),
        made(800, rgb=800, depth=500),
        made(801, rgb=800),
        made(1_000, rgb=1_000),
        made(1_105, rgb=1_100, depth=1_100),
    ]
    (loss,) = losses(arrivals_of(rgb=STEADY, depth=GAP), outputs, TIMEOUTS, 2_000 * MS)
    assert loss == Loss(DEPTH, 500 * MS, 1_000 * MS, 301.0, 2, 105.0)


def test_what_is_told_when_the_output_does_not_follow() -> None:
    arrivals = arrivals_of(rgb=STEADY, depth=GAP)
    late = [made(500, rgb=500, depth=500), made(1_001, rgb=1_000), made(1_900, rgb=1_900, depth=500)]
    (loss,) = losses(arrivals, late, TIMEOUTS, 2_000 * MS)
    assert loss == Loss(DEPTH, 500 * MS, 1_000 * MS, math.inf, None, None), "it had come back before"


def test_a_measurement_that_is_rounded_is_the_one_it_was() -> None:
    measured = {RGB: 1_000 * MS, DEPTH: 1_000 * MS - MS // 2}
    outputs = [made(801, rgb=800), Made(1_001 * MS, Pattern.of(measured), measured)]
    (loss,) = losses(arrivals_of(rgb=STEADY, depth=GAP), outputs, TIMEOUTS)
    assert (loss.frames_back, loss.back_ms) == (1, 1.0)


def test_exactly_the_timeout_and_a_late_start_are_no_loss() -> None:
    arrivals = arrivals_of(rgb=(0, 300, 600), depth=(600,))
    assert losses(arrivals, [], TIMEOUTS, 900 * MS) == []
    assert [loss.modality for loss in losses(arrivals, [], TIMEOUTS, 901 * MS)] == [RGB, DEPTH]


def test_nobody_left_is_no_reduced_output() -> None:
    together = losses(arrivals_of(rgb=GAP, depth=GAP), [], TIMEOUTS, 2_000 * MS)
    assert [(loss.modality, loss.degraded_ms) for loss in together] == [(RGB, None), (DEPTH, None)]
    staggered = arrivals_of(rgb=GAP, depth=(0, 100, 200, 1_200, 1_300))
    found = losses(staggered, [made(501, rgb=500)], TIMEOUTS)
    assert [(loss.modality, loss.degraded_ms) for loss in found] == [(DEPTH, 301.0), (RGB, None)]
    assert quiet(staggered, TIMEOUTS) == [(800 * MS, 1_000 * MS)]
    without_colour = {DEPTH: staggered[RGB], THERMAL: staggered[DEPTH]}
    assert quiet(without_colour, TIMEOUTS) == [(800 * MS, 1_000 * MS)]


def test_an_output_that_kept_a_lost_sensor_is_not_excused_by_a_silence_at_another_time() -> None:
    depth = [*range(0, 501, 100), *range(1_000, 2_001, 100), *range(2_500, 3_001, 100), 3_500, 3_600]
    rgb = [*range(0, 2_001, 100), *range(2_500, 4_001, 100)]
    outputs = [made(ms, rgb=ms, depth=ms) for ms in (500, 1_000, 2_000, 2_500, 3_000, 3_500, 3_950)]
    found = losses(arrivals_of(rgb=rgb, depth=depth), outputs, TIMEOUTS, 4_000 * MS)
    assert [(loss.modality, loss.last_ns // MS, loss.degraded_ms) for loss in found] == [
        (DEPTH, 500, math.inf),
        (RGB, 2_000, None),
        (DEPTH, 2_000, None),
        (DEPTH, 3_000, math.inf),
        (DEPTH, 3_600, math.inf),
    ]


def test_a_sensor_lost_to_the_end_is_not_blamed_on_an_output_that_had_no_turn() -> None:
    arrivals = arrivals_of(rgb=STEADY, depth=range(0, 1_501, 100))
    rows = [
        ([made(200, rgb=200), made(1_801, rgb=1_800)], 301.0),
        ([made(1_801, rgb=1_800, depth=1_500)], math.inf),
        ([made(1_800, rgb=1_800, depth=1_500)], None),
    ]
    for outputs, degraded in rows:
        (loss,) = losses(arrivals, outputs, TIMEOUTS, 2_000 * MS)
        assert loss == Loss(DEPTH, 1_500 * MS, 2_000 * MS, degraded, None, None, open=True)
    both = losses(
        arrivals_of(rgb=range(0, 1_501, 100), depth=range(0, 1_501, 100)), rows[1][0], TIMEOUTS, 2_000 * MS
    )
    assert [loss.degraded_ms for loss in both] == [None, None], "nobody was left"
