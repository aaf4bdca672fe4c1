"""Several perceptions on their way at a time change no figure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import small_folder
from tiny_model import make_model

from robust_perception.datasets import FolderDataset
from robust_perception.engine.ahead import Ahead, Coming
from robust_perception.engine.engine import Engine
from robust_perception.engine.errors import BackendError
from robust_perception.evaluation.course import Course, follow
from robust_perception.evaluation.playback import Playback
from robust_perception.evaluation.protocol import choose_patterns, evaluate
from robust_perception.evaluation.stream import Arrival, Slides
from robust_perception.faults.kinds import Fault
from robust_perception.faults.script import FaultScript
from robust_perception.vocabulary import FrameSet, Modality, SensorFrame

THREADS = 3


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine.load(make_model(tmp_path_factory.mktemp("models") / "tiny"), abreast=True)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> FolderDataset:
    return FolderDataset(small_folder.write(tmp_path_factory.mktemp("folder") / "data"), "test")


class Riddles(Slides):
    """Slides among which some thermal frames are of a kind that no engine takes."""

    def arrivals(self, script: FaultScript, lead_s: float = 0.0) -> Iterator[Arrival]:
        for number, arrival in enumerate(super().arrivals(script, lead_s)):
            frame = arrival.frame
            if isinstance(frame, SensorFrame) and frame.modality is Modality.THERMAL and 60 < number < 80:
                arrival = arrival._replace(frame=replace(frame, data=frame.data.astype(np.float64)))
            yield arrival


def course(engine: Engine, playing: Engine | Ahead, dataset: FolderDataset) -> Course:
    script = FaultScript(
        [Fault(1.0, 2.2, Modality.RGB, "loss"), Fault(2.6, 3.6, Modality.DEPTH, "loss")], name="two"
    )
    playback = Playback(playing, Riddles(dataset, range(4), hold_s=1.5), script)
    return follow(engine, playback, small_folder.NAMES, by_pattern=True, overall=True)


def told(course: Course) -> dict[str, Any]:
    assert course.overall is not None
    return {
        "points": course.over_time(),
        "losses": course.losses_json(),
        "patterns": {str(r.pattern): r.to_json() for r in course.by_pattern},
        "overall": course.overall.to_json(),
        "failures": course.failures,
    }


def test_a_playback_gives_the_same_course(engine: Engine, dataset: FolderDataset) -> None:
    alone = course(engine, engine, dataset)
    with Ahead(engine, THREADS) as ahead:
        assert ahead.most > 1
        together = course(engine, ahead, dataset)
    assert len(alone.points) > 40 and len(alone.losses) >= 2
    (failure,) = alone.failures
    assert "thermal frame" in failure
    assert repr(told(alone)) == repr(told(together))  # NaN is NaN here


def test_a_data_folder_gives_the_same_report(engine: Engine, dataset: FolderDataset) -> None:
    patterns = choose_patterns(engine, dataset)
    maps: dict[bool, list[tuple[str, str, bytes]]] = {False: [], True: []}
    steps: dict[bool, list[tuple[int, int]]] = {False: [], True: []}
    reports = []
    with Ahead(engine, THREADS) as ahead:
        for which in (False, True):
            report = evaluate(
                engine,
                dataset,
                patterns,
                ahead=ahead if which else None,
                label_maps=lambda p, n, m, which=which: maps[which].append((str(p), n, m.tobytes())),
                progress=lambda done, count, which=which: steps[which].append((done, count)),
            )
            reports.append([repr(result.to_json()) for result in report.results])
    assert reports[0] == reports[1]
    assert maps[False] == maps[True] and len(maps[True]) == 4 * len(patterns)
    assert steps[False] == steps[True] == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize("most", [1, 4, 5])
def test_as_many_are_on_their_way_as_can_be_and_no_more_are_held(
    engine: Engine, dataset: FolderDataset, most: int
) -> None:
    patterns = choose_patterns(engine, dataset)[:2]
    begun = 0

    class Counting(Ahead):
        def begin(self, frame_set: FrameSet) -> Coming:
            nonlocal begun
            begun += 1
            return super().begin(frame_set)

    left: list[int] = []
    with Counting(engine, 1) as ahead:
        ahead.most = most
        evaluate(
            engine,
            dataset,
            patterns,
            ahead=ahead,
            progress=lambda done, count: left.append(begun - done * len(patterns)),
        )
    # Beside the sample that is waited for: what makes up the others, in whole samples of two patterns.
    beside = {1: 0, 4: 4, 5: 4}[most]
    assert left == [min(beside, 2 * (len(dataset) - done)) for done in (1, 2, 3, 4)]


def test_what_fails_on_its_way_ends_it(
    engine: Engine, dataset: FolderDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(graph: str, feeds: object) -> dict[str, np.ndarray]:
        raise BackendError(f"{graph}: out of memory")

    monkeypatch.setattr(engine.backend, "run", run)
    with Ahead(engine, THREADS) as ahead, pytest.raises(BackendError, match="out of memory"):
        evaluate(engine, dataset, choose_patterns(engine, dataset), ahead=ahead)
    with Ahead(engine, THREADS) as ahead, pytest.raises(BackendError, match="out of memory"):
        course(engine, ahead, dataset)
