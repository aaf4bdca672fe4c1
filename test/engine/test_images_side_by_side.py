"""Images of one inference are encoded at once, where the backend can, and say what they say one by one."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from moments import bits, moment, under

from robust_perception.engine.engine import Engine
from robust_perception.engine.errors import BackendError
from robust_perception.engine.onnxruntime import OnnxRuntimeBackend
from robust_perception.engine.side_by_side import side_by_side
from robust_perception.vocabulary import ALL_PATTERNS, Modality, SensorFrame

Feeds = Mapping[str, np.ndarray]


class Runs:
    """Every run of a graph: how often, in which thread; tests may stop or fail them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = Counter[str]()
        self.callers: dict[str, int] = {}
        self.backends: dict[str, OnnxRuntimeBackend] = {}
        self.meeting: threading.Barrier | None = None
        self.meet: tuple[str, ...] = ()
        self.failing = ""
        original = OnnxRuntimeBackend.run

        def run(backend: OnnxRuntimeBackend, graph: str, feeds: Feeds) -> dict[str, np.ndarray]:
            self.count[graph] += 1
            self.callers[graph] = threading.get_ident()
            self.backends[graph] = backend
            if graph in self.meet and self.meeting is not None:
                self.meeting.wait()  # one alone would wait in vain
            if graph == self.failing:
                raise BackendError("out of memory")
            return original(backend, graph, feeds)

        monkeypatch.setattr(OnnxRuntimeBackend, "run", run)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Runs]:
    yield Runs(monkeypatch)


@pytest.mark.parametrize("threads", [2, 3, 7])
def test_every_pattern_says_what_it_says_one_by_one(folder: Path, threads: int) -> None:
    several = Engine.load(folder, threads=threads)
    one_by_one = Engine.of(several.backend, several.manifest, folder)
    for seed in range(3):
        frames = moment(seed)
        for pattern in ALL_PATTERNS:
            frame_set = under(frames, pattern)
            several.reset()
            one_by_one.reset()
            assert bits(several.infer(frame_set)) == bits(one_by_one.infer(frame_set)), pattern


def test_as_many_images_as_there_are_cores_are_at_work_at_once(folder: Path, runs: Runs) -> None:
    engine = Engine.load(folder, threads=2)
    runs.count.clear()
    runs.meet, runs.meeting = ("encoder_rgb", "encoder_depth"), threading.Barrier(2, timeout=30)
    frames = moment(0)
    assert engine.encode(list(frames.values()))
    assert not engine.encode(list(frames.values())), "in hand, not on their way"
    engine.infer(under(frames, ALL_PATTERNS[0]))
    assert runs.count == {**{f"encoder_{m}": 1 for m in Modality}, "fusion": 1}
    others = {runs.backends[g] for g in ("encoder_thermal", "encoder_audio", "fusion")}
    assert others == {engine.backend}, "what is left over has all cores"


@pytest.mark.parametrize(
    ("threads", "at_once", "each"), [(1, 0, 0), (2, 2, 1), (3, 3, 1), (5, 3, 1), (8, 3, 2)]
)
def test_images_share_the_cores(folder: Path, threads: int, at_once: int, each: int) -> None:
    engine = Engine.load(folder, threads=threads)
    beside = side_by_side(engine.backend, engine.manifest, folder, threads)
    if at_once == 0:
        assert beside is None
        return
    assert beside is not None
    assert beside.at_once == at_once
    backend = beside._shared.backend
    assert isinstance(backend, OnnxRuntimeBackend)
    assert set(backend._sessions) == {"encoder_rgb", "encoder_depth", "encoder_thermal"}
    for session in backend._sessions.values():
        assert session.get_session_options().intra_op_num_threads == each


@pytest.mark.parametrize("sensors", [(Modality.RGB, Modality.AUDIO), (Modality.DEPTH,)])
def test_one_image_has_all_cores(folder: Path, runs: Runs, sensors: tuple[Modality, ...]) -> None:
    engine = Engine.load(folder, threads=2)
    frames = moment(0)
    engine.encode([frames[m] for m in sensors])
    assert runs.callers[f"encoder_{sensors[0]}"] == threading.get_ident()
    for modality in sensors:
        assert runs.backends[f"encoder_{modality}"] is engine.backend


@pytest.mark.parametrize(
    ("images", "beside"),
    [
        ((Modality.RGB, Modality.DEPTH, Modality.THERMAL), True),
        ((Modality.RGB, Modality.DEPTH), False),  # they fill both cores
        ((Modality.THERMAL,), True),
        ((), False),
    ],
)
def test_sound_is_made_beside_an_image_that_is_left_over(
    folder: Path, runs: Runs, images: tuple[Modality, ...], beside: bool
) -> None:
    engine = Engine.load(folder, threads=2)
    frames = moment(0)
    if beside:
        runs.meet, runs.meeting = (f"encoder_{images[-1]}", "encoder_audio"), threading.Barrier(2, timeout=30)
    assert engine.encode([frames[m] for m in (Modality.AUDIO, *images)])
    assert (runs.callers["encoder_audio"] != threading.get_ident()) is beside


def test_one_thread_encodes_one_by_one(folder: Path, runs: Runs) -> None:
    engine = Engine.load(folder, threads=1)
    engine.infer(under(moment(0), ALL_PATTERNS[0]))
    assert set(runs.callers.values()) == {threading.get_ident()}


def test_a_backend_that_takes_one_call_at_a_time_gets_one(folder: Path) -> None:
    class Other(OnnxRuntimeBackend):
        pass

    engine = Engine.load(folder, threads=2)
    backend = Other(folder, engine.manifest, threads=2)
    backend.name = "openvino"
    assert side_by_side(backend, engine.manifest, folder, 2) is None


@pytest.mark.parametrize("failing", ["encoder_rgb", "encoder_depth"])
def test_what_fails_beside_is_told_and_not_kept(folder: Path, runs: Runs, failing: str) -> None:
    engine = Engine.load(folder, threads=2)
    runs.failing = failing
    frame_set = under(moment(0), ALL_PATTERNS[0])
    assert engine.encode(list(frame_set.frames.values())), "ahead, nothing is told"
    with pytest.raises(BackendError, match="out of memory"):
        engine.infer(frame_set)
    runs.failing = ""
    assert engine.infer(frame_set).frame_set == frame_set


def test_a_frame_of_another_kind_is_left_to_the_inference(folder: Path) -> None:
    engine = Engine.load(folder, threads=2)
    frames = moment(0)
    broken = SensorFrame(Modality.DEPTH, np.zeros((4, 4), np.uint16), 1)
    assert not engine.encode([broken])
    assert engine.encode([broken, frames[Modality.RGB]])
    assert not engine.encode([frames[Modality.RGB]])
