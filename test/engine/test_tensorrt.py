"""The TensorRT backend on a GPU made of host memory: right outputs, one captured graph, nothing left behind.

What a real GPU computes, and whether it captures a real plan, only `benchmarks/gpu.py` can tell.
"""

from __future__ import annotations

import ctypes
import gc
import json
import logging
import re
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_gpu import DEVICE, FakeCuda, FakeTensorRt, cudaError_t, library, runtime
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_model import make_model

from robust_perception import build_engine
from robust_perception.engine import choice, cuda, plan_store, selfcheck, tensorrt, tensorrt_library
from robust_perception.engine.cuda_runtime import CudaRuntime
from robust_perception.engine.device_memory import DeviceLatent, Layout
from robust_perception.engine.engine import Engine
from robust_perception.engine.errors import BackendError, ModelFileError, SelfCheckError
from robust_perception.engine.manifest import Manifest
from robust_perception.engine.model_files import FileSpec, TensorSpec
from robust_perception.engine.onnxruntime import OnnxRuntimeBackend
from robust_perception.engine.pipeline import Pipeline
from robust_perception.engine.plan_key import Target, key_of
from robust_perception.engine.plan_store import PlanError, PlanStore
from robust_perception.engine.precision import FP32
from robust_perception.engine.tensorrt import TensorRtBackend
from robust_perception.preprocess import INPUT_DTYPES, input_shape
from robust_perception.vocabulary import ALL_PATTERNS, Array, FrameSet, Modality, Pattern, SensorFrame

OUTPUTS = ("label_map", "confidence", "box_scores", "boxes", "scene")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def manifest(folder: Path) -> Manifest:
    return Manifest.load(folder)


@pytest.fixture
def gpu() -> FakeCuda:
    return FakeCuda()


def plans_of(folder: Path, manifest: Manifest) -> dict[str, bytes]:
    return {name: (folder / graph.file).read_bytes() for name, graph in manifest.graphs.items()}


def backend_on(
    gpu: FakeCuda, folder: Path, manifest: Manifest, trt: FakeTensorRt | None = None
) -> TensorRtBackend:
    made = library(trt or FakeTensorRt(gpu))
    return TensorRtBackend(manifest, FP32, plans_of(folder, manifest), made, runtime(gpu), DEVICE)


def measurement(modality: Modality, seed: int) -> Array:
    scale = {Modality.RGB: 255.0, Modality.DEPTH: 10.0, Modality.THERMAL: 400.0, Modality.AUDIO: 1.0}[
        modality
    ]
    values = (
        np.random.default_rng([seed, len(modality.value)]).random(input_shape(modality, (64, 96))) * scale
    )
    return values.astype(INPUT_DTYPES[modality])


def frame_set(pattern: Pattern, seed: int) -> FrameSet:
    frames = {m: SensorFrame(m, measurement(m, seed), seed) for m in pattern}
    return FrameSet(pattern, frames, next(iter(pattern)))


def test_every_pattern_gives_what_another_runtime_gives(
    gpu: FakeCuda, folder: Path, manifest: Manifest
) -> None:
    ours = Pipeline(manifest, backend_on(gpu, folder, manifest))
    other = Pipeline(manifest, OnnxRuntimeBackend(folder, manifest, threads=1))
    for seed, pattern in enumerate(ALL_PATTERNS):
        inputs = {m: measurement(m, seed) for m in pattern}
        got, expected = ours.run(inputs, pattern), other.run(inputs, pattern)
        for name in OUTPUTS:
            assert getattr(got, name).tobytes() == getattr(expected, name).tobytes(), (pattern, name)


@settings(max_examples=10)
@given(sequence=st.lists(st.tuples(st.integers(1, 15), st.integers(0, 2)), min_size=2, max_size=6))
def test_switching_patterns_changes_nothing_later(
    folder: Path, manifest: Manifest, sequence: list[tuple[int, int]]
) -> None:
    engine = Engine.of(backend_on(FakeCuda(), folder, manifest), manifest, folder)
    frames = {seed: frame_set(Pattern(15), seed).frames for seed in range(3)}
    for bits, seed in sequence:
        pattern = Pattern(bits)
        chosen = {m: frames[seed][m] for m in pattern}  # the same frames come again: latents are used again
        last = engine.infer(FrameSet(pattern, chosen, next(iter(pattern))))
    fresh = Engine.of(backend_on(FakeCuda(), folder, manifest), manifest, folder).infer(last.frame_set)
    for name in ("label_map", "boxes", "scores", "scene"):
        np.testing.assert_array_equal(getattr(last, name), getattr(fresh, name))
    assert last.confidence == fresh.confidence


def test_one_captured_graph_a_model_graph_serves_every_pattern(
    gpu: FakeCuda, folder: Path, manifest: Manifest
) -> None:
    backend = backend_on(gpu, folder, manifest)
    pipeline = Pipeline(manifest, backend)
    assert backend.uncaptured == {}
    assert gpu.calls["cudaGraphInstantiate"] == len(manifest.graphs)
    latents = {m: pipeline.encode(m, measurement(m, 0), Pattern(15)) for m in Modality}
    pipeline.fuse(latents, Pattern(15))
    before = gpu.calls.copy()
    for pattern in ALL_PATTERNS:
        pipeline.fuse({m: latents[m] for m in pattern}, pattern)
    made = gpu.calls - before
    # A switch is eight bytes in the host's memory: no call but those of any run.
    assert made == {"cudaGraphLaunch": 15, "cudaStreamSynchronize": 15, "cudaSetDevice": 15}


def test_latents_stay_on_the_device_and_are_moved_once(
    gpu: FakeCuda, folder: Path, manifest: Manifest
) -> None:
    pipeline = Pipeline(manifest, backend_on(gpu, folder, manifest))
    before = gpu.calls["cudaMemcpyAsync"]
    depth = pipeline.encode(Modality.DEPTH, measurement(Modality.DEPTH, 1), Pattern(2))
    assert all(isinstance(latent, DeviceLatent) for latent in depth.values())
    assert gpu.calls["cudaMemcpyAsync"] == before + 1
    for _ in range(3):
        pipeline.fuse({Modality.DEPTH: depth}, Pattern(2))
    assert gpu.calls["cudaMemcpyAsync"] == before + 2
    other = OnnxRuntimeBackend(folder, manifest, threads=1)
    expected = other.run("encoder_depth", {"depth": measurement(Modality.DEPTH, 1)[np.newaxis]})
    for name, latent in depth.items():
        np.testing.assert_array_equal(np.asarray(latent), expected[name])


def test_latents_of_several_frames_are_kept_apart(gpu: FakeCuda, folder: Path, manifest: Manifest) -> None:
    pipeline = Pipeline(manifest, backend_on(gpu, folder, manifest))
    pattern = Pattern.parse("thermal")
    held = [pipeline.encode(Modality.THERMAL, measurement(Modality.THERMAL, k), pattern) for k in range(4)]
    seen = [pipeline.fuse({Modality.THERMAL: latents}, pattern).box_scores for latents in held]
    again = [pipeline.fuse({Modality.THERMAL: latents}, pattern).box_scores for latents in reversed(held)]
    for first, second in zip(seen, reversed(again), strict=True):
        np.testing.assert_array_equal(first, second)
    assert len({scores.tobytes() for scores in seen}) == 4
    # Of two frames at once: no one block has them, so they are moved one by one.
    mixed = {**held[0], "thermal_p5": held[1]["thermal_p5"]}
    got = pipeline.fuse({Modality.THERMAL: mixed}, pattern)
    plain = {name: np.asarray(latent) for name, latent in mixed.items()}
    reference = Pipeline(manifest, OnnxRuntimeBackend(folder, manifest, threads=1))
    expected = reference.fuse({Modality.THERMAL: plain}, pattern)
    np.testing.assert_array_equal(got.box_scores, expected.box_scores)
    np.testing.assert_array_equal(got.label_map, expected.label_map)


def test_blocks_nobody_holds_are_used_again(gpu: FakeCuda, folder: Path, manifest: Manifest) -> None:
    pipeline = Pipeline(manifest, backend_on(gpu, folder, manifest))
    before = len(gpu.device)
    for seed in range(6):
        latents = pipeline.encode(Modality.RGB, measurement(Modality.RGB, seed), Pattern(1))
    assert len(gpu.device) == before + 2  # the one held, and the one written beside it
    one = latents["rgb_p2"]
    del latents
    kept = np.asarray(one).copy()
    for seed in range(3):
        pipeline.encode(Modality.RGB, measurement(Modality.RGB, seed), Pattern(1))
    np.testing.assert_array_equal(np.asarray(one), kept)


@pytest.mark.parametrize("filling", [0xFF, 0x7F])  # NaN; 3.4e38
def test_what_is_in_an_absent_sensors_buffer_changes_nothing(
    gpu: FakeCuda, folder: Path, manifest: Manifest, filling: int
) -> None:
    backend = backend_on(gpu, folder, manifest)
    pipeline = Pipeline(manifest, backend)
    pattern = Pattern.parse("depth+audio")
    inputs = {m: measurement(m, 3) for m in pattern}
    clean = pipeline.run(inputs, pattern)
    fusion = backend._graphs["fusion"]
    for encoder in ("encoder_rgb", "encoder_thermal"):
        ctypes.memset(fusion.latents[encoder], filling, backend._pools[encoder].layout.size)
    dirty = pipeline.run(inputs, pattern)
    for name in OUTPUTS:
        assert getattr(clean, name).tobytes() == getattr(dirty, name).tobytes()


def test_arrays_do_as_latents(gpu: FakeCuda, folder: Path, manifest: Manifest) -> None:
    ours = Pipeline(manifest, backend_on(gpu, folder, manifest))
    other = Pipeline(manifest, OnnxRuntimeBackend(folder, manifest, threads=1))
    pattern = Pattern.parse("rgb+audio")
    latents = {m: other.encode(m, measurement(m, 0), pattern) for m in pattern}
    np.testing.assert_array_equal(ours.fuse(latents, pattern).scene, other.fuse(latents, pattern).scene)


def test_closing_gives_everything_back_and_says_so_later(
    gpu: FakeCuda, folder: Path, manifest: Manifest
) -> None:
    trt = FakeTensorRt(gpu)
    backend = backend_on(gpu, folder, manifest, trt)
    latents = Pipeline(manifest, backend).encode(Modality.AUDIO, measurement(Modality.AUDIO, 0), Pattern(8))
    assert gpu.left > 0
    backend.close()
    backend.close()
    assert (gpu.left, trt.engines["live"]) == (0, 0)
    with pytest.raises(BackendError, match="latent audio_vector: expected its backend to be open"):
        np.asarray(latents["audio_vector"])
    with pytest.raises(BackendError, match="tensorrt_rtx: expected a backend that is open"):
        backend.run("fusion", {})
    with pytest.raises(BackendError, match="expected its backend to be open"):
        Pipeline(manifest, backend_on(gpu, folder, manifest)).fuse({Modality.AUDIO: latents}, Pattern(8))


def test_a_backend_nobody_holds_gives_everything_back(
    gpu: FakeCuda, folder: Path, manifest: Manifest
) -> None:
    engine = Engine.of(backend_on(gpu, folder, manifest), manifest, folder)
    engine.infer(frame_set(Pattern(15), 0))
    del engine
    gc.collect()
    assert gpu.left == 0


def test_a_plan_that_does_not_load_leaves_nothing_behind(
    gpu: FakeCuda, folder: Path, manifest: Manifest
) -> None:
    plans = plans_of(folder, manifest) | {"fusion": b"no plan"}
    trt = FakeTensorRt(gpu)
    with pytest.raises(
        BackendError, match="fusion: deserialize_cuda_engine: expected success, got Serialization"
    ):
        TensorRtBackend(manifest, FP32, plans, library(trt), runtime(gpu), DEVICE)
    gc.collect()
    assert (gpu.left, trt.engines["live"]) == (0, 0)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("cudaMalloc", cudaError_t.cudaErrorMemoryAllocation),
        ("cudaHostAlloc", cudaError_t.cudaErrorMemoryAllocation),
        ("cudaStreamCreateWithFlags", cudaError_t.cudaErrorInvalidValue),
        ("cudaStreamSynchronize", cudaError_t.cudaErrorLaunchFailure),
    ],
)
def test_an_error_names_the_call_and_has_cudas_words(
    gpu: FakeCuda, folder: Path, manifest: Manifest, call: str, error: cudaError_t
) -> None:
    gpu.fails[call] = error
    with pytest.raises(
        BackendError, match=rf"{call}: expected success, got {error.name} \(words for {int(error)}\)"
    ):
        backend_on(gpu, folder, manifest)


def test_an_error_while_running_names_graph_and_call(gpu: FakeCuda, folder: Path, manifest: Manifest) -> None:
    backend = backend_on(gpu, folder, manifest)
    gpu.fails["cudaGraphLaunch"] = cudaError_t.cudaErrorLaunchFailure
    with pytest.raises(BackendError, match="cudaGraphLaunch: expected success, got cudaErrorLaunchFailure"):
        backend.run("encoder_audio", {"audio": measurement(Modality.AUDIO, 0)[np.newaxis]})
    trt = FakeTensorRt(gpu)
    trt.executes = False
    with pytest.raises(BackendError, match=r"encoder_rgb: execute_async_v3: .* got enqueueV3: no luck"):
        backend_on(gpu, folder, manifest, trt)


@pytest.mark.parametrize("how", ["said beforehand", "found out"])
def test_a_plan_that_cannot_be_captured_runs_without(
    gpu: FakeCuda, folder: Path, manifest: Manifest, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    trt = FakeTensorRt(gpu, capturable=False if how == "said beforehand" else None)
    if how == "found out":
        gpu.fails["cudaStreamEndCapture"] = cudaError_t.cudaErrorStreamCaptureUnsupported
    with caplog.at_level(logging.WARNING):
        backend = backend_on(gpu, folder, manifest, trt)
    assert set(backend.uncaptured) == set(manifest.graphs)
    reason = "under stream capture" if how == "said beforehand" else "cudaErrorStreamCaptureUnsupported"
    assert reason in caplog.text
    inputs = {m: measurement(m, 0) for m in Modality}
    got = Pipeline(manifest, backend).run(inputs, Pattern(15))
    expected = Pipeline(manifest, OnnxRuntimeBackend(folder, manifest, threads=1)).run(inputs, Pattern(15))
    np.testing.assert_array_equal(got.label_map, expected.label_map)


def test_a_plan_with_other_tensors_is_refused(gpu: FakeCuda, folder: Path, manifest: Manifest) -> None:
    plans = plans_of(folder, manifest)
    plans["encoder_depth"] = plans["encoder_thermal"]
    with pytest.raises(
        BackendError, match=r"encoder_depth: expected the tensors .*'depth'.* got .*'thermal'"
    ):
        TensorRtBackend(manifest, FP32, plans, library(FakeTensorRt(gpu)), runtime(gpu), DEVICE)


def test_a_wrong_input_names_graph_and_tensor(gpu: FakeCuda, folder: Path, manifest: Manifest) -> None:
    backend = backend_on(gpu, folder, manifest)
    with pytest.raises(
        BackendError, match=r"encoder_rgb: expected input rgb uint8\[1, 64, 96, 3\], got float32"
    ):
        backend.run("encoder_rgb", {"rgb": np.zeros((1, 64, 96, 3), np.float32)})
    with pytest.raises(BackendError, match=r"fusion: expected input pattern int64\[1\], got none"):
        backend.run("fusion", {})
    with pytest.raises(BackendError, match="graph: expected one of"):
        backend.run("encoder_radar", {})


@given(st.lists(st.lists(st.integers(1, 40), max_size=4), min_size=1, max_size=5))
def test_tensors_of_a_layout_do_not_overlap(shapes: list[list[int]]) -> None:
    kinds = ("uint8", "float32", "int64")
    tensors = [TensorSpec(f"t{i}", kinds[i % 3], tuple(shape)) for i, shape in enumerate(shapes)]
    layout = Layout.of(tensors)
    memory = np.zeros(layout.size, np.uint8)
    for index, tensor in enumerate(tensors):
        view = layout.view(memory, tensor.name)
        assert (view.shape, view.dtype.name) == (tensor.shape, tensor.dtype)
        assert layout.offsets[tensor.name] % 256 == 0
        view[...] = index + 1
    for index, tensor in enumerate(tensors):
        assert (layout.view(memory, tensor.name) == index + 1).all()


# The way from `Engine.load` to the plans on disk.


@pytest.fixture
def machine(gpu: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    """A machine with the test GPU and both libraries."""
    monkeypatch.setattr(tensorrt_library, "probe", lambda name: None)
    monkeypatch.setattr(cuda, "probe", lambda: None)
    monkeypatch.setattr(cuda, "device", lambda: DEVICE)
    monkeypatch.setattr(CudaRuntime, "load", classmethod(lambda cls: runtime(gpu)))
    monkeypatch.setattr(tensorrt_library, "load", lambda name: library(FakeTensorRt(gpu), name))
    for name, kind in list(choice.BACKENDS.items()):
        monkeypatch.setitem(choice.BACKENDS, name, replace(kind, probe=lambda: None))
    return gpu


def store_plans(
    folder: Path, manifest: Manifest, cache: Path, driver: str = DEVICE.driver, **changes: object
) -> None:
    builder = library(FakeTensorRt(FakeCuda())).builder("13.0")
    for name, plan in plans_of(folder, manifest).items():
        key = key_of(manifest, name, FP32, builder, Target.of(DEVICE), 4, 1 << 30)
        PlanStore(cache).save(replace(key, **changes), plan, driver)  # type: ignore[arg-type]


def test_plans_are_loaded_and_every_pattern_checks(
    machine: FakeCuda, folder: Path, manifest: Manifest, tmp_path: Path
) -> None:
    store_plans(folder, manifest, tmp_path)
    engine = Engine.load(folder, "tensorrt_rtx", cache=tmp_path)
    assert (engine.info.backend, engine.info.device) == ("tensorrt_rtx", "Test GPU (sm_89)")
    assert {result.pattern for result in engine.check() if result.passed} == set(ALL_PATTERNS)
    assert "tensorrt_rtx int8: model tiny has no int8-symmetric graphs" in engine.info.rejected


def test_a_check_without_references_fails(machine: FakeCuda, tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model", references=False)
    store_plans(folder, Manifest.load(folder), tmp_path / "cache")
    with pytest.raises(SelfCheckError, match=r"model tiny: expected references .*robust-perception export"):
        build_engine.check_model(folder, "tensorrt_rtx", [FP32], tmp_path / "cache", print)


def test_without_plans_a_named_backend_is_an_error_and_auto_falls_through(
    machine: FakeCuda, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(PlanError) as caught:
        Engine.load(folder, "tensorrt_rtx", precision="fp32", cache=tmp_path)
    assert "no plan of encoder_rgb at" in str(caught.value)
    command = f"robust-perception build-engine --model {folder} --backend tensorrt_rtx --precision fp32"
    assert f"Rebuild with `{command} --cache {tmp_path}`. Not rebuilding inside the node." in str(
        caught.value
    )
    engine = Engine.load(folder, "auto", cache=tmp_path)
    assert engine.info.backend == "onnxruntime"
    assert any(reason.startswith("tensorrt fp32: no plan") for reason in engine.info.rejected)
    assert any(reason.startswith("tensorrt_rtx fp32: no plan") for reason in engine.info.rejected)


def test_a_plan_of_another_version_and_gpu_names_both_sides(
    machine: FakeCuda, folder: Path, manifest: Manifest, tmp_path: Path
) -> None:
    store_plans(
        folder, manifest, tmp_path, version="1.2.0.44", gpu="NVIDIA GeForce RTX 4090", memory=24 << 30
    )
    with pytest.raises(PlanError) as caught:
        Engine.load(folder, "tensorrt_rtx", precision="fp32", cache=tmp_path)
    message = str(caught.value)
    assert "version: built for '1.2.0.44', here '1.7.1.116'" in message
    assert "gpu: built for 'NVIDIA GeForce RTX 4090', here 'Test GPU'" in message
    assert f"memory: built for {24 << 30}, here {8 << 30}" in message
    assert "Rebuild with `robust-perception build-engine" in message


def test_a_plan_built_ahead_of_time_does_for_every_gpu_of_its_kind(
    machine: FakeCuda, folder: Path, manifest: Manifest, tmp_path: Path
) -> None:
    store_plans(folder, manifest, tmp_path, "", gpu="any", multiprocessors=0, memory=0)
    assert Engine.load(folder, "tensorrt_rtx", cache=tmp_path).info.precision == FP32


def test_another_driver_is_warned_of_and_the_references_decide(
    machine: FakeCuda, folder: Path, manifest: Manifest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store_plans(folder, manifest, tmp_path, driver="550.54")
    with caplog.at_level(logging.WARNING):
        Engine.load(folder, "tensorrt_rtx", cache=tmp_path)
    assert "was built under driver 550.54, this is 580.1" in caplog.text
    assert rebuilding(folder, tmp_path) in caplog.text


def rebuilding(folder: Path, cache: Path) -> str:
    command = f"build-engine --model {folder} --backend tensorrt_rtx --precision fp32 --cache {cache}"
    return f". Rebuild with `robust-perception {command} --rebuild`. Not rebuilding inside the node."


@pytest.mark.parametrize("what", ["no plan", "another graph's"])
def test_a_plan_that_fits_and_does_not_load_is_told_with_what_builds_it_anew(
    machine: FakeCuda, folder: Path, manifest: Manifest, tmp_path: Path, what: str
) -> None:
    store_plans(folder, manifest, tmp_path)
    path = next(tmp_path.rglob("fusion.*.plan"))
    plan = b"no plan" if what == "no plan" else plans_of(folder, manifest)["encoder_rgb"]
    plan_store.write(path, plan_store.read(path)[0], plan)
    with pytest.raises(PlanError, match=rf"fusion: .*{re.escape(rebuilding(folder, tmp_path))}$"):
        Engine.load(folder, "tensorrt_rtx", precision="fp32", cache=tmp_path)
    assert machine.left == 0


def test_a_device_without_memory_is_not_mended_by_another_plan(
    machine: FakeCuda, folder: Path, manifest: Manifest, tmp_path: Path
) -> None:
    store_plans(folder, manifest, tmp_path)
    machine.fails["cudaMalloc"] = cudaError_t.cudaErrorMemoryAllocation
    with pytest.raises(BackendError, match=r"cudaMalloc: expected success, got [^.]*$"):
        Engine.load(folder, "tensorrt_rtx", precision="fp32", cache=tmp_path)


def with_other_references(folder: Path, bits: int) -> Manifest:
    """A model whose references of one pattern are not what its graphs give."""
    make_model(folder)
    path = folder / "manifest.json"
    with np.load(folder / "references.npz") as archive:
        arrays = {name: archive[name] for name in archive.files}
    arrays[f"output/{bits}/box_scores"] = arrays[f"output/{bits}/box_scores"] + np.float32(1)
    np.savez(folder / "references.npz", **arrays)
    content = json.loads(path.read_text())
    file = FileSpec.of(folder / "references.npz")
    content["references"] = {"file": file.file, "sha256": file.sha256, "bytes": file.bytes}
    path.write_text(json.dumps(content))
    return Manifest.load(folder)


def test_a_plan_that_computes_something_else_is_not_used(machine: FakeCuda, tmp_path: Path) -> None:
    folder, cache = tmp_path / "model", tmp_path / "cache"
    store_plans(folder, with_other_references(folder, 15), cache)
    words = rf"expected its reference outputs, got .* in box_scores .*{re.escape(rebuilding(folder, cache))}$"
    with pytest.raises(SelfCheckError, match=words):
        Engine.load(folder, "tensorrt_rtx", cache=cache)
    assert machine.left == 0


def test_what_cannot_be_checked_is_closed_though_the_error_holds_it(
    machine: FakeCuda, tmp_path: Path
) -> None:
    folder = make_model(tmp_path / "model")
    store_plans(folder, Manifest.load(folder), tmp_path / "cache")
    references = folder / "references.npz"
    references.write_bytes(bytes(references.stat().st_size))
    with pytest.raises(ModelFileError) as caught:
        Engine.load(folder, "tensorrt_rtx", cache=tmp_path / "cache")
    assert (machine.left, caught.type) == (0, ModelFileError)


def test_a_command_that_checks_says_how_to_build_anew(machine: FakeCuda, tmp_path: Path) -> None:
    folder, cache = tmp_path / "model", tmp_path / "cache"
    store_plans(folder, with_other_references(folder, 7), cache)  # neither the richest nor the poorest
    with pytest.raises(SelfCheckError, match=rf"{re.escape(rebuilding(folder, cache))}$"):
        build_engine.check_model(folder, "tensorrt_rtx", [FP32], cache, lambda _: None)


def test_auto_keeps_nothing_of_a_backend_that_failed_its_check(
    machine: FakeCuda, folder: Path, manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_plans(folder, manifest, tmp_path)
    real, kept = selfcheck.require, weakref.WeakSet[object]()

    def require(results: object, model: str) -> None:
        if machine.left:
            raise SelfCheckError("model tiny: expected its reference outputs, got others")
        real(results, model)  # type: ignore[arg-type]

    def build(*given: Any, **more: Any) -> TensorRtBackend:
        built = tensorrt.load("tensorrt_rtx", given[0], given[1], given[2], more["cache"])
        kept.add(built)
        return built

    monkeypatch.setattr(selfcheck, "require", require)
    kind = choice.BACKENDS["tensorrt_rtx"]
    monkeypatch.setitem(choice.BACKENDS, "tensorrt_rtx", replace(kind, build=build))
    gc.disable()
    try:
        engine = Engine.load(folder, "auto", cache=tmp_path)
        assert (machine.left, len(kept)) == (0, 0)
    finally:
        gc.enable()
    assert engine.info.backend == "onnxruntime"


def test_rebuild_words_quote_what_a_shell_would_split(tmp_path: Path) -> None:
    words = tensorrt.rebuild_words("tensorrt", Path("my models/m"), "int8-symmetric", None)
    assert "--model 'my models/m' --backend tensorrt --precision int8`" in words
