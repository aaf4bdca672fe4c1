"""Sensors of one inference are encoded at once, where the backend can, and say what they say one by one."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from moments import bits, moment, under
from tiny_model import make_model

from robust_perception.engine.engine import Engine
from robust_perception.engine.errors import BackendError
from robust_perception.engine.inline import Inline
from robust_perception.vocabulary import ALL_PATTERNS, Modality, SensorFrame

Feeds = Mapping[str, np.ndarray]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "tiny")


def test_every_pattern_says_what_it_says_one_by_one(folder: Path) -> None:
    several, alone = Engine.load(folder, threads=2), Engine.load(folder, threads=2)
    one_by_one = Engine.of(alone.backend, alone.manifest, folder)
    for seed in range(3):
        frames = moment(seed)
        for pattern in ALL_PATTERNS:
            frame_set = under(frames, pattern)
            several.reset()
            one_by_one.reset()
            assert bits(several.infer(frame_set)) == bits(one_by_one.infer(frame_set)), pattern


def test_two_are_at_work_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine.load(folder, threads=2)
    meeting, ran = threading.Barrier(2, timeout=30), Counter[str]()
    original = engine.backend.run

    def run(graph: str, feeds: Feeds) -> dict[str, np.ndarray]:
        ran[graph] += 1
        if graph in ("encoder_rgb", "encoder_depth"):
            meeting.wait()  # one alone would wait in vain
        return original(graph, feeds)

    monkeypatch.setattr(engine.backend, "run", run)
    frames = moment(0)
    both = [frames[Modality.RGB], frames[Modality.DEPTH]]
    assert engine.encode(both)
    assert not engine.encode(both), "in hand, not on their way"
    engine.infer(under(frames, ALL_PATTERNS[0]))
    assert ran == {**{f"encoder_{m}": 1 for m in Modality}, "fusion": 1}


def test_latents_in_hand_are_nothing_for_helpers(folder: Path) -> None:
    class Counting(Inline):
        given = 0

        def submit(self, *words: Any, **named: Any) -> Any:
            self.given += 1
            return super().submit(*words, **named)

    loaded, helpers = Engine.load(folder, threads=1), Counting()
    engine = Engine.of(loaded.backend, loaded.manifest, folder, helpers=helpers)
    frame_set = under(moment(0), ALL_PATTERNS[0])
    engine.encode(list(frame_set.frames.values()))
    assert helpers.given == len(Modality) - 1, "the caller makes one itself"
    engine.infer(frame_set)
    assert helpers.given == len(Modality) - 1


def test_one_thread_encodes_one_by_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine.load(folder, threads=1)
    callers: set[int] = set()
    original = engine.backend.run

    def run(graph: str, feeds: Feeds) -> dict[str, np.ndarray]:
        callers.add(threading.get_ident())
        return original(graph, feeds)

    monkeypatch.setattr(engine.backend, "run", run)
    engine.infer(under(moment(0), ALL_PATTERNS[0]))
    assert callers == {threading.get_ident()}


def test_what_fails_beside_is_told_and_not_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine.load(folder, threads=2)
    failing = True
    original = engine.backend.run

    def run(graph: str, feeds: Feeds) -> dict[str, np.ndarray]:
        if failing and graph == "encoder_depth":
            raise BackendError("out of memory")
        return original(graph, feeds)

    monkeypatch.setattr(engine.backend, "run", run)
    frame_set = under(moment(0), ALL_PATTERNS[0])
    assert engine.encode(list(frame_set.frames.values())), "ahead, nothing is told"
    with pytest.raises(BackendError, match="out of memory"):
        engine.infer(frame_set)
    failing = False
    assert engine.infer(frame_set).frame_set == frame_set


def test_a_frame_of_another_kind_is_left_to_the_inference(folder: Path) -> None:
    engine = Engine.load(folder, threads=2)
    frames = moment(0)
    broken = SensorFrame(Modality.DEPTH, np.zeros((4, 4), np.uint16), 1)
    assert not engine.encode([broken])
    assert engine.encode([broken, frames[Modality.RGB]])
    assert not engine.encode([frames[Modality.RGB]])
