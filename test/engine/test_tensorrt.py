"""The TensorRT backend on a GPU made of host memory: right outputs, one captured graph, nothing left behind.

What a real GPU computes, and whether it captures a real plan, only `benchmarks/gpu.py` can tell.
"""

from __future__ import annotations

import ctypes
import gc
import logging
from pathlib import Path

import numpy as np
import pytest
from fake_cuda import DEVICE, FakeCuda, cudaError_t, runtime
from fake_tensorrt import FakeTensorRt, library, plans_of
from hypothesis import given, settings
from hypothesis import strategies as st

from robust_perception.engine.device_memory import DeviceLatent, Layout
from robust_perception.engine.engine import Engine
from robust_perception.engine.errors import BackendError
from robust_perception.engine.manifest import Manifest
from robust_perception.engine.model_files import TensorSpec
from robust_perception.engine.onnxruntime import OnnxRuntimeBackend
from robust_perception.engine.pipeline import Pipeline
from robust_perception.engine.precision import FP32
from robust_perception.engine.tensorrt import TensorRtBackend
from robust_perception.preprocess import INPUT_DTYPES, input_shape
from robust_perception.vocabulary import ALL_PATTERNS, Array, FrameSet, Modality, Pattern, SensorFrame

OUTPUTS = ("label_map", "confidence", "box_scores", "boxes", "scene")


@pytest.fixture
def gpu() -> FakeCuda:
    return FakeCuda()


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


def test_a_call_the_driver_has_not_is_an_error_with_its_name(gpu: FakeCuda) -> None:
    def missing(size: int) -> object:
        raise RuntimeError('Function "cudaMalloc" not found')

    gpu.cudaMalloc = missing  # type: ignore[method-assign, assignment]
    with pytest.raises(BackendError, match="cudaMalloc: expected the NVIDIA driver to have it, got"):
        runtime(gpu).allocate(16)


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
