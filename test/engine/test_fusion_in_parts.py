"""The fusion in parts, on the model this repository ships: the same bits, and two parts at a time."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from moments import bits, under
from onnx import numpy_helper

from robust_perception.engine.engine import Engine
from robust_perception.engine.errors import BackendError, EngineError, SelfCheckError
from robust_perception.engine.fusion_in_parts import PipelineInParts, pipeline_of
from robust_perception.engine.manifest import MAP_PART, OBJECTS_PART, PARTS, STAGES, Manifest
from robust_perception.engine.model_files import FileSpec, GraphSpec
from robust_perception.engine.models import find_model
from robust_perception.engine.onnxruntime import OnnxRuntimeBackend
from robust_perception.engine.pipeline import Latents, Pipeline
from robust_perception.engine.selfcheck import read_input, read_references
from robust_perception.vocabulary import ALL_PATTERNS, Modality, Pattern, SensorFrame

Feeds = Mapping[str, np.ndarray]
FULL = ALL_PATTERNS[0]


@pytest.fixture(scope="module", params=["fp32", "int8"])
def engine(request: pytest.FixtureRequest) -> Engine:
    return Engine.load("default", "onnxruntime", threads=2, precision=request.param)


@pytest.fixture(scope="module")
def inputs(engine: Engine) -> dict[Modality, np.ndarray]:
    pipeline = Pipeline(engine.manifest, engine.backend)
    references = read_references(engine.folder, pipeline)
    assert references is not None
    return {m: read_input(references, m, pipeline) for m in Modality}


@pytest.fixture
def frames(inputs: dict[Modality, np.ndarray]) -> dict[Modality, SensorFrame]:
    return {m: SensorFrame(m, array, 1) for m, array in inputs.items()}


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """Threads that ran each graph; tests may wrap what this wraps."""
    found: dict[str, int] = {}
    original = OnnxRuntimeBackend.run

    def run(backend: OnnxRuntimeBackend, graph: str, feeds: Feeds) -> dict[str, np.ndarray]:
        found[graph] = threading.get_ident()
        return original(backend, graph, feeds)

    monkeypatch.setattr(OnnxRuntimeBackend, "run", run)
    yield found


def test_every_pattern_has_the_bits_of_the_whole(
    engine: Engine, frames: dict[Modality, SensorFrame], ran: dict[str, int]
) -> None:
    whole = Engine.of(engine.backend, engine.manifest, engine.folder)
    for pattern in ALL_PATTERNS:
        ran.clear()
        expected = bits(whole.infer(under(frames, pattern)))
        assert set(PARTS).isdisjoint(ran)
        ran.clear()
        assert bits(engine.infer(under(frames, pattern))) == expected, pattern
        assert set(PARTS) <= set(ran)
        assert "fusion" not in ran


def test_what_an_absent_sensor_left_behind_changes_no_bit(
    engine: Engine, inputs: dict[Modality, np.ndarray]
) -> None:
    pipeline = engine._pipeline
    assert isinstance(pipeline, PipelineInParts)
    latents: dict[Modality, Latents] = {m: pipeline.encode(m, array, FULL) for m, array in inputs.items()}
    for pattern in ALL_PATTERNS[1:]:
        present = {m: latents[m] for m in pattern}
        rubbish: dict[Modality, Latents] = {
            m: {name: np.full_like(value, np.nan) for name, value in latents[m].items()}
            for m in Modality
            if m not in pattern
        }
        clean, dirty = pipeline.fuse(present, pattern), pipeline.fuse({**rubbish, **present}, pattern)
        for name in ("label_map", "confidence", "box_scores", "boxes", "scene"):
            assert getattr(clean, name).tobytes() == getattr(dirty, name).tobytes(), (pattern, name)


def test_the_parts_of_a_stage_run_at_once(
    engine: Engine,
    frames: dict[Modality, SensorFrame],
    ran: dict[str, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    meetings = {part: threading.Barrier(2, timeout=30) for part in PARTS}
    for here, beside in STAGES:
        meetings[beside] = meetings[here]
    counted = OnnxRuntimeBackend.run

    def run(backend: OnnxRuntimeBackend, graph: str, feeds: Feeds) -> dict[str, np.ndarray]:
        if graph in PARTS:
            meetings[graph].wait()  # one alone would wait in vain
        return counted(backend, graph, feeds)

    monkeypatch.setattr(OnnxRuntimeBackend, "run", run)
    engine.infer(under(frames, FULL))
    assert {ran[here] for here, _ in STAGES} == {threading.get_ident()}
    assert threading.get_ident() not in {ran[beside] for _, beside in STAGES}


@pytest.mark.parametrize("failing", PARTS)
def test_a_part_that_fails_is_told_once_nothing_runs_any_more(
    engine: Engine,
    frames: dict[Modality, SensorFrame],
    ran: dict[str, int],
    failing: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counted = OnnxRuntimeBackend.run
    running = threading.Semaphore(0)

    def run(backend: OnnxRuntimeBackend, graph: str, feeds: Feeds) -> dict[str, np.ndarray]:
        if graph == failing:
            raise BackendError("out of memory")
        result = counted(backend, graph, feeds)
        running.release()
        return result

    with monkeypatch.context() as broken:
        broken.setattr(OnnxRuntimeBackend, "run", run)
        with pytest.raises(BackendError, match="out of memory"):
            engine.infer(under(frames, FULL))
        before = next(number for number, stage in enumerate(STAGES) if failing in stage)
        encoders = sum(graph.startswith("encoder") for graph in ran)
        assert running._value == 2 * before + 1 + encoders, (
            "the part beside it has ended, no later one begins"
        )
    assert engine.infer(under(frames, FULL)).confidence > 0.0


@pytest.mark.parametrize(("threads", "each"), [(2, 1), (3, 1), (8, 4)])
def test_parts_share_the_cores(engine: Engine, threads: int, each: int) -> None:
    pipeline = pipeline_of(engine.backend, engine.manifest, engine.folder, threads)
    assert isinstance(pipeline, PipelineInParts)
    backend = pipeline._parts
    assert isinstance(backend, OnnxRuntimeBackend)
    assert set(backend._sessions) == set(PARTS)
    for session in backend._sessions.values():
        assert session.get_session_options().intra_op_num_threads == each


def test_the_whole_runs_where_parts_gain_nothing(engine: Engine) -> None:
    manifest, folder = engine.manifest, engine.folder
    without = replace(manifest, parts={})
    assert type(pipeline_of(engine.backend, manifest, folder, 1)) is Pipeline
    assert type(pipeline_of(engine.backend, without, folder, 2)) is Pipeline

    class Other(OnnxRuntimeBackend):
        pass

    other = Other(folder, manifest, engine.info.precision, threads=1)
    other.name = "openvino"
    assert type(pipeline_of(other, manifest, folder, 2)) is Pipeline
    abreast = Engine.load(folder, "onnxruntime", precision=engine.info.precision, abreast=True)
    assert type(abreast._pipeline) is Pipeline


@pytest.mark.parametrize("part", PARTS)
def test_parts_of_another_model_are_refused(tmp_path: Path, part: str) -> None:
    folder = shutil.copytree(find_model("default"), tmp_path / "model")
    manifest = Manifest.load(folder, check_files=False)
    spec = manifest.parts["fp32"][part]
    model = onnx.load(folder / spec.file)
    for constant in model.graph.initializer:
        if constant.name.endswith("weight"):
            changed = 1.5 - numpy_helper.to_array(constant)
            constant.CopyFrom(numpy_helper.from_array(changed, constant.name))
    onnx.save(model, folder / spec.file)
    file = FileSpec.of(folder / spec.file)
    changed_spec = GraphSpec(file.file, file.sha256, file.bytes, spec.inputs, spec.outputs)
    parts = {**manifest.parts["fp32"], part: changed_spec}
    replace(manifest, parts={**manifest.parts, "fp32": parts}).save(folder)
    with pytest.raises(SelfCheckError, match="expected its reference outputs"):
        Engine.load(folder, "onnxruntime", threads=2, precision="fp32")
    assert Engine.load(folder, "onnxruntime", threads=1, precision="fp32").info.precision == "fp32"


def test_a_missing_sensor_is_told_as_by_the_whole(engine: Engine, inputs: dict[Modality, np.ndarray]) -> None:
    pipeline = engine._pipeline
    latents = {Modality.RGB: pipeline.encode(Modality.RGB, inputs[Modality.RGB], FULL)}
    with pytest.raises(EngineError, match="got none of"):
        pipeline.fuse(latents, Pattern.of([Modality.RGB, Modality.DEPTH]))


def test_a_precision_whose_parts_are_wrong_is_passed_over(tmp_path: Path) -> None:
    folder = shutil.copytree(find_model("default"), tmp_path / "model")
    manifest = Manifest.load(folder, check_files=False)
    spec = manifest.parts["int8"][OBJECTS_PART]
    model = onnx.load(folder / spec.file)
    for constant in model.graph.initializer:
        values = numpy_helper.to_array(constant)
        if values.dtype == np.float32 and values.size > 1:
            constant.CopyFrom(numpy_helper.from_array(np.zeros_like(values), constant.name))
    onnx.save(model, folder / spec.file)
    file = FileSpec.of(folder / spec.file)
    changed = GraphSpec(file.file, file.sha256, file.bytes, spec.inputs, spec.outputs)
    parts = {**manifest.parts["int8"], OBJECTS_PART: changed}
    replace(manifest, parts={**manifest.parts, "int8": parts}).save(folder)
    info = Engine.load(folder, "onnxruntime", threads=2).info
    assert info.precision == "fp32"
    (reason,) = info.rejected
    assert reason.startswith("onnxruntime int8: model default: expected its reference outputs")
    assert Engine.load(folder, "onnxruntime", threads=1).info.precision == "int8"


def test_a_fork_has_helpers_of_its_own(engine: Engine, frames: dict[Modality, SensorFrame]) -> None:
    expected = bits(engine.infer(under(frames, FULL)))
    engine.reset()
    child = os.fork()
    if child == 0:  # no exception may leave it, and no test may go on in it
        signal.alarm(30)
        os._exit(0 if bits(engine.infer(under(frames, FULL))) == expected else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_where_no_thread_takes_work_any_more_it_is_done_at_once(
    engine: Engine, frames: dict[Modality, SensorFrame], ran: dict[str, int]
) -> None:
    made = pipeline_of(engine.backend, engine.manifest, engine.folder, 2)
    assert isinstance(made, PipelineInParts)
    made._helper._pool.shutdown()
    pattern = Pattern.of([Modality.AUDIO])
    latents = {Modality.AUDIO: made.encode(Modality.AUDIO, frames[Modality.AUDIO].data, pattern)}
    assert made.fuse(latents, pattern).confidence.size == 1
    assert ran[MAP_PART] == ran[OBJECTS_PART] == threading.get_ident()
