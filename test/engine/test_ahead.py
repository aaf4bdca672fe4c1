"""Inferences side by side say what one after the other say, and share what they have in common."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from moments import SIZE, bits, moment, under

from robust_perception.engine.ahead import Ahead
from robust_perception.engine.engine import Engine
from robust_perception.engine.errors import BackendError, FrameError
from robust_perception.vocabulary import ALL_PATTERNS, Modality, Pattern, SensorFrame


@pytest.fixture
def engine(folder: Path) -> Engine:
    return Engine.load(folder, threads=2, abreast=True)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_they_say_the_same_and_encode_every_frame_once(
    engine: Engine, folder: Path, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = Engine.load(folder, threads=1)
    ran: Counter[str] = Counter()
    original, lock = engine.backend.run, threading.Lock()

    def run(graph: str, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        with lock:
            ran[graph] += 1
        return original(graph, feeds)

    monkeypatch.setattr(engine.backend, "run", run)
    moments = {seed: moment(seed) for seed in range(4)}
    sets = [under(moments[seed], pattern) for seed in range(4) for pattern in ALL_PATTERNS[::-1]]
    with Ahead(engine, threads) as ahead:
        coming = [ahead.begin(frame_set) for frame_set in sets]
        found = [c.perception.result() for c in coming]
    assert [c.frame_set for c in coming] == sets
    assert [bits(perception) for perception in found] == [bits(alone.infer(frame_set)) for frame_set in sets]
    assert ran == {**{f"encoder_{m}": 4 for m in Modality}, "fusion": len(sets)}
    timed = Counter(name for perception in found for name in perception.timings_ms if "/" in name)
    assert timed == {f"encode/{m}": 4 for m in Modality}, "the time of an encoder is in one output"


def test_a_frame_that_cannot_be_used_is_told_when_it_is_begun(engine: Engine) -> None:
    frames = moment(0)
    frames[Modality.DEPTH] = SensorFrame(Modality.DEPTH, np.zeros(SIZE, np.uint16), 1)
    with Ahead(engine, 2) as ahead, pytest.raises(FrameError, match="depth frame: expected float32"):
        ahead.begin(under(frames, Pattern.of(frames)))


def test_what_fails_comes_with_the_perception_and_is_not_kept(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = under(moment(0), ALL_PATTERNS[0])
    failing = True
    original = engine.backend.run

    def run(graph: str, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if failing and graph == "encoder_thermal":
            raise BackendError("out of memory")
        return original(graph, feeds)

    monkeypatch.setattr(engine.backend, "run", run)
    with Ahead(engine, 2) as ahead:
        with pytest.raises(BackendError, match="out of memory"):
            ahead.begin(frames).perception.result()
        failing = False
        assert ahead.begin(frames).perception.result().frame_set == frames


def test_a_backend_that_takes_one_call_at_a_time_gets_one(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    callers: set[int] = set()
    original = engine.backend.run

    def run(graph: str, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        callers.add(threading.get_ident())
        return original(graph, feeds)

    monkeypatch.setattr(engine.backend, "run", run)
    monkeypatch.setattr("robust_perception.engine.choice.BACKENDS", {})
    with Ahead(engine, 4) as ahead:
        assert ahead.most == 1
        assert ahead.begin(under(moment(0), ALL_PATTERNS[0])).perception.done()
    assert callers == {threading.get_ident()}


def test_fewer_threads_than_one_are_refused(engine: Engine) -> None:
    with pytest.raises(BackendError, match="threads: expected a positive number"):
        Ahead(engine, 0)
