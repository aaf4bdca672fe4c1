"""benchmarks/gpu.py without a GPU: what it says there, its torch rows on the CPU, how parts make a report.

The rows of TensorRT run on the GPU made of host memory: what they count is tested, not what a GPU does.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fake_cuda import DEVICE, FakeCuda, runtime
from fake_tensorrt import FakeTensorRt, library
from tiny_model import make_model

from benchmarks import gpu, tensorrt_rows
from benchmarks.parts import Report, table
from benchmarks.tensorrt_rows import Place, inputs_of
from benchmarks.timing import interleave, summary
from robust_perception.engine import cuda, models, tensorrt_library
from robust_perception.engine.cuda_runtime import CudaRuntime
from robust_perception.engine.manifest import Manifest
from robust_perception.engine.onnxruntime import OnnxRuntimeBackend
from robust_perception.engine.pipeline import Latents, Pipeline, RawOutputs
from robust_perception.engine.plan_key import Target, key_of
from robust_perception.engine.plan_store import PlanStore
from robust_perception.engine.precision import FP32
from robust_perception.engine.tensorrt import TensorRtBackend
from robust_perception.vocabulary import ALL_PATTERNS, Modality, Pattern

needs_no_gpu = pytest.mark.skipif(cuda.probe() is None, reason="this machine has a GPU")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "tiny")


@needs_no_gpu
def test_without_a_gpu_it_says_so_in_one_line_and_does_nothing(repository: Path, tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    program = (
        "import runpy, sys\n"
        "sys.modules['torch'] = None\n"
        f"sys.argv = ['gpu.py', '--json', {str(out)!r}]\n"
        "runpy.run_path('benchmarks/gpu.py', run_name='__main__')\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("gpu: nothing was measured: no NVIDIA driver")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert not out.exists()


@pytest.mark.parametrize(
    "words", [["--device", "tpu"], ["--rounds", "0"], ["--budget-s", "soon"], ["--rows", "torch-egaer"]]
)
def test_wrong_usage_is_status_2(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        gpu.main(words)
    assert ended.value.code == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--json", "."], "expected a file to write, got a folder"),
        (["--weights", "no/best.safetensors"], "no/best.safetensors"),
        (["--model", "nobody-s"], "model: expected a folder or one of"),
    ],
)
def test_what_is_not_there_is_one_clear_line_at_the_start(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gpu.main(["--device", "cpu", "--tiny", *words]) == 2
    told = capsys.readouterr()
    assert told.err.startswith("gpu: nothing was measured: ")
    assert said in told.err
    assert told.err.count("\n") == 1
    assert told.out == ""


def test_a_part_that_fails_or_has_no_time_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    report = Report("gpu", {"device": {"name": "x"}}, path, time.perf_counter() + 100)

    def fails() -> None:
        msg = "no kernel image"
        raise RuntimeError(msg)

    assert report.part("first", fails) is None
    assert json.loads(path.read_text())["parts"][0]["error"] == "RuntimeError: no kernel image"
    assert report.part("second", lambda: 7) == 7
    assert report.part("third", lambda: 7, needs=1000) is None
    assert [file.name for file in tmp_path.iterdir()] == ["report.json"], "what is written is put in place"
    report.add("tensorrt", "fp16", "rgb", {"ratio": (0.25, "of torch-eager"), "p50": (1.5, "ms")})
    report.save()
    content = json.loads(path.read_text())
    assert [part["name"] for part in content["parts"]] == ["first", "second", "third"]
    assert content["parts"][2]["error"] == "left out: the time was up"
    assert content["records"][0] == {
        "benchmark": "gpu",
        "device": "x",
        "backend": "tensorrt",
        "precision": "fp16",
        "pattern": "rgb",
        "metric": "ratio",
        "value": 0.25,
        "unit": "of torch-eager",
    }
    assert "0.250    1.500" in table(report.records)


def test_every_contestant_runs_once_a_round_and_the_first_turns() -> None:
    order: list[str] = []
    now = [0.0]

    def tick() -> float:
        now[0] += 1.0
        return now[0]

    contestants = {name: (lambda n=name: order.append(n)) for name in "abc"}
    times = interleave(contestants, 4, deadline=1e9, clock=tick)
    assert "".join(order) == "abcbcacababc"
    assert all(len(spent) == 4 for spent in times.values())
    order.clear()
    assert len(interleave(contestants, 100, deadline=-1.0, clock=tick)["a"]) == 1  # one round in any case
    found = summary(np.array([1.0, 2.0, 9.0]), np.array([2.0, 4.0, 3.0]))
    assert list(found) == ["ratio", "p50", "p95", "p99"]
    assert (found["ratio"], found["p50"]) == (0.5, 2.0)


def pipeline_on(gpu_: FakeCuda, folder: Path) -> Pipeline:
    manifest = Manifest.load(folder)
    plans = {name: (folder / graph.file).read_bytes() for name, graph in manifest.graphs.items()}
    made = TensorRtBackend(manifest, FP32, plans, library(FakeTensorRt(gpu_)), runtime(gpu_), DEVICE)
    return Pipeline(manifest, made)


class Forgetful(Pipeline):
    """What no backend may do: depend on the last pattern, and on what absent sensors' buffers hold."""

    last = 15

    def fuse(self, latents: Latents, pattern: Pattern) -> RawOutputs:  # type: ignore[override]
        found = super().fuse({m: v for m, v in latents.items() if m in pattern}, pattern)
        absent = sum(m not in pattern for m in latents)
        error = np.float32(1.0 * (self.last != pattern.bits) + 2.0 * absent)
        self.last = pattern.bits
        return replace(found, confidence=found.confidence + error)


def test_parity_switching_and_garbage_are_counted(folder: Path) -> None:
    manifest = Manifest.load(folder)
    sound = pipeline_on(FakeCuda(), folder)
    other = Pipeline(manifest, OnnxRuntimeBackend(folder, manifest, threads=1))
    inputs = inputs_of(manifest, 0)

    def truth(given: object, pattern: Pattern) -> dict[str, np.ndarray]:
        outputs = other.run(given, pattern)  # type: ignore[arg-type]
        batched = {n: getattr(outputs, n)[None] for n in ("label_map", "box_scores", "boxes", "scene")}
        return {**batched, "confidence": outputs.confidence}

    found = tensorrt_rows.parity(sound, truth, inputs)
    assert set(found) == set(ALL_PATTERNS)
    assert {tuple(values.values()) for values in found.values()} == {(0.0, 1.0)}
    deadline = time.perf_counter() + 600
    switched = tensorrt_rows.switching(sound, lambda: pipeline_on(FakeCuda(), folder), inputs, 4, deadline)
    assert (switched["frames_that_differ"], switched["frames_compared"]) == (0.0, 60.0)
    assert tensorrt_rows.garbage(sound, inputs) == 0
    # The counts are not zero whatever happens.
    wrong = Forgetful(manifest, sound.backend)
    assert tensorrt_rows.parity(wrong, truth, inputs)[Pattern(1)]["largest_difference"] > 0.5
    assert tensorrt_rows.garbage(wrong, inputs) >= 14
    switched = tensorrt_rows.switching(wrong, lambda: sound, inputs, 2, time.perf_counter() + 600)
    assert switched["frames_that_differ"] > 0


@pytest.fixture
def machine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    """A machine with the test GPU and TensorRT-RTX, where TensorRT builds nothing."""
    made = FakeCuda()
    monkeypatch.setattr(cuda, "probe", lambda: None)
    monkeypatch.setattr(cuda, "device", lambda: DEVICE)
    monkeypatch.setattr(CudaRuntime, "load", classmethod(lambda cls: runtime(made)))
    monkeypatch.setattr(tensorrt_library, "missing", lambda family: None)
    monkeypatch.setattr(tensorrt_library, "load", lambda name: library(FakeTensorRt(made), name))

    def build(place: Place, backend: str, precision: str, until: float) -> dict[str, float]:
        assert time.monotonic() < until < time.monotonic() + 540
        if backend == "tensorrt":
            msg = "sm_89 is not what it builds for"
            raise RuntimeError(msg)
        builder = library(FakeTensorRt(made), backend).builder("13.0")
        for name, graph in place.manifest.graphs.items():
            key = key_of(place.manifest, name, precision, builder, Target.of(DEVICE))
            PlanStore(place.cache).save(key, (place.folder / graph.file).read_bytes(), DEVICE.driver)
        return {"build": 1.0, "plans": 2.0}

    monkeypatch.setattr(tensorrt_rows, "build", build)
    monkeypatch.setattr(models, "model_folders", lambda: (folder.parent,))
    return made


def test_the_whole_run_on_a_gpu_made_of_host_memory(
    machine: FakeCuda, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / "gpu.json"
    rows = "tensorrt-fp32,tensorrt_rtx-fp32,tensorrt_rtx-fp16"
    words = ["--model", folder.name, "--rows", rows, "--rounds", "2"]
    assert gpu.main([*words, "--tiny", "--json", str(out)]) == 1  # a part failed, and is told
    report = json.loads(out.read_text())
    assert report["head"]["device"]["name"] == "Test GPU"
    assert report["head"]["device"]["driver"] == "580.1"
    assert report["head"]["model"]["sha256"] == Manifest.load(folder).sha256
    errors = {part["name"]: part["error"] for part in report["parts"]}
    assert errors == {
        "network": None,
        "model": None,
        "tensorrt-fp32 build": "RuntimeError: sm_89 is not what it builds for",
        "tensorrt_rtx-fp32 build": None,
        "tensorrt_rtx-fp32 load": None,
        "tensorrt_rtx-fp32 latency": None,
        "tensorrt_rtx-fp32 references": None,
        "tensorrt_rtx-fp32 garbage": None,
        "tensorrt_rtx-fp32 switching": None,
    }
    reason = "model tiny has no fp16 graphs"
    assert report["head"]["left_out"] == {"tensorrt_rtx-fp16": reason}
    assert f"left out: tensorrt_rtx-fp16: {reason}" in capsys.readouterr().out
    assert report["head"]["libraries"] == {"tensorrt_rtx": "1.7.1.116"}
    assert machine.left == 0, "each row gives its memory back to the next"
    found = {(r["pattern"], r["metric"]): r["value"] for r in report["records"]}
    assert {r["backend"] for r in report["records"]} == {"tensorrt_rtx"}
    assert (found["", "graphs_captured"], found["", "graphs"]) == (5.0, 5.0)
    assert found["", "frames_that_differ"] == 0.0
    assert found["", "patterns_changed_by_garbage"] == 0.0
    assert [found[str(p), "references_passed"] for p in ALL_PATTERNS] == [1.0] * 15
    assert found[str(Pattern.of(Modality)), "p50"] > 0.0
    assert found["", "load_again"] > 0.0
    explained = {name for names in report["head"]["metrics"] for name in names.split(", ")}
    metrics = {r["metric"] for r in report["records"]}
    assert {m for m in metrics if m not in explained and not m.startswith("references_")} == set()


def test_without_torch_the_rows_of_tensorrt_are_measured_all_the_same(
    machine: FakeCuda, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "robust_perception.training.graph_weights", raising=False)
    out = tmp_path / "gpu.json"
    words = ["--model", folder.name, "--rows", "torch-eager,tensorrt_rtx-fp32", "--rounds", "1"]
    assert gpu.main([*words, "--json", str(out)]) == 1
    report = json.loads(out.read_text())
    errors = {part["name"]: part["error"] for part in report["parts"] if part["error"] is not None}
    assert list(errors) == ["network"]
    assert "torch" in errors["network"]
    assert "p50" in {r["metric"] for r in report["records"] if r["backend"] == "tensorrt_rtx"}


@needs_no_gpu
def test_a_torch_row_without_its_gpu_says_why(machine: FakeCuda, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    words = ["--model", folder.name, "--rows", "torch-eager", "--rounds", "1", "--json", str(out)]
    assert gpu.main(words) == 1
    errors = {part["name"]: part["error"] for part in json.loads(out.read_text())["parts"]}
    assert "CUDA" in errors["torch-eager"] or "NVIDIA" in errors["torch-eager"]
    assert errors["rows"] == "RuntimeError: expected a row to measure, none was made"


def test_switching_keeps_to_its_time(folder: Path) -> None:
    pipeline = pipeline_on(FakeCuda(), folder)
    inputs = inputs_of(pipeline.manifest, 0)
    opened = []

    def fresh() -> Pipeline:
        opened.append(pipeline)
        return pipeline

    found = tensorrt_rows.switching(pipeline, fresh, inputs, 1000, time.perf_counter())
    assert (len(opened), found["frames_compared"], found["frames_that_differ"]) == (1, 1.0, 0.0)


def test_a_label_map_made_on_the_cpu_is_measured_and_marked(folder: Path) -> None:
    sound = pipeline_on(FakeCuda(), folder)
    inputs = inputs_of(sound.manifest, 0)
    assert tensorrt_rows.label_map_on_host(sound, inputs) == 0.0  # this model's graph makes it
    shape = (1, len(sound.manifest.class_names), sound.manifest.size[0] // 4, sound.manifest.size[1] // 4)

    class Coarse(Pipeline):
        backend = SimpleNamespace(run=lambda graph, feeds: {"class_scores": np.zeros(shape, np.float32)})

        def __init__(self) -> None:
            self.manifest = sound.manifest

        def encode(self, *_: object) -> dict[str, np.ndarray]:
            return {}

    spent = tensorrt_rows.label_map_on_host(Coarse(), inputs)
    assert spent > 0.0
    records = [
        {"backend": "tensorrt", "precision": precision, "pattern": pattern, "metric": metric, "value": value}
        for precision, mapped in (("fp32", spent), ("fp16", 0.0))
        for pattern, metric, value in (("", "label_map_on_host", mapped), ("rgb", "p50", 1.0))
    ]
    lines = table(records).splitlines()
    assert [line.split()[1] for line in lines[1:3]] == ["fp32*", "fp16"]
    assert lines[3:] == [f"* tensorrt fp32 makes the label map on the CPU: {spent:.3f} ms of each frame"]


def test_torch_rows_run_on_the_cpu_without_opencv_and_onnx(repository: Path, tmp_path: Path) -> None:
    """With nothing installed but torch and numpy."""
    out = tmp_path / "gpu.json"
    program = f"""
import sys
for name in ("cv2", "onnx", "onnxruntime", "onnxscript", "yaml", "safetensors", "scipy"):
    sys.modules[name] = None
from benchmarks import gpu
sys.exit(gpu.main(["--device", "cpu", "--tiny", "--rows", "torch-eager,torch-cuda-graph", "--rounds", "1",
                   "--json", {str(out)!r}]))
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 1, done.stderr
    report = json.loads(out.read_text())
    errors = {part["name"]: part["error"] for part in report["parts"]}
    assert errors == {
        "network": None,
        "torch-eager": None,
        "torch-eager latency": None,
        "torch-cuda-graph": "RuntimeError: a CUDA graph needs a GPU, not cpu",
    }
    rows = {(r["backend"], r["pattern"], r["metric"]): r["value"] for r in report["records"]}
    assert rows["torch-eager", "rgb+depth+thermal+audio", "ratio"] == 1.0
    assert rows["torch-eager", "audio", "p50"] > 0.0
    assert report["head"]["versions"]["torch"]
