"""When outputs are made, with times of the test's own; and that a slow model holds up nobody."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import numpy as np
import pytest

from robust_perception.engine.errors import EngineError, FrameError
from robust_perception.presence import SensorConfig, Synchronizer, SynchronizerConfig
from robust_perception.runtime import pacing
from robust_perception.runtime.pacing import Output, Pacer, Situation, without
from robust_perception.vocabulary import (
    MODALITIES,
    FrameSet,
    Modality,
    Pattern,
    Perception,
    Reason,
    SensorFrame,
)

MS = 1_000_000
EPOCH = 1_000_000_000_000


class Model:
    """Perceives nothing; fails, or takes its time, where told to."""

    def __init__(self) -> None:
        self.sets: list[FrameSet] = []
        self.encoded: list[SensorFrame] = []
        self.patterns: list[Pattern | None] = []
        self.errors: list[Exception] = []
        self.may_go = threading.Event()
        self.may_go.set()
        self.entered = threading.Event()

    def encode(self, frames: Sequence[SensorFrame], pattern: Pattern | None) -> bool:
        new = [frame for frame in frames if not any(frame is known for known in self.encoded)]
        self.encoded += new
        self.patterns += [pattern] * len(new)
        return bool(new)

    def infer(self, frame_set: FrameSet) -> Perception:
        self.entered.set()
        assert self.may_go.wait(30)
        if self.errors:
            raise self.errors.pop(0)
        self.sets.append(frame_set)
        none = np.zeros(0, np.float32)
        return Perception(
            frame_set,
            np.zeros((2, 2), np.uint8),
            none.reshape(0, 4),
            none,
            np.zeros(0, np.int64),
            none,
            1.0,
            {"total": 3.0},
        )


class Bench:
    """A pacer with everything it talks to, and one clock for both kinds of time."""

    def __init__(self, rate_hz: float = 10.0) -> None:
        sensors = tuple(SensorConfig(m, timeout_ns=300 * MS, frozen_after_ns=0) for m in MODALITIES)
        self.synchronizer = Synchronizer(SynchronizerConfig(sensors, gather_ns=0))
        self.model = Model()
        self.outputs: list[Output] = []
        self.changes: list[Situation] = []
        self.failures: list[str] = []
        self.now_ns = 0
        self.pacer = Pacer(
            self.synchronizer,
            self.model,
            lambda: EPOCH + self.now_ns,
            self.outputs.append,
            self.changes.append,
            self.failures.append,
            rate_hz,
        )

    def frame(self, *modalities: Modality) -> None:
        for modality in modalities:
            data = np.array([self.now_ns], np.float32)
            self.synchronizer.observe(
                SensorFrame(modality, data, EPOCH + self.now_ns), EPOCH + self.now_ns, self.now_ns
            )

    def step(self, ms: float) -> bool:
        self.now_ns = round(ms * MS)
        return self.pacer.step(self.now_ns)


def test_rate_is_kept_on_average() -> None:
    bench = Bench(rate_hz=10.0)
    for ms in range(0, 2000, 5):
        bench.now_ns = ms * MS
        if ms % 20 == 0:
            bench.frame(Modality.RGB)
        bench.step(ms)
    assert 19 <= len(bench.outputs) <= 22


def test_a_higher_rate_counts_at_once() -> None:
    bench = Bench(rate_hz=0.1)
    made = []
    for ms in range(0, 1000, 10):
        bench.now_ns = ms * MS
        bench.frame(Modality.RGB)
        if ms == 500:
            bench.pacer.rate_hz = 10.0
        if bench.step(ms):
            made.append(ms)
    assert len([ms for ms in made if ms < 500]) == 1
    assert 4 <= len([ms for ms in made if ms >= 500]) <= 6


def test_frames_are_encoded_while_the_set_is_gathered() -> None:
    bench = Bench(rate_hz=10.0)
    bench.now_ns = 1000 * MS
    bench.frame(Modality.RGB)
    assert bench.pacer.prepare(bench.now_ns)
    assert [frame.modality for frame in bench.model.encoded] == [Modality.RGB]
    bench.frame(Modality.DEPTH)
    assert bench.pacer.prepare(bench.now_ns)
    assert [frame.modality for frame in bench.model.encoded] == [Modality.RGB, Modality.DEPTH]
    assert not bench.pacer.prepare(bench.now_ns), "nothing new"
    assert bench.step(1000)
    bench.now_ns = 1010 * MS
    bench.frame(Modality.RGB)
    assert not bench.pacer.prepare(bench.now_ns), "not its turn: a newer frame may come until then"
    assert len(bench.model.encoded) == 2


def test_frames_are_encoded_for_the_sensors_that_are_alive() -> None:
    bench = Bench(rate_hz=10.0)
    for ms in (0, 100, 200, 300, 400):
        bench.now_ns = ms * MS
        bench.frame(*((Modality.DEPTH, Modality.THERMAL) if ms < 100 else (Modality.THERMAL,)))
        assert bench.pacer.prepare(bench.now_ns)
        assert bench.step(ms)
    used = [output.perception.frame_set.pattern for output in bench.outputs]
    assert [str(pattern) for pattern in used] == ["depth+thermal"] * 4 + ["thermal"]
    of_thermal = zip(bench.model.encoded, bench.model.patterns, strict=True)
    assert [pattern for frame, pattern in of_thermal if frame.modality is Modality.THERMAL] == used


def test_camera_of_the_same_rate_is_not_thinned_out_by_its_jitter() -> None:
    bench = Bench(rate_hz=10.0)
    rng = np.random.default_rng(0)
    times = [1000 + 100 * k + int(rng.integers(-20, 20)) for k in range(50)]
    for ms in range(1000, 6200, 4):
        bench.now_ns = ms * MS
        while times and times[0] <= ms:
            times.pop(0)
            bench.frame(Modality.RGB)
        bench.step(ms)
    assert len(bench.outputs) == 50


def test_output_behind_the_beat_of_the_camera_catches_up() -> None:
    bench = Bench(rate_hz=10.0)
    waited = []
    for ms in range(1000, 6000, 4):
        bench.now_ns = ms * MS
        if ms == 1040:  # a second sensor speaks once, and is lost later: two outputs beside the turns
            bench.frame(Modality.DEPTH)
        if ms % 100 == 0:
            bench.frame(Modality.RGB)
        if bench.step(ms):
            waited.append(
                ms - bench.outputs[-1].perception.frame_set.frames[Modality.RGB].stamp_ns % EPOCH // MS
            )
    assert waited[-10:] == [0] * 10


def test_change_of_pattern_does_not_wait_for_its_turn() -> None:
    bench = Bench(rate_hz=1.0)
    bench.frame(Modality.RGB, Modality.DEPTH)
    assert bench.step(0)
    bench.now_ns = 250 * MS
    bench.frame(Modality.RGB)
    assert not bench.step(250), "the rate holds back what only is new"
    assert bench.step(301), "depth is lost"
    assert [str(o.perception.frame_set.pattern) for o in bench.outputs] == ["rgb+depth", "rgb"]
    assert [s.pattern for s in bench.changes] == [Pattern.parse("rgb+depth"), Pattern.parse("rgb")]


def test_silence_is_told_once_and_ends_with_the_first_output() -> None:
    bench = Bench()
    assert not bench.step(0)
    assert not bench.changes, "that nobody was seen yet is no change"
    bench.frame(Modality.AUDIO)
    assert bench.step(1)
    for ms in range(2, 2000, 50):
        bench.step(ms)
    bench.frame(Modality.AUDIO)
    bench.now_ns += 10 * MS
    bench.frame(Modality.AUDIO)
    assert bench.step(2100)
    audio = Pattern.of([Modality.AUDIO])
    assert [s.pattern for s in bench.changes] == [audio, None, audio]
    assert bench.changes[1].reason == "no sensor is alive"
    assert len(bench.outputs) == 2, "no output twice from the same frame"


def test_frame_the_model_refuses_costs_only_its_sensor() -> None:
    bench = Bench()
    bench.model.errors = [FrameError(Modality.RGB, "rgb frame: expected uint8, got a riddle")]
    bench.frame(Modality.RGB, Modality.DEPTH)
    assert bench.step(0)
    frame_set = bench.outputs[0].perception.frame_set
    assert str(frame_set.pattern) == "depth"
    assert frame_set.reference is Modality.DEPTH
    assert frame_set.absent[Modality.RGB] is Reason.BAD_DATA
    assert bench.failures == ["rgb frame: expected uint8, got a riddle"]


def test_only_frame_refused_gives_no_output() -> None:
    bench = Bench()
    bench.model.errors = [FrameError(Modality.RGB, "bad")]
    bench.frame(Modality.RGB)
    assert not bench.step(0)
    assert not bench.outputs
    assert bench.changes == [Situation(None, "the model takes no frame: bad", failing=True)]


@pytest.mark.parametrize("where", ["infer", "encode", "publish"])
def test_failure_is_told_and_ends_with_the_next_output(where: str) -> None:
    bench = Bench()
    bench.frame(Modality.RGB)
    assert bench.step(0)

    def fail(*_: object) -> None:
        raise RuntimeError("fell off the bus")

    working = {"infer": bench.model.infer, "encode": bench.model.encode, "publish": bench.pacer._publish}
    owner = bench.pacer if where == "publish" else bench.model
    name = "_publish" if where == "publish" else where
    setattr(owner, name, fail)
    for ms in (100, 200, 300):
        bench.now_ns = ms * MS
        bench.frame(Modality.RGB)
        with pytest.raises(RuntimeError):
            bench.pacer.prepare(bench.now_ns)
            bench.step(ms)
    who = "publishing" if where == "publish" else "the model"
    failing = Situation(None, f"{who} fails: RuntimeError: fell off the bus", failing=True)
    setattr(owner, name, working[where])
    bench.now_ns = 400 * MS
    bench.frame(Modality.RGB)
    assert bench.step(400)
    rgb = Situation(Pattern.of([Modality.RGB]))
    assert bench.changes == [rgb, failing, rgb], "told once, however often it fails"


def test_without_the_only_sensor_is_nothing() -> None:
    frame = SensorFrame(Modality.RGB, np.zeros(1), 1)
    lone = FrameSet(Pattern.of([Modality.RGB]), {Modality.RGB: frame}, Modality.RGB)
    assert without(lone, Modality.RGB) is None


def wait(true, deadline_s: float = 20.0) -> None:
    end = time.monotonic() + deadline_s
    gate = threading.Event()
    while not true():
        assert time.monotonic() < end, "deadline passed"
        gate.wait(0.005)


@pytest.fixture
def running():
    bench = Bench(rate_hz=100.0)
    bench.pacer.start()
    yield bench
    bench.model.may_go.set()
    bench.pacer.stop()


def tick(bench: Bench, modality: Modality = Modality.RGB) -> None:
    # The thread reads the machine's steady clock, so frames must bear it too.
    bench.now_ns = time.monotonic_ns()
    bench.frame(modality)


def test_slow_model_does_not_hold_up_arrivals(running: Bench) -> None:
    running.model.may_go.clear()
    tick(running)
    assert running.model.entered.wait(20)
    for _ in range(10):
        before = time.monotonic_ns()
        tick(running)
        held = running.synchronizer.status(EPOCH + running.now_ns, running.now_ns)[Modality.RGB]
        assert held.arrival_age_ns == 0
        assert time.monotonic_ns() - before < 500 * MS, "the arrival waited for the model"
    running.model.may_go.set()
    newest = EPOCH + running.now_ns
    wait(lambda: len(running.outputs) >= 2)
    assert running.outputs[1].perception.frame_set.stamp_ns == newest, "the newest frame wins"


def test_model_that_fails_once_goes_on(running: Bench) -> None:
    running.model.errors = [EngineError("out of order")]
    tick(running)
    wait(lambda: bool(running.failures))
    assert running.failures == ["EngineError: out of order"]
    tick(running)
    wait(lambda: bool(running.outputs))


def test_a_model_that_hangs_is_told_and_left_behind(running: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    running.model.may_go.clear()
    tick(running)
    assert running.model.entered.wait(20)
    now_ns = time.monotonic_ns()
    assert not running.pacer.situation_at(now_ns).failing
    hangs = running.pacer.situation_at(now_ns + round(60e9))
    assert hangs.pattern is None
    assert hangs.failing
    assert hangs.reason in ("the model has not answered for 60 s", "the model has not answered for 61 s")
    monkeypatch.setattr(pacing, "HUNG_S", 0.05)
    running.pacer.stop()
    assert running.failures == ["the model does not answer within 0.05 s: its inference is left behind"]
    running.model.may_go.set()
    running.pacer.start()  # the one that was left behind takes no further turn
    tick(running)
    wait(lambda: bool(running.outputs))


def test_stop_and_start_again(running: Bench) -> None:
    running.pacer.stop()
    tick(running)
    assert not running.outputs
    running.pacer.start()
    tick(running)
    wait(lambda: bool(running.outputs))
