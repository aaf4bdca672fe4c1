"""Random schedules against a small model of what a sensor's history means.

The model knows no states: it keeps, per sensor, what was good, and derives who is alive from the two ages and
the two-frame rule. Times in it are milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from robust_perception.presence import SensorConfig, Synchronizer, SynchronizerConfig
from robust_perception.vocabulary import MODALITIES, FrameSet, Modality, Reason, SensorFrame

MS = 1_000_000
TIMEOUTS = dict(zip(MODALITIES, (500, 400, 300, 700), strict=True))
FROZEN_AFTER = 350
GATHER = 20
PERIODS = {m: timeout // 4 for m, timeout in TIMEOUTS.items()}
sensors = st.sampled_from(MODALITIES)


@dataclass
class Model:
    """What the schedule says about one sensor."""

    timeout: int
    enabled: bool = True
    alive: bool = False
    lost_before: bool = False
    row: list[int] = field(default_factory=list)
    frame: SensorFrame | None = None
    arrived: int = 0
    age_at_arrival: int = 0
    same_clock: bool = True
    leapt: bool = False
    stamp: int | None = None
    backward: int | None = None
    content: int | None = None
    content_since: int = 0
    fresh: bool = False

    def ages(self, now: int, steady: int) -> tuple[int, int]:
        """Header and arrival age; a clock thrown back makes the header age run on in steady time."""
        arrival = steady - self.arrived
        stamp = self.frame.stamp_ns // MS if self.frame else 0
        return (now - stamp if self.same_clock else self.age_at_arrival + arrival), arrival

    def look(self, now: int, steady: int) -> bool:
        """Whether alive at this time."""
        if self.alive:
            header, arrival = self.ages(now, steady)
            if max(header, arrival) > self.timeout:
                self.alive, self.row = False, []
                self.lost_before = not (self.leapt and arrival <= self.timeout)
        return self.alive

    def good(self, frame: SensorFrame, now: int, steady: int) -> None:
        """A good frame came."""
        if self.row and steady - self.row[-1] > self.timeout:
            self.row = []
        self.row.append(steady)
        self.frame, self.arrived, self.age_at_arrival = frame, steady, now - frame.stamp_ns // MS
        self.same_clock, self.leapt = True, False
        if not self.lost_before or len(self.row) >= 2:
            self.alive = True
        if self.alive:
            self.lost_before, self.row, self.fresh = True, [], True


class Schedule(RuleBasedStateMachine):
    """Four sensors, two clocks and everything that may happen to them."""

    @initialize(
        required=st.sets(sensors, max_size=2), least=st.integers(1, 2), enabled=st.sets(sensors, min_size=2)
    )
    def start(self, required: set[Modality], least: int, enabled: set[Modality]) -> None:
        configs = tuple(
            SensorConfig(
                m,
                TIMEOUTS[m] * MS,
                frozen_after_ns=FROZEN_AFTER * MS,
                flap_losses=10**6,
                enabled=m in enabled,
            )
            for m in MODALITIES
        )
        policy = SynchronizerConfig(
            configs, gather_ns=GATHER * MS, required_any=tuple(required), min_modalities=least
        )
        self.sync = Synchronizer(policy)
        self.required, self.least = required, least
        self.now, self.steady = 10**9, 10**4
        self.models = {m: Model(TIMEOUTS[m], enabled=m in enabled) for m in MODALITIES}
        self.content = 0
        self.last: FrameSet | None = None

    def alive(self) -> set[Modality]:
        return {m for m, model in self.models.items() if model.enabled and model.look(self.now, self.steady)}

    def allowed(self, alive: set[Modality]) -> bool:
        return len(alive) >= self.least and (not self.required or bool(self.required & alive))

    def ready(self) -> bool:
        return self.sync.ready(self.now * MS, self.steady * MS)

    def send(self, modality: Modality, stamp: int, *, same: bool = False) -> tuple[SensorFrame, Model]:
        model = self.models[modality]
        self.content += 1
        content = model.content if same and model.content is not None else self.content
        frame = SensorFrame(modality, np.full(1 + modality.position, content, np.float32), stamp * MS)
        if modality is Modality.AUDIO:
            frame = SensorFrame(modality, np.array([content], np.float32), stamp * MS)
        model.look(self.now, self.steady)
        self.sync.observe(frame, self.now * MS, self.steady * MS)
        if model.enabled and content != model.content:
            model.content, model.content_since = content, self.steady
        return frame, model

    @rule(ms=st.integers(1, 250))
    def wait(self, ms: int) -> None:
        self.now += ms
        self.steady += ms

    @rule(modality=sensors, lag=st.integers(-200, 250), same=st.booleans())
    def deliver(self, modality: Modality, lag: int, same: bool) -> None:
        model = self.models[modality]
        stamp = self.now - lag
        if model.stamp is not None:
            stamp = max(stamp, model.stamp + 1)
        if stamp > self.now + 500:
            return
        frame, model = self.send(modality, stamp, same=same)
        if not model.enabled:
            return
        model.stamp, model.backward = stamp, None
        if self.steady - model.content_since > FROZEN_AFTER:
            if model.alive:
                model.lost_before = True
            model.alive, model.row = False, []
        else:
            model.good(frame, self.now, self.steady)

    @rule(modality=st.sets(sensors, min_size=1), rounds=st.integers(2, 6))
    def deliver_regularly(self, modality: set[Modality], rounds: int) -> None:
        for _ in range(rounds):
            for one in modality:
                self.deliver(one, 0, False)
            self.wait(min(PERIODS[m] for m in modality))

    @rule(modality=sensors, kind=st.sampled_from(["zero", "future", "refused"]))
    def deliver_bad(self, modality: Modality, kind: str) -> None:
        if kind == "refused":
            self.models[modality].look(self.now, self.steady)
            self.sync.ready(self.now * MS, self.steady * MS)
            self.sync.reject(modality, Reason.WRONG_ENCODING, "bayer", self.steady * MS)
        else:
            self.send(modality, 0 if kind == "zero" else self.now + 501)
        self.models[modality].row = []

    @precondition(lambda self: any(model.stamp is not None for model in self.models.values()))
    @rule(data=st.data(), repeat=st.booleans(), back=st.integers(1, 400))
    def deliver_again_or_before(self, data: st.DataObject, repeat: bool, back: int) -> None:
        modality = data.draw(st.sampled_from([m for m in MODALITIES if self.models[m].stamp is not None]))
        model = self.models[modality]
        if repeat and model.stamp > self.now + 500:
            return
        # Each backward stamp lies before the one before it, so that no new timeline comes about.
        earlier = (model.stamp if model.backward is None else model.backward) - back
        self.send(modality, model.stamp if repeat else earlier)
        if model.enabled and not repeat:
            model.backward, model.row = earlier, []

    @rule(modality=sensors, extra=st.integers(1, 100))
    def deliver_stale(self, modality: Modality, extra: int) -> None:
        model = self.models[modality]
        stamp = self.now - model.timeout - extra
        if model.stamp is None or stamp > model.stamp:
            self.send(modality, stamp)
            if model.enabled:
                model.stamp, model.backward, model.row = stamp, None, []

    @rule(ms=st.integers(200, 10**5))
    def bag_loops(self, ms: int) -> None:
        self.ready()
        self.alive()
        self.now -= ms
        for model in self.models.values():
            model.same_clock, model.stamp, model.backward = False, None, None
        self.ready()

    @rule(ms=st.integers(1_100, 10**5))
    def clock_leaps(self, ms: int) -> None:
        self.ready()
        self.alive()
        self.now += ms
        for model in self.models.values():
            model.leapt = True
        self.ready()
        self.alive()

    @rule(modality=sensors, enabled=st.booleans())
    def switch(self, modality: Modality, enabled: bool) -> None:
        self.sync.set_enabled(modality, enabled)
        if enabled != self.models[modality].enabled:
            self.models[modality] = Model(TIMEOUTS[modality], enabled=enabled)

    @rule()
    def status_agrees(self) -> None:
        status = self.sync.status(self.now * MS, self.steady * MS)
        assert {m for m in MODALITIES if status[m].reason is None} == self.alive()
        assert all((s.reason is None) == (s.state.value == "alive") for s in status.values())
        assert all(s.detail for s in status.values() if s.reason is not None)

    @rule()
    def settle_and_take(self) -> None:
        """After `gather` with nothing new, output is ready exactly when there is something to say."""
        self.wait(GATHER)
        alive = self.alive()
        fresh = any(self.models[m].fresh for m in alive)
        changed = alive != (set(self.last.pattern) if self.last else set())
        due = self.allowed(alive) and (fresh or changed)
        assert self.ready() == due
        assert self.take_checked() == due

    @rule()
    def take_when_ready(self) -> None:
        if self.ready():
            assert self.take_checked()

    @rule()
    def take_at_any_time(self) -> None:
        self.take_checked()

    def take_checked(self) -> bool:
        alive = self.alive()
        taken = self.sync.take(self.now * MS, self.steady * MS)
        assert (self.sync.blocked_reason is None) == self.allowed(alive)
        if taken is None:
            return False
        assert set(taken.pattern) == alive
        assert self.allowed(alive)
        assert taken.reference is min(alive, key=MODALITIES.index)
        for m in alive:
            model = self.models[m]
            assert taken.frames[m] is model.frame
            header, arrival = model.ages(self.now, self.steady)
            assert taken.arrival_age_ns[m] == arrival * MS
            assert abs(taken.header_age_ns[m] - header * MS) < MS  # audio ends a sample after its stamp
            assert max(header, arrival) <= model.timeout
        assert set(taken.absent) == set(MODALITIES) - alive
        if self.last is not None and self.last.pattern == taken.pattern:
            assert any(self.last.frames[m] is not taken.frames[m] for m in alive)
        for m in alive:
            self.models[m].fresh = False
        self.last = taken
        return True


def test_random_schedules_agree_with_the_model():
    run_state_machine_as_test(Schedule, settings=settings(max_examples=150, stateful_step_count=50))


def _synchronizer(**config: object) -> Synchronizer:
    return Synchronizer(SynchronizerConfig(tuple(SensorConfig(m, 300 * MS, **config) for m in MODALITIES)))  # type: ignore[arg-type]


def _send(sync: Synchronizer, modality: Modality, content: int, stamp: int, now: int, steady: int) -> None:
    sync.observe(SensorFrame(modality, np.array([content]), stamp * MS), now * MS, steady * MS)


arrivals = st.lists(st.tuples(st.integers(1, 300), st.integers(0, 300)), min_size=5, max_size=40)


@given(rows=st.fixed_dictionaries(dict.fromkeys(MODALITIES, arrivals)), tick=st.integers(5, 90))
@settings(max_examples=60)
def test_a_sensor_within_its_timeout_is_never_excluded(rows, tick):
    """Any gaps up to the timeout, any delay that keeps both ages within it, any grid of takes."""
    sync, events, ends = _synchronizer(), [], []
    for modality, row in rows.items():
        time = stamp = 1_000
        for index, (gap, delay) in enumerate(row):
            time += gap if index else 0
            # The frame must still be fresh when the next one comes.
            following = row[index + 1][0] if index + 1 < len(row) else 0
            stamp = max(stamp + 1, time - min(delay, 300 - following)) if index else time - 0
            events.append((time, 0, modality, min(stamp, time)))
        ends.append(time)
    first_of_all, end = 1_000, min(ends)
    events += [(time, 1, None, 0) for time in range(first_of_all, end, tick)]
    for content, (time, _, modality, stamp) in enumerate(sorted(events, key=lambda e: (e[0], e[1]))):
        if modality is not None:
            _send(sync, modality, content, stamp, time, time)
        elif time <= end:
            taken = sync.take(time * MS, time * MS)
            assert taken is None or taken.pattern.bits == 15
            assert sync.blocked_reason is None


@given(
    victim=sensors,
    period=st.integers(10, 100),
    tick=st.integers(5, 100),
    on=st.integers(1_000, 2_000),
    off=st.integers(700, 1_500),
    phase=st.integers(0, 99),
)
@settings(max_examples=20)
def test_ten_losses_degrade_within_the_timeout_and_recover_in_two_frames(
    victim, period, tick, on, off, phase
):
    sync = _synchronizer()
    cycle = max(on + off, 2_500)
    present, last_sent, came_back = None, 0, 0
    losses = returns = content = 0
    for time in range(1_000, 1_000 + 11 * cycle):
        speaking = (time - 1_000) % cycle < cycle - off
        for modality in MODALITIES:
            if (time + phase * modality.position) % period == 0 and (modality is not victim or speaking):
                content += 1
                _send(sync, modality, content, time, time, time)
                if modality is victim:
                    last_sent, came_back = time, came_back + 1
        if time % tick == 0 and sync.ready(time * MS, time * MS):
            taken = sync.take(time * MS, time * MS)
            now_present = victim in taken.pattern
            if present and not now_present:
                assert 300 < time - last_sent <= 300 + tick
                losses, came_back = losses + 1, 0
            elif present is False and now_present:
                assert sync.status(time * MS, time * MS)[victim].last_recovery_frames == 2
                assert came_back <= 2 + tick // period + 1
                returns += 1
            present = now_present if now_present or present is not None else None
    assert losses >= 10
    assert returns >= 9
