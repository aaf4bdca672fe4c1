"""Graphs are really parsed and built by TensorRT-RTX, ahead of time and without a GPU."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from robust_perception import build_engine
from robust_perception.engine import cuda, tensorrt_builder, tensorrt_library
from robust_perception.engine.cuda_runtime import CudaRuntime
from robust_perception.engine.errors import BackendError
from robust_perception.engine.manifest import Manifest
from robust_perception.engine.plan_store import read
from robust_perception.engine.tensorrt_builder import BuildOptions, Progress, build
from robust_perception.engine.tensorrt_library import FAMILIES, Library, targets
from robust_perception.exporting.half import write_half
from robust_perception.exporting.quantisation import write_quantised

FAMILY = FAMILIES["tensorrt_rtx"]
ADA = BuildOptions(optimisation_level=0, target_sm=89)

needs_rtx = pytest.mark.skipif(
    tensorrt_library.missing(FAMILY) is not None,
    reason=f"{tensorrt_library.missing(FAMILY)}: nothing is built",
)
needs_no_gpu = pytest.mark.skipif(cuda.probe() is None, reason="this machine has a GPU")


@pytest.fixture(scope="module")
def library() -> Library:
    return tensorrt_library.load("tensorrt_rtx")


def convolutions(path: Path) -> Path:
    """A graph that can be quantised: two convolutions and a sum."""
    generator = np.random.default_rng(0)
    weights = [
        onnx.numpy_helper.from_array(generator.normal(size=(8, 8, 3, 3)).astype(np.float32), name)
        for name in ("first", "second")
    ]
    nodes = [
        helper.make_node("Conv", ["x", "first"], ["a"], "conv_one", pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["a", "second"], ["b"], "conv_two", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["a", "b"], ["y"], "sum"),
    ]
    tensors = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 8, 16, 16]) for n in ("x", "y")]
    graph = helper.make_graph(nodes, "convolutions", tensors[:1], tensors[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def feeds() -> list[dict[str, np.ndarray]]:
    generator = np.random.default_rng(1)
    return [{"x": generator.normal(size=(1, 8, 16, 16)).astype(np.float32)} for _ in range(3)]


@needs_rtx
def test_fp32_fp16_and_symmetric_int8_build(library: Library, tmp_path: Path) -> None:
    source = convolutions(tmp_path / "fp32.onnx")
    write_half(source, tmp_path / "fp16.onnx")
    write_quantised(source, tmp_path / "int8.onnx", feeds(), symmetric=True)
    sizes = {p.stem: len(build(library, p.read_bytes(), p.name, ADA).plan) for p in tmp_path.glob("*.onnx")}
    assert set(sizes) == {"fp32", "fp16", "int8"}
    assert min(sizes.values()) > 0


@needs_rtx
def test_the_cpus_int8_file_is_refused_with_its_nodes_name(library: Library, tmp_path: Path) -> None:
    target = tmp_path / "int8.onnx"
    write_quantised(convolutions(tmp_path / "fp32.onnx"), target, feeds(), symmetric=False)
    with pytest.raises(BackendError) as caught:
        build(library, target.read_bytes(), "fusion.int8.onnx", ADA)
    message = str(caught.value)
    assert message.startswith("fusion.int8.onnx: expected a graph that TensorRT-RTX 1.")
    names = {n.name for n in onnx.load(target).graph.node if n.op_type.endswith("QuantizeLinear")}
    assert any(f"node {name!r}" in message for name in names), message
    assert "QuantizeLinear" in message


@needs_rtx
def test_what_is_no_graph_is_refused(library: Library) -> None:
    with pytest.raises(BackendError, match=r"x: expected a graph that TensorRT-RTX .* takes, got node"):
        build(library, b"no graph", "x", ADA)


@needs_rtx
def test_a_target_it_does_not_offer_is_refused_with_those_it_does(library: Library, folder: Path) -> None:
    assert {75, 80, 86, 89} <= set(targets(library))
    content = (folder / "encoder_audio.onnx").read_bytes()
    with pytest.raises(BackendError, match=r"expected a target out of 75, .*, got 87"):
        build(library, content, "x", BuildOptions(target_sm=87))


@needs_rtx
def test_a_build_for_which_the_time_is_up_is_cancelled_and_told(library: Library, folder: Path) -> None:
    content = (folder / "fusion.onnx").read_bytes()
    late = replace(ADA, until=time.monotonic())
    with pytest.raises(BackendError, match=r"fusion: expected .* that was cancelled after 0 s; give"):
        build(library, content, "fusion", late)
    assert len(build(library, content, "fusion", replace(ADA, until=time.monotonic() + 600)).plan) > 0


@needs_rtx
@pytest.mark.filterwarnings("ignore:.*Timing cache operations are no-ops:DeprecationWarning")
def test_a_timing_cache_of_no_use_leaves_no_words_for_a_later_error(library: Library, folder: Path) -> None:
    # TensorRT-RTX takes such caches as TensorRT does, though it measures nothing.
    measuring = replace(library, family=replace(FAMILY, times=True))
    content = (folder / "encoder_audio.onnx").read_bytes()
    built = build(measuring, content, "x", ADA)
    assert len(built.timing) > 0
    again = build(measuring, content, "x", ADA, b"no timing cache")
    assert (again.plan, list(library.logger.errors)) == (built.plan, [])


def test_a_library_that_gives_no_timing_cache_back_costs_no_plan() -> None:
    cache = SimpleNamespace(serialize=lambda: None)
    assert tensorrt_builder._content(cache) == tensorrt_builder._content(None) == b""


@needs_rtx
@needs_no_gpu
def test_without_a_gpu_nothing_is_built_for_the_gpu_that_is_here(library: Library, folder: Path) -> None:
    content = (folder / "encoder_audio.onnx").read_bytes()
    with pytest.raises(BackendError, match=r"to build it, got .*CUDA driver version is insufficient"):
        build(library, content, "x", BuildOptions())


@needs_rtx
def test_the_pattern_is_a_tensor_of_the_device(library: Library, folder: Path) -> None:
    # A shape tensor would be read on the host, and a captured graph would keep its first value.
    trt = library.module
    network = trt.Builder(library.logger).create_network(0)
    parser = trt.OnnxParser(network, library.logger)
    assert parser.parse((folder / "fusion.onnx").read_bytes())
    inputs = {network.get_input(i).name: network.get_input(i) for i in range(network.num_inputs)}
    assert inputs["pattern"].dtype == trt.DataType.INT64
    assert inputs["pattern"].is_execution_tensor
    assert not inputs["pattern"].is_shape_tensor


@needs_rtx
def test_a_model_is_built_once_and_left_alone_then(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "--model",
        str(folder),
        "--backend",
        "tensorrt_rtx",
        "--target-sm",
        "89",
        "--cache",
        str(tmp_path),
    ]
    words += ["--optimization-level", "0", "--workspace", "64"]
    assert build_engine.main(words) == 0
    first = capsys.readouterr()
    assert "5 plans of tiny (fp32) for tensorrt_rtx" in first.out
    assert "fusion fp32: " in first.err and " MB in " in first.err
    plans = sorted(tmp_path.rglob("*.plan"))
    assert [p.name for p in plans] == [f"{g}.sm_89.plan" for g in sorted(Manifest.load(folder).graphs)]
    header, _ = read(plans[-1])
    assert header["key"]["gpu"] == "any"
    assert header["key"]["flags"] == "-TF32 +REQUIRE_USER_ALLOCATION"
    assert (header["key"]["optimisation_level"], header["key"]["workspace"]) == (0, 64 << 20)
    before = {p: p.stat().st_mtime_ns for p in plans}
    assert build_engine.main(words) == 0
    assert capsys.readouterr().err.count("there already") == 5
    assert {p: p.stat().st_mtime_ns for p in plans} == before
    # A damaged one is built anew.
    plans[0].write_bytes(plans[0].read_bytes()[:-1])
    assert build_engine.main(words) == 0
    assert capsys.readouterr().err.count("there already") == 4
    assert len(read(plans[0])[1]) > 0


@needs_rtx
def test_what_cannot_be_built_ends_with_status_1_and_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["--backend", "tensorrt_rtx", "--cache", str(tmp_path)]
    cases = {
        "model tiny: expected one of its precisions fp32, got 'int8-symmetric'": [
            "--model", str(folder), "--precision", "int8", "--target-sm", "89",
        ],
        "expected --target-sm out of 75, ": ["--model", str(folder), "--target-sm", "90"],
        "model: expected a folder or one of": ["--model", "nobody-s", "--target-sm", "89"],
    }  # fmt: skip
    for expected, words in cases.items():
        assert build_engine.main([*base, *words]) == 1
        error = capsys.readouterr().err
        assert expected in error
        assert error.count("\n") == 1
    assert list(tmp_path.rglob("*.plan")) == []


@pytest.mark.parametrize(
    "words",
    [
        ["--backend", "tensorrt_rtx", "--check", "--target-sm", "89"],
        ["--backend", "tensorrt", "--target-sm", "89"],
        ["--backend", "onnxruntime"],
        ["--backend", "tensorrt", "--workspace", "8796093022208"],  # 2 ** 63 bytes
        [],
    ],
)
def test_wrong_usage_is_status_2(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        build_engine.main(words)
    assert ended.value.code == 2


def test_a_precision_that_is_named_twice_is_built_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tensorrt_library, "probe", lambda name: None)
    monkeypatch.setattr(tensorrt_library, "load", lambda name: None)
    monkeypatch.setattr(build_engine, "build_model", lambda request, *_: request.precisions)
    words = ["--backend", "tensorrt", "--model", str(folder), "--cache", str(tmp_path)]
    assert build_engine.main([*words, "--precision", "fp32", "--precision", "fp32"]) == 0
    assert "1 plans of tiny (fp32) for tensorrt" in capsys.readouterr().out


@needs_rtx
def test_every_call_that_is_made_exists_in_the_real_libraries(library: Library) -> None:
    """The test GPU answers to the same names; this holds both to what is really there."""
    from cuda.bindings import runtime

    from fake_cuda import FakeCuda  # isort: skip
    from fake_tensorrt import FakeTensorRt  # isort: skip

    for name in dir(FakeCuda):
        if name.startswith("cuda"):
            assert hasattr(runtime, name), name
    for kind in ("cudaError_t", "cudaMemcpyKind", "cudaStreamCaptureMode"):
        members = set(getattr(FakeCuda, kind).__members__)
        assert members <= set(getattr(runtime, kind).__members__)
    trt = library.module
    for name in ("ILogger", "TensorIOMode", "TensorLocation", "BuilderFlag", "Runtime", "nptype"):
        assert hasattr(FakeTensorRt, name)
        assert hasattr(trt, name)
    for kind, names in {
        "Runtime": ("deserialize_cuda_engine",),
        "ICudaEngine": (
            "num_io_tensors", "get_tensor_name", "get_tensor_mode", "get_tensor_dtype", "get_tensor_shape",
            "get_tensor_location", "create_execution_context",
        ),
        "IExecutionContext": ("set_tensor_address", "execute_async_v3", "is_stream_capturable"),
    }.items():  # fmt: skip
        for name in names:
            assert hasattr(getattr(trt, kind), name), (kind, name)
    assert trt.nptype(trt.DataType.INT64) is np.int64
    assert trt.nptype(trt.DataType.UINT8) is np.uint8
    assert CudaRuntime(runtime).version().count(".") == 1  # needs no driver


@needs_rtx
@needs_no_gpu
def test_the_real_runtime_tells_cudas_words() -> None:
    with pytest.raises(
        BackendError,
        match=r"cudaMalloc: expected success, got cudaErrorInsufficientDriver \(CUDA driver version",
    ):
        CudaRuntime.load().allocate(16)


@needs_rtx
@needs_no_gpu
def test_the_real_runtime_takes_what_it_is_given() -> None:
    """Without a driver each call fails for want of one, and for no argument of a wrong type."""
    from cuda.bindings import runtime

    stream, graph, memory = runtime.cudaStream_t(0), runtime.cudaGraphExec_t(0), np.zeros(16, np.uint8)
    calls: dict[str, tuple[object, ...]] = {
        **dict.fromkeys(("select", "memory", "create_stream"), ()),
        **dict.fromkeys(("allocate", "allocate_pinned", "free", "free_pinned"), (4096,)),
        **dict.fromkeys(("upload", "download", "copy"), (4096, 8192, 16, stream)),
        **dict.fromkeys(("destroy_stream", "synchronise"), (stream,)),
        "read": (memory, 4096),
        "capture": (stream, lambda: None),
        "launch": (graph, stream),
        "destroy_captured": (graph,),
    }
    made = CudaRuntime.load()
    methods = {name for name, value in vars(CudaRuntime).items() if callable(value) and name[0] != "_"}
    assert set(calls) == methods - {"call", "version", "require_served_by"}
    for name, arguments in calls.items():
        with pytest.raises(BackendError, match="got cudaErrorInsufficientDriver"):
            getattr(made, name)(*arguments)
    no_memory = (4096, 0, 16), (0,), (runtime.cudaGraph_t(0), 0), (runtime.cudaGraph_t(0),), (stream,)
    names = ("cudaMemset", "cudaStreamSynchronize", "cudaGraphInstantiate", "cudaGraphDestroy")
    for name, arguments in zip((*names, "cudaStreamEndCapture"), no_memory, strict=True):
        with pytest.raises(BackendError, match=rf"{name}: expected success, got cudaErrorInsufficientDriver"):
            made.call(name, *arguments)


@needs_no_gpu
@pytest.mark.parametrize("backend", sorted(FAMILIES))
def test_on_a_machine_without_a_driver_no_tensorrt_is_imported(
    folder: Path, repository: Path, backend: str
) -> None:
    """Some of TensorRT's libraries end the process there with a signal, so that nothing could be told."""
    program = f"""
import sys
from robust_perception.engine.engine import Engine
from robust_perception.engine.errors import EngineError
try:
    Engine.load({str(folder)!r}, {backend!r})
except EngineError as error:
    print(error, file=sys.stderr)
    loaded = [name for name in sys.modules if name.startswith(("tensorrt", "cuda"))]
    sys.exit(f"imported: {{loaded}}" if loaded else 1)
"""
    done = run_python(repository, "-c", program)
    assert done.returncode == 1, done.stderr
    assert f"backend {backend} does not run this model: {backend}: no NVIDIA driver" in done.stderr
    assert "imported" not in done.stderr
    command = ("-m", "robust_perception.cli", "build-engine", "--backend", backend, "--model", str(folder))
    done = run_python(repository, *command)
    assert done.returncode == 1
    assert f"build-engine: {backend}: no NVIDIA driver: libcuda.so.1 is not there" in done.stderr
    assert ("--target-sm" in done.stderr) is FAMILIES[backend].ahead_of_time


def run_python(repository: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], cwd=repository, capture_output=True, text=True, timeout=120, check=False
    )


def test_progress_says_what_goes_on_and_ends() -> None:
    progress = Progress("fusion", lambda _: None)
    with progress:
        progress.begin("Building engine", 6)
        progress.step("Building engine", 1)
        progress.begin("Timing tactics", 30)
        progress.step("Timing tactics", 11)
        words = progress.words()
        progress.end("Timing tactics")
        assert "tactics" not in progress.words()
    assert words == "fusion, 0 s: building engine 2/6, timing tactics 12/30"
    assert not progress._thread.is_alive()
