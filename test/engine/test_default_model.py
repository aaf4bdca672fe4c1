"""The model this repository ships, under all its patterns, on every CPU backend that is installed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from moments import bits, under

from robust_perception.engine import choice
from robust_perception.engine.engine import Engine
from robust_perception.engine.manifest import Manifest, encoder_name
from robust_perception.engine.models import find_model
from robust_perception.engine.onnxruntime import OnnxRuntimeBackend
from robust_perception.engine.pipeline import Latents, Pipeline, RawOutputs
from robust_perception.engine.precision import FP16, INT8_SYMMETRIC
from robust_perception.engine.selfcheck import compare, read_input, read_references, require
from robust_perception.vocabulary import ALL_PATTERNS, FrameSet, Modality, Pattern, SensorFrame

OUTPUTS = ("label_map", "confidence", "box_scores", "boxes", "scene")


@pytest.fixture(scope="module", params=["onnxruntime", "openvino"])
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    reason = choice.probe(name)
    if reason is not None:
        pytest.skip(reason)
    return name


@pytest.fixture(scope="module", params=["fp32", "int8"])
def engine(backend: str, request: pytest.FixtureRequest) -> Engine:
    return Engine.load("default", backend, threads=2, precision=request.param)


@pytest.fixture(scope="module")
def pipeline(engine: Engine) -> Pipeline:
    return Pipeline(engine.manifest, engine.backend)


@pytest.fixture(scope="module")
def inputs(pipeline: Pipeline) -> dict[Modality, np.ndarray]:
    references = read_references(find_model("default"), pipeline)
    assert references is not None, "the shipped model carries its references"
    return {m: read_input(references, m, pipeline) for m in Modality}


@pytest.fixture(scope="module")
def latents(pipeline: Pipeline, inputs: dict[Modality, np.ndarray]) -> dict[Modality, Latents]:
    return {m: pipeline.encode(m, array, Pattern.of([m])) for m, array in inputs.items()}


def same(a: RawOutputs, b: RawOutputs) -> bool:
    return all(getattr(a, name).tobytes() == getattr(b, name).tobytes() for name in OUTPUTS)


def test_no_file_tells_of_the_machine_that_made_it() -> None:
    for file in Manifest.load(find_model("default"), check_files=False).files():
        content = file.read(find_model("default"))
        assert b"stack_trace" not in content and b"/robust_perception/" not in content, file.file


def test_it_serves_every_pattern_as_at_its_export(engine: Engine) -> None:
    assert engine.manifest.modalities == tuple(Modality)
    assert {r.pattern for r in engine.check() if r.passed} == set(ALL_PATTERNS)


@pytest.mark.parametrize("precision", [FP16, INT8_SYMMETRIC])
def test_graphs_for_gpus_are_within_the_tolerances_too(precision: str) -> None:
    folder = find_model("default")
    manifest = Manifest.load(folder, check_files=False)
    # Not as quick as there, but rounded to as many bits.
    pipeline = Pipeline(manifest, OnnxRuntimeBackend(folder, manifest, precision))
    references = read_references(folder, pipeline)
    assert references is not None
    require(compare(pipeline, references, ALL_PATTERNS), manifest.name)


@pytest.mark.parametrize("name", OUTPUTS)
def test_an_output_that_is_nothing_is_seen_in_every_precision(pipeline: Pipeline, name: str) -> None:
    class Broken(Pipeline):
        def fuse(self, latents: Mapping[Modality, Latents], pattern: Pattern) -> RawOutputs:
            outputs = super().fuse(latents, pattern)
            return replace(outputs, **{name: np.zeros_like(getattr(outputs, name))})

    broken = Broken(pipeline.manifest, pipeline.backend)
    references = read_references(find_model("default"), pipeline)
    assert references is not None
    (result,) = compare(broken, references, pipeline.manifest.patterns[:1])
    assert not result.passed


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -1e30])
def test_absent_latents_may_hold_anything(
    pipeline: Pipeline, latents: dict[Modality, Latents], garbage: float
) -> None:
    filled = {
        m: {
            t.name: np.full(t.shape, garbage, np.float32)
            for t in pipeline.manifest.graphs[encoder_name(m)].outputs
        }
        for m in Modality
    }
    for pattern in ALL_PATTERNS:
        present = {m: latents[m] for m in pattern}
        assert same(pipeline.fuse({**filled, **present}, pattern), pipeline.fuse(present, pattern)), pattern


def test_the_pattern_matters(pipeline: Pipeline, latents: dict[Modality, Latents]) -> None:
    outputs = [pipeline.fuse(latents, pattern) for pattern in ALL_PATTERNS]
    for i, first in enumerate(outputs):
        assert not any(same(first, second) for second in outputs[:i]), ALL_PATTERNS[i]


def test_switching_every_frame_changes_nothing(pipeline: Pipeline, latents: dict[Modality, Latents]) -> None:
    first = {p: pipeline.fuse(latents, p) for p in ALL_PATTERNS}
    for pattern in reversed(ALL_PATTERNS):
        assert same(pipeline.fuse(latents, pattern), first[pattern]), pattern


def test_it_says_the_same_bit_by_bit_on_any_number_of_threads(
    engine: Engine, backend: str, inputs: dict[Modality, np.ndarray]
) -> None:
    if not choice.runs_abreast(backend):
        pytest.skip(f"{backend}: nothing of it runs side by side")
    frames = {m: SensorFrame(m, array, 1) for m, array in inputs.items()}
    others = [Engine.load("default", backend, count, engine.info.precision) for count in (1, 3)]
    for pattern in ALL_PATTERNS:
        frame_set = under(frames, pattern)
        engine.reset()
        expected = bits(engine.infer(frame_set))
        for other in others:
            other.reset()
            assert bits(other.infer(frame_set)) == expected, pattern


def test_frames_of_another_size_are_answered_at_that_size(
    engine: Engine, inputs: dict[Modality, np.ndarray]
) -> None:
    image = inputs[Modality.RGB].repeat(2, axis=0).repeat(2, axis=1)
    frame = SensorFrame(Modality.RGB, image, 1)
    perception = engine.infer(FrameSet(Pattern.parse("rgb"), {Modality.RGB: frame}, Modality.RGB))
    assert perception.label_map.shape == image.shape[:2]
    assert perception.label_map.max() < len(engine.manifest.class_names)


def test_depth_that_is_all_invalid_gives_numbers(engine: Engine) -> None:
    frame = SensorFrame(Modality.DEPTH, np.full(engine.manifest.size, np.nan, np.float32), 1)
    perception = engine.infer(FrameSet(Pattern.parse("depth"), {Modality.DEPTH: frame}, Modality.DEPTH))
    assert np.isfinite(perception.confidence)
    assert np.isfinite(perception.scores).all()
    assert np.isfinite(perception.scene).all()


def test_boxes_lie_in_the_picture_or_that_of_the_model(
    engine: Engine, inputs: dict[Modality, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "score_threshold", 0.0)
    frames = {m: SensorFrame(m, array, 1) for m, array in inputs.items()}
    for pattern in ALL_PATTERNS:
        boxes = engine.infer(under(frames, pattern)).boxes
        height, width = engine.manifest.size
        assert len(boxes)
        assert (boxes >= 0).all(), pattern
        assert (boxes <= [width, height, width, height]).all(), pattern
