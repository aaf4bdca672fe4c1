"""From `Engine.load` to TensorRT's plans on disk: which are taken, checked and refused, and what mends it.

On a GPU made of host memory, see `fake_cuda`.
"""

from __future__ import annotations

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
from fake_cuda import DEVICE, FakeCuda, cudaError_t, runtime
from fake_tensorrt import FakeTensorRt, library, plans_of
from moments import moment, under
from tiny_model import make_model

from robust_perception import build_engine
from robust_perception.engine import (
    choice,
    cuda,
    plan_building,
    plan_store,
    selfcheck,
    tensorrt,
    tensorrt_library,
)
from robust_perception.engine.cuda_runtime import CudaRuntime
from robust_perception.engine.engine import Engine
from robust_perception.engine.errors import BackendError, ModelFileError, SelfCheckError
from robust_perception.engine.manifest import Manifest
from robust_perception.engine.model_files import FileSpec
from robust_perception.engine.plan_building import Request, build_model
from robust_perception.engine.plan_key import Target, key_of
from robust_perception.engine.plan_store import PlanError, PlanStore
from robust_perception.engine.precision import FP32
from robust_perception.engine.tensorrt import TensorRtBackend
from robust_perception.engine.tensorrt_builder import BuildOptions, Built
from robust_perception.vocabulary import ALL_PATTERNS


@pytest.fixture
def gpu() -> FakeCuda:
    return FakeCuda()


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
    again = Engine.load(folder, "tensorrt_rtx", cache=tmp_path)
    assert again.info == engine.info
    assert machine.calls["compile"] == len(manifest.graphs), "once, not at every load"
    assert "tensorrt_rtx int8: model tiny has no int8-symmetric graphs" in engine.info.rejected


def test_a_fusion_in_parts_is_built_and_run_whole(
    machine: FakeCuda, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts are for the cores of a CPU: on a GPU they would be copies and launches more."""
    folder = repository / "models" / "default"
    manifest = Manifest.load(folder, check_files=False)
    assert FP32 in manifest.parts
    monkeypatch.setattr(plan_building, "build", lambda library, onnx, *_: Built(onnx, b""))
    made, store = library(FakeTensorRt(machine), "tensorrt_rtx"), PlanStore(tmp_path)
    paths = build_model(Request(folder, manifest, (FP32,), BuildOptions()), made, store, lambda _: None)
    assert [path.name for path in paths] == [f"{name}.sm_89.plan" for name in manifest.graphs]
    engine = Engine.load(folder, "tensorrt_rtx", threads=4, precision=FP32, cache=tmp_path)
    assert machine.calls["cudaGraphInstantiate"] == len(manifest.graphs)
    assert all(result.passed for result in engine.check(ALL_PATTERNS[:1]))
    fused = machine.calls["cudaGraphLaunch"]
    engine.infer(under(moment(0), ALL_PATTERNS[0]))
    assert machine.calls["cudaGraphLaunch"] == fused + len(manifest.graphs), "each graph once"


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


def no_object(*_: object) -> object:
    raise TypeError("pybind11::init(): factory function returned nullptr")


def test_a_library_that_gives_no_runtime_is_passed_over(
    machine: FakeCuda, folder: Path, manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeTensorRt, "Runtime", no_object)
    store_plans(folder, manifest, tmp_path)
    engine = Engine.load(folder, "auto", cache=tmp_path)
    assert engine.info.backend == "onnxruntime"
    assert any("expected a runtime, got none: no reason (pybind11" in r for r in engine.info.rejected)
    with pytest.raises(BackendError, match="expected a runtime, got none"):
        Engine.load(folder, "tensorrt_rtx", cache=tmp_path)


def test_a_driver_older_than_the_runtime_is_told_with_the_mend(
    machine: FakeCuda, folder: Path, manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_plans(folder, manifest, tmp_path)
    monkeypatch.setattr(cuda, "device", lambda: replace(DEVICE, driver_cuda="12.6"))
    said = r"cuda-bindings: expected one for CUDA 12\.6.* got CUDA 13\.0; `pip install 'cuda-bindings<13'`"
    with pytest.raises(BackendError, match=said):
        Engine.load(folder, "tensorrt_rtx", cache=tmp_path)
    request = Request(folder, manifest, (FP32,), BuildOptions())
    made = library(FakeTensorRt(machine), "tensorrt_rtx")
    with pytest.raises(BackendError, match=said):
        build_model(request, made, PlanStore(tmp_path / "other"), print)
    monkeypatch.setattr(cuda, "device", lambda: replace(DEVICE, driver_cuda="13.2"))
    assert Engine.load(folder, "tensorrt_rtx", cache=tmp_path).info.backend == "tensorrt_rtx"


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


HOPPER = replace(DEVICE, compute_capability=(9, 0))
BEYOND = "names sm_89, sm_120 as its targets, and this GPU is sm_90, which may be why: use the backend .*"


def test_a_plan_that_fails_on_a_gpu_beyond_the_librarys_list_says_so(
    machine: FakeCuda, folder: Path, manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda, "device", lambda: HOPPER)
    store_plans(folder, manifest, tmp_path, compute_capability="sm_90")
    assert Engine.load(folder, "tensorrt_rtx", cache=tmp_path).info.device == "Test GPU (sm_90)"  # it may do
    path = next(tmp_path.rglob("fusion.*.plan"))
    plan_store.write(path, plan_store.read(path)[0], b"no plan")
    with pytest.raises(BackendError, match=rf"fusion: deserialize_cuda_engine: .*{BEYOND}$"):
        Engine.load(folder, "tensorrt_rtx", precision="fp32", cache=tmp_path)
    # TensorRT itself offers no targets: what fails there has another reason.
    store_plans(folder, manifest, tmp_path, compute_capability="sm_90", backend="tensorrt")
    path = next((tmp_path / "tiny" / "tensorrt").rglob("fusion.*.plan"))
    plan_store.write(path, plan_store.read(path)[0], b"no plan")
    with pytest.raises(PlanError, match=r"fusion: deserialize_cuda_engine: .*Rebuild with"):
        Engine.load(folder, "tensorrt", precision="fp32", cache=tmp_path)


def test_a_build_that_fails_on_a_gpu_beyond_the_librarys_list_says_so(
    machine: FakeCuda, folder: Path, manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeTensorRt, "Builder", no_object, raising=False)
    request = Request(folder, manifest, (FP32,), BuildOptions())
    made = library(FakeTensorRt(machine), "tensorrt_rtx")
    for device, said in ((HOPPER, rf"{BEYOND}$"), (DEVICE, r"nullptr\)$")):
        monkeypatch.setattr(cuda, "device", lambda device=device: device)
        with pytest.raises(BackendError, match=rf"expected a builder, got none: .*{said}"):
            build_model(request, made, PlanStore(tmp_path), print)


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
