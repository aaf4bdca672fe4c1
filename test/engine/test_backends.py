"""Every backend that this machine has, in every precision it claims, under every pattern.

What holds for one of them is asked of all: the reference outputs, no trace of an earlier pattern, and no
trace of what lies in the buffers of sensors that are not there.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tiny_model import SCALE, described, make_model, save_references

from robust_perception.datasets import Sample
from robust_perception.engine import choice, cuda, onnxruntime, openvino, selfcheck
from robust_perception.engine.engine import Engine
from robust_perception.engine.errors import BackendError, ModelFileError
from robust_perception.engine.manifest import Manifest, encoder_name
from robust_perception.engine.model_files import FileSpec
from robust_perception.engine.pipeline import Latents, Pipeline, RawOutputs
from robust_perception.engine.precision import FP16, FP32, INT8, INT8_SYMMETRIC
from robust_perception.engine.protocol import Backend
from robust_perception.engine.tensors import read_graph
from robust_perception.exporting.variants import write_variant
from robust_perception.vocabulary import ALL_PATTERNS, Modality, Pattern, SensorFrame

OUTPUTS = ("label_map", "confidence", "box_scores", "boxes", "scene")
KINDS = {name: kind for name, kind in choice.BACKENDS.items() if not kind.planned}
"""Those that load a model's own files; plans are tested where they are made."""

CLAIMS = [(name, precision) for name, kind in KINDS.items() for precision in kind.precisions]
THREADS = 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model with convolutions, in every precision."""
    folder = make_model(tmp_path_factory.mktemp("models") / "small", filters=5)
    manifest = Manifest.load(folder)
    generator = np.random.default_rng(0)
    samples = []
    for index in range(4):
        frames = {m: SensorFrame(m, drawn(m, generator), index) for m in Modality}
        samples.append(Sample(str(index), frames, None, None, None, None))
    for precision in (FP16, INT8, INT8_SYMMETRIC):
        graphs = write_variant(folder, manifest, precision, samples)
        manifest = replace(manifest, variants={**manifest.variants, precision: graphs})
    save_references(folder, manifest, inputs())
    return folder


def drawn(modality: Modality, generator: np.random.Generator) -> np.ndarray:
    """A raw input: a field of squares of the classes' own evidence, with a little noise, in every image."""
    if modality is Modality.AUDIO:
        return generator.uniform(-1, 1, 16000).astype(np.float32)
    squares = np.arange(6).reshape(2, 3) % 3 / 3
    field = squares.repeat(32, axis=0).repeat(32, axis=1) + generator.uniform(0, 0.02, (64, 96))
    values = field / SCALE[modality]
    if modality is Modality.RGB:
        return values[..., np.newaxis].repeat(3, axis=2).astype(np.uint8)
    return values.astype(np.float32)


@pytest.fixture(params=CLAIMS, ids=lambda claim: "-".join(claim))
def build(request: pytest.FixtureRequest, folder: Path) -> Callable[[], Pipeline]:
    """Makes a fresh session of one backend in one of its precisions."""
    name, precision = request.param
    reason = choice.probe(name)
    if reason is not None:
        pytest.skip(reason)
    kind, manifest = choice.BACKENDS[name], Manifest.load(folder)
    return lambda: Pipeline(manifest, kind.build(folder, manifest, kind.precisions[precision], THREADS))


@functools.lru_cache(maxsize=1)
def inputs() -> Mapping[Modality, np.ndarray]:
    generator = np.random.default_rng(1)
    return {m: drawn(m, generator) for m in Modality}


def same(a: RawOutputs, b: RawOutputs) -> bool:
    return all(getattr(a, name).tobytes() == getattr(b, name).tobytes() for name in OUTPUTS)


def test_every_pattern_gives_its_reference(build: Callable[[], Pipeline], folder: Path) -> None:
    pipeline = build()
    references = selfcheck.read_references(folder, pipeline)
    assert references is not None
    results = selfcheck.compare(pipeline, references, ALL_PATTERNS)
    assert [str(result) for result in results if not result.passed] == []
    assert {result.pattern for result in results} == set(ALL_PATTERNS)


def test_switching_every_frame_changes_nothing_later(build: Callable[[], Pipeline]) -> None:
    pipeline, seen = build(), {}
    for pattern in (*ALL_PATTERNS, *reversed(ALL_PATTERNS), *ALL_PATTERNS[::4]):
        outputs = pipeline.run({m: inputs()[m] for m in pattern}, pattern)
        assert same(outputs, seen.setdefault(pattern, outputs)), pattern
    for pattern in (ALL_PATTERNS[0], ALL_PATTERNS[7], ALL_PATTERNS[-1]):
        fresh = build().run({m: inputs()[m] for m in pattern}, pattern)
        assert same(fresh, seen[pattern]), pattern


@pytest.mark.parametrize("kind", ["nan", "inf", "-inf", "random"])
def test_absent_latents_may_hold_anything(build: Callable[[], Pipeline], kind: str) -> None:
    pipeline = build()
    latents = {m: pipeline.encode(m, inputs()[m], Pattern.of([m])) for m in Modality}
    garbage = {m: filled(pipeline, m, kind) for m in Modality}
    for pattern in ALL_PATTERNS:
        present = {m: latents[m] for m in pattern}
        clean, dirty = pipeline.fuse(present, pattern), pipeline.fuse({**garbage, **present}, pattern)
        assert same(clean, dirty), pattern


def filled(pipeline: Pipeline, modality: Modality, kind: str) -> Latents:
    """Latents of one sensor that hold nothing sensible."""
    tensors = pipeline.manifest.graphs[encoder_name(modality)].outputs
    if kind == "random":
        generator = np.random.default_rng(2)
        return {t.name: generator.normal(0, 1e3, t.shape).astype(np.float32) for t in tensors}
    return {t.name: np.full(t.shape, float(kind), np.float32) for t in tensors}


def test_outputs_belong_to_the_caller(build: Callable[[], Pipeline]) -> None:
    pipeline, full = build(), ALL_PATTERNS[0]
    first = pipeline.run(inputs(), full)
    kept = {name: getattr(first, name).copy() for name in OUTPUTS}
    pipeline.run({m: np.zeros_like(array) for m, array in inputs().items()}, full)
    for name, value in kept.items():
        np.testing.assert_array_equal(getattr(first, name), value)


def test_a_wrong_input_names_graph_and_tensor(build: Callable[[], Pipeline]) -> None:
    backend = build().backend
    with pytest.raises(
        BackendError, match=r"encoder_rgb: expected input rgb uint8\[1, 64, 96, 3\], got float32"
    ):
        backend.run("encoder_rgb", {"rgb": np.zeros((1, 64, 96, 3), np.float32)})
    with pytest.raises(BackendError, match=r"encoder_rgb: expected input rgb .* got none"):
        backend.run("encoder_rgb", {})
    with pytest.raises(BackendError, match="graph: expected one of"):
        backend.run("encoder_radar", {})


@pytest.mark.parametrize("name", KINDS)
def test_a_named_backend_runs_or_says_why_not(name: str, folder: Path) -> None:
    reason = choice.probe(name)
    if reason is None:
        assert Engine.load(folder, name, threads=THREADS).info.backend == name
    else:
        with pytest.raises(BackendError) as error:
            Engine.load(folder, name, threads=THREADS)
        assert reason in str(error.value)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_a_backend_that_gives_something_else_is_not_replaced(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if choice.probe(name) is not None:
        pytest.skip(str(choice.probe(name)))
    kind = choice.BACKENDS[name]
    monkeypatch.setitem(choice.BACKENDS, name, replace(kind, build=lambda *given: Wrong(kind.build(*given))))
    with pytest.raises(BackendError, match=rf"backend {name} does not run this model: {name} int8: .*fp32: "):
        Engine.load(folder, name, threads=THREADS)


class Wrong:
    """A backend whose boxes are somewhere else."""

    def __init__(self, inner: Backend) -> None:
        self.name, self.device, self.precision = inner.name, inner.device, inner.precision
        self._inner = inner

    def run(self, graph: str, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        outputs = self._inner.run(graph, feeds)
        return {n: np.full_like(v, np.nan) if n == "boxes" else v for n, v in outputs.items()}


def test_auto_tells_what_it_passed_over_and_tries_no_other_by_itself(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = choice.BACKENDS["onnxruntime"]

    def refuses(
        folder: Path, manifest: Manifest, precision: str, threads: int | None, **more: Any
    ) -> Backend:
        if precision == INT8:
            raise BackendError("no integers today")
        return kind.build(folder, manifest, precision, threads, **more)

    monkeypatch.setitem(choice.BACKENDS, "onnxruntime", replace(kind, build=refuses))
    info = Engine.load(folder, "auto", threads=THREADS).info
    assert (info.backend, info.precision) == ("onnxruntime", FP32)
    assert "onnxruntime int8: no integers today" in info.rejected
    monkeypatch.setitem(choice.BACKENDS, "onnxruntime", replace(kind, probe=lambda: "not here; get it"))
    with pytest.raises(BackendError, match=r"no backend runs this model: .*onnxruntime: not here; get it"):
        Engine.load(folder, "auto", threads=THREADS)


def test_no_gpu_backend_loads_where_there_is_no_driver(folder: Path) -> None:
    if cuda.probe() is None:
        pytest.skip("there is an NVIDIA GPU")
    with pytest.raises(BackendError, match="onnxruntime_cuda: the Python package onnxruntime-gpu is not"):
        Engine.load(folder, "onnxruntime_cuda")
    # Without the probe: a session that runs elsewhere than asked is refused.
    with pytest.raises(BackendError, match=r"expected CUDAExecutionProvider, .* with CPUExecutionProvider; "):
        onnxruntime.on_cuda(folder, Manifest.load(folder), FP32, 1)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_a_file_that_is_no_graph_is_named(name: str, tmp_path: Path) -> None:
    if choice.probe(name) is not None:
        pytest.skip(str(choice.probe(name)))
    folder = make_model(tmp_path / "tiny")
    (folder / "fusion.onnx").write_bytes(b"not a graph")
    described(folder, "fusion")
    with pytest.raises(BackendError, match=r"fusion\.onnx: expected a graph \w+ ?\w* \S+ can run"):
        choice.BACKENDS[name].build(folder, Manifest.load(folder), FP32, 1)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_other_tensors_than_described_and_damaged_files_are_refused(name: str, tmp_path: Path) -> None:
    if choice.probe(name) is not None:
        pytest.skip(str(choice.probe(name)))
    folder = make_model(tmp_path / "tiny")
    build = choice.BACKENDS[name].build
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    content["graphs"]["encoder_depth"]["outputs"][0]["shape"][1] = 99
    path.write_text(json.dumps(content))
    with pytest.raises(
        BackendError, match=r"encoder_depth\.onnx: expected the outputs .*99.* of the manifest"
    ):
        build(folder, Manifest.load(folder), FP32, 1)
    damaged = bytearray((folder / "encoder_rgb.onnx").read_bytes())
    damaged[-1] ^= 255
    (folder / "encoder_rgb.onnx").write_bytes(damaged)
    with pytest.raises(ModelFileError, match=r"encoder_rgb\.onnx: expected sha256"):
        build(folder, Manifest.load(folder, check_files=False), FP32, 1)


@pytest.mark.parametrize("overlong", [False, True])
def test_a_graph_that_names_another_file_is_refused(tmp_path: Path, overlong: bool) -> None:
    (tmp_path / "elsewhere.bin").write_bytes(np.ones(16, np.float32).tobytes())
    weights = TensorProto(name="w", dims=[4, 4], data_type=TensorProto.FLOAT)
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="elsewhere.bin")
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy"]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "g", ends[:1], ends[1:], [weights]
    )
    content = helper.make_model(graph).SerializeToString()
    if overlong:  # protobuf drops the upper bits of a field's number
        key = b"\x0a\x08location"
        assert content.count(key) == 1
        content = content.replace(key, b"\x8a\x80\x80\x80\x10" + key[1:])
    path = tmp_path / "graph.onnx"
    path.write_bytes(content)
    spec = Manifest.load(make_model(tmp_path / "tiny")).graphs["fusion"]
    file = FileSpec.of(path)
    spec = replace(spec, file=file.file, sha256=file.sha256, bytes=file.bytes)
    with pytest.raises(BackendError, match=r"graph\.onnx: expected a graph with its weights inside"):
        read_graph(tmp_path, spec)


def test_openvino_computes_in_float32_with_the_asked_threads(folder: Path) -> None:
    pytest.importorskip("openvino", reason="the extra openvino is not installed")
    backend = openvino.OpenVinoBackend(folder, Manifest.load(folder), FP32, 1)
    for request in backend._requests.values():
        compiled = request.get_compiled_model()
        assert compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name() == "f32"
        assert compiled.get_property("INFERENCE_NUM_THREADS") == 1
    with pytest.raises(BackendError, match="threads: expected a positive number or none, got 0"):
        openvino.OpenVinoBackend(folder, Manifest.load(folder), FP32, 0)


def test_the_small_model_has_integers_to_compute_with(folder: Path) -> None:
    for name, precision in itertools.product(("encoder_rgb", "fusion"), (INT8, INT8_SYMMETRIC)):
        model = onnx.load(folder / Manifest.load(folder).variants[precision][name].file)
        assert any(node.op_type == "QuantizeLinear" for node in model.graph.node), (name, precision)


def test_sessions_do_without_shared_memory_where_none_can_be_made(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime as runtime

    asked = []

    def refuse(*given: object) -> None:
        asked.append(given)
        raise RuntimeError("somebody has made one")

    monkeypatch.setattr(runtime, "create_and_register_allocator", refuse)
    onnxruntime._make_shared_memory.cache_clear()
    engine = Engine.load(folder, "onnxruntime", threads=1)
    assert all(result.passed for result in engine.check())
    assert len(asked) == 1, "once a process, not once a session"
