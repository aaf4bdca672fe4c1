"""Kernels that TensorRT-RTX compiles at load: compiled once, taken only where they fit, never needed.

On a GPU made of host memory (`fake_cuda`); that the real library has the calls is tested where it is there.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from fake_cuda import DEVICE, FakeCuda, runtime
from fake_tensorrt import KERNELS, OTHER_KERNELS, FakeTensorRt, library, plans_of

from robust_perception.engine import plan_store, tensorrt_kernels, tensorrt_library
from robust_perception.engine.device_memory import DeviceLatent
from robust_perception.engine.manifest import Manifest
from robust_perception.engine.plan_key import PlanKey, Target, key_of
from robust_perception.engine.plan_store import PlanStore
from robust_perception.engine.precision import FP32
from robust_perception.engine.tensorrt import TensorRtBackend
from robust_perception.engine.tensorrt_kernels import KernelCache


def load(folder: Path, manifest: Manifest, cache: Path, driver: str = "580.1", gpu: str = "Test GPU") -> int:
    """Load and run a model; how many of its plans were compiled."""
    cuda = FakeCuda()
    made = library(FakeTensorRt(cuda))
    builder, target = made.builder("13.0"), Target.of(replace(DEVICE, name=gpu))
    plans, kernels = plans_of(folder, manifest), {}
    for name, plan in plans.items():
        key = key_of(manifest, name, FP32, builder, target)
        kernels[name] = KernelCache(PlanStore(cache).path(key), key, driver, plan)
    backend = TensorRtBackend(manifest, FP32, plans, made, runtime(cuda), DEVICE, kernels)
    outputs = backend.run("encoder_audio", {"audio": np.zeros((1, 16000), np.float32)})
    assert all(isinstance(latent, DeviceLatent) for latent in outputs.values())
    backend.close()
    assert cuda.left == 0
    return cuda.calls["compile"]


def test_a_second_load_compiles_nothing(folder: Path, manifest: Manifest, tmp_path: Path) -> None:
    graphs = len(manifest.graphs)
    assert load(folder, manifest, tmp_path) == graphs
    files = sorted(tmp_path.rglob("*.kernels"))
    assert [f.name for f in files] == [f"{name}.sm_89.kernels" for name in sorted(manifest.graphs)]
    before = {f: f.stat().st_mtime_ns for f in files}
    assert load(folder, manifest, tmp_path) == 0
    assert {f: f.stat().st_mtime_ns for f in files} == before


@pytest.mark.parametrize("other", [{"driver": "590.0"}, {"gpu": "Test GPU Ti"}])
def test_kernels_of_another_driver_or_gpu_are_compiled_anew(
    folder: Path, manifest: Manifest, tmp_path: Path, other: dict[str, str]
) -> None:
    load(folder, manifest, tmp_path)
    assert load(folder, manifest, tmp_path, **other) == len(manifest.graphs)
    assert load(folder, manifest, tmp_path, **other) == 0


@pytest.mark.parametrize("what", ["cut", "changed", "forged", "large", "others'", "no header", "refused"])
def test_what_is_damaged_or_does_not_fit_is_thrown_away(
    folder: Path, manifest: Manifest, tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(folder, manifest, tmp_path)
    path = next(tmp_path.rglob("fusion.*.kernels"))
    header, whole = plan_store.read(path)[0], path.read_bytes()
    if what == "cut":
        path.write_bytes(whole[:-1])
    elif what == "changed":
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    elif what == "forged":  # another plan's, under this one's name
        plan_store.write(path, {**header, "plan_sha256": "0" * 64}, b"forged")
    elif what == "large":
        plan_store.write(path, header, b"x" * 100)
        monkeypatch.setattr(tensorrt_kernels, "MAXIMUM_BYTES", 99)
    elif what == "others'":
        path.chmod(0o666)
    elif what == "no header":
        path.write_bytes(b"forged")
    else:
        plan_store.write(path, header, OTHER_KERNELS)
    assert load(folder, manifest, tmp_path) == 1
    assert plan_store.read(path)[1] == KERNELS
    assert load(folder, manifest, tmp_path) == 0


def test_where_nothing_can_be_written_all_runs_and_it_is_told(
    folder: Path, manifest: Manifest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "tiny").write_text("no folder")
    with caplog.at_level(logging.INFO):
        assert load(folder, manifest, tmp_path) == len(manifest.graphs)
    assert "what was compiled is not kept, the next load takes as long" in caplog.text


def test_a_library_without_such_calls_is_asked_for_none(
    folder: Path, manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(FakeTensorRt, "IRuntimeCache")
    assert load(folder, manifest, tmp_path) == len(manifest.graphs)
    assert list(tmp_path.iterdir()) == []


def test_the_header_holds_the_whole_key(folder: Path, manifest: Manifest, tmp_path: Path) -> None:
    load(folder, manifest, tmp_path)
    path = next(tmp_path.rglob("fusion.*.kernels"))
    header = json.loads(path.read_bytes().splitlines()[1])
    assert asdict(PlanKey.from_json(header["key"])) == header["key"]
    assert (header["key"]["gpu"], header["driver"]) == ("Test GPU", "580.1")


MISSING = tensorrt_library.missing(tensorrt_library.FAMILIES["tensorrt_rtx"])


@pytest.mark.skipif(MISSING is not None, reason=f"{MISSING}: its calls are not looked at")
def test_the_real_library_has_the_calls() -> None:
    trt = tensorrt_library.load("tensorrt_rtx").module
    for kind, names in {
        "ICudaEngine": ("create_runtime_config",),
        "IRuntimeConfig": ("create_runtime_cache", "set_runtime_cache"),
        "IRuntimeCache": ("serialize", "deserialize"),
    }.items():
        for name in names:
            assert hasattr(getattr(trt, kind), name), (kind, name)
    assert "runtime_config" in trt.ICudaEngine.create_execution_context.__doc__
