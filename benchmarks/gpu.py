"""Everything that only a GPU can show, in one go: parity, latency, switching, memory, as one JSON.

    python benchmarks/gpu.py --model models/default --json gpu.json

Needs torch with CUDA; TensorRT or TensorRT-RTX and cuda-bindings for their rows. Torch runs the weights that
the model brings, or those of --weights. Where there are neither, the network is random: times are those of a
trained one, and parity with torch is left out; that with the model's stored references is always there.
Without --model the network is exported first, which needs the exporter's packages.

Every part is guarded: one that fails is in the report with its error, and the rest goes on. The report is
written after each part; parts for which no time is left are left out, so that the whole ends within
--budget-s. Without a GPU it says so and ends with status 2 before it does anything; --device cpu is a dry
run of torch's rows.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import importlib.metadata
import math
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.parts import LEAST_S, Report, table
from robust_perception import arguments
from robust_perception.engine import cuda
from robust_perception.engine.choice import ON_TENSORRT
from robust_perception.engine.errors import EngineError
from robust_perception.engine.manifest import FILE_NAME
from robust_perception.engine.models import find_model

BENCHMARK = "gpu"
PRECISIONS = dict(reversed(ON_TENSORRT.items()))
"""As users name them -> the graphs; the most exact first."""

PACKAGES = (
    "torch", "triton", "numpy", "onnx", "onnxruntime", "cuda-bindings", "tensorrt", "tensorrt-rtx-cu13-libs",
    "tensorrt-rtx-cu13-bindings",
)  # fmt: skip
ROUNDS = 500
TINY = (64, 96)
COMPILE_S, BUILD_S = 120.0, 60.0
"""Seconds without which torch.compile and the building of plans are left out."""

LATENCY_S = 30.0
"""Kept for the latencies at the end."""


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(description="Verify and measure on a GPU.")
    parser.add_argument("--model", help="model folder or name (default: one is exported of the network)")
    parser.add_argument(
        "--weights", type=Path, help="of torch's rows: a best.safetensors (default: the model's)"
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu is a dry run")
    parser.add_argument("--rows", help="only these, comma-separated, e.g. torch-eager,tensorrt_rtx-fp16")
    parser.add_argument("--rounds", type=arguments.positive, default=ROUNDS, help="default: %(default)s")
    parser.add_argument("--budget-s", type=float, default=540.0, help="end within (default: %(default)s)")
    parser.add_argument("--tiny", action="store_true", help="a small random network, to try this script out")
    parser.add_argument("--cache", type=Path, help="folder for plans (default: one that is removed)")
    parser.add_argument("--json", type=Path, help="write the report here")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run it: 0 when every part succeeded, 1 when one did not, 2 where there is no GPU or on wrong usage."""
    words = list(sys.argv[1:] if argv is None else argv)
    given = build_parser().parse_args(words)
    if given.device == "cuda":
        reason = cuda.probe()
        if reason is not None:
            print(f"gpu: nothing was measured: {reason}", file=sys.stderr)
            return 2
    try:
        arguments.make_way(given.json)
        given.model = None if given.model is None else find_model(given.model)
        given.weights = given.weights or own_weights(given.model)
        head = _head(words, given)
    except (EngineError, OSError) as error:
        print(f"gpu: nothing was measured: {error}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as scratch:
        report = Report(BENCHMARK, head, given.json, time.perf_counter() + given.budget_s)
        Verification(given, report, Path(scratch)).run()
    print(table(report.records))
    failed = [part for part in report.parts if part["error"] is not None]
    print(
        f"{len(report.parts) - len(failed)} of {len(report.parts)} parts done, {len(report.records)} records"
    )
    return 1 if failed else 0


class Verification:
    """The parts, in the order of what is most wanted if the time is up."""

    def __init__(self, given: argparse.Namespace, report: Report, scratch: Path) -> None:
        self.given = given
        self.report = report
        self.scratch = scratch
        self.cache = given.cache or scratch / "plans"
        self.size: tuple[int, int] = TINY
        self.frames: dict[str, Callable[..., Any]] = {}
        self.network: Any = None
        self.place: Any = None
        self.pipelines: dict[str, Any] = {}
        self.temperatures: dict[int, float] = {}

    def run(self) -> None:
        """Do them all."""
        report = self.report
        if report.part("network", self._network) is None:
            return
        for name in ("torch-eager", "torch-cuda-graph"):
            self._torch_row(name)
        if self.given.device == "cuda":
            report.part("model", self._model)
        for backend, precision in self._engine_rows():
            row = f"{backend}-{precision}"
            build = partial(self._build, backend, precision)
            if report.part(f"{row} build", build, BUILD_S + LATENCY_S):
                report.part(f"{row} check", partial(self._check, backend, precision))
                report.part(f"{row} references", partial(self._references, backend, precision))
        self._torch_row("torch-compile", COMPILE_S + LATENCY_S)  # late: nothing can end it
        report.part("latency", self._latency, needs=-math.inf)

    def _wanted(self, row: str) -> bool:
        return self.given.rows is None or row in self.given.rows.split(",")

    def _network(self) -> bool:
        import torch

        from benchmarks import torch_rows
        from robust_perception.engine.manifest import Manifest
        from robust_perception.model.network import Network
        from robust_perception.model.network_config import NetworkConfig
        from robust_perception.vocabulary import Modality

        torch_rows.exact_float32()
        torch.manual_seed(0)
        if self.given.device == "cpu":
            torch.set_num_threads(1)  # a dry run is in nobody's way
        manifest = None if self.given.model is None else Manifest.load(self.given.model)
        if manifest is not None:
            self.size = manifest.size
            self.temperatures = {bits: c.temperature for bits, c in manifest.calibration.items()}
        elif not self.given.tiny:
            self.size = (240, 320)
        if self.given.weights is not None:
            from robust_perception.training import graph_weights

            self.network, _ = graph_weights.load(self.given.weights)
            return True
        modalities = tuple(Modality) if manifest is None else manifest.modalities
        names = ("background", "thing", "other") if manifest is None else manifest.class_names
        scenes = ("quiet", "loud") if manifest is None else manifest.scene_names
        config = NetworkConfig(modalities, names, scenes)
        if self.given.tiny:
            config = replace(config, width=8, fine_width=8, audio_width=8)
        self.network = Network(config).eval()
        return True

    def _torch_row(self, name: str, needs: float = LEAST_S) -> None:
        if self._wanted(name):
            self.report.part(name, partial(self._make_torch_row, name), needs)

    def _make_torch_row(self, name: str) -> None:
        import copy

        import torch

        from benchmarks import torch_rows
        from benchmarks.noise import noise_inputs
        from robust_perception.vocabulary import Pattern

        on_gpu = self.given.device == "cuda"
        before = torch.cuda.memory_allocated() if on_gpu else 0
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        network = copy.deepcopy(self.network)
        frame = torch_rows.rows(network, self.size, self.given.device, self.temperatures)[name]()
        modalities = self.network.config.modalities
        inputs = noise_inputs(modalities, self.size, 1)
        for _ in range(3):
            frame(inputs, Pattern.of(modalities))  # compiled and warmed up here, not while it is timed
        self.frames[name] = frame
        if on_gpu:
            peak = float(torch.cuda.max_memory_allocated() - before)
            self.report.add(name, "fp32", "", {"memory": (peak, "bytes")})

    def _model(self) -> None:
        from benchmarks.tensorrt_rows import Place
        from robust_perception.engine.manifest import Manifest

        if self.given.model is not None:
            manifest, folder = Manifest.load(self.given.model), self.given.model
        else:
            import copy

            from benchmarks.network_model import write_model

            folder = self.scratch / "model"
            network = copy.deepcopy(self.network).cpu()
            manifest = write_model(network, self.size, folder, tuple(PRECISIONS.values())[1:])
        self.report.head["model"] = {
            "name": manifest.name,
            "version": manifest.version,
            "sha256": manifest.sha256,
        }
        self.place = Place(folder, manifest, self.cache)

    def _engine_rows(self) -> Iterator[tuple[str, str]]:
        from robust_perception.engine import tensorrt_library

        if self.place is None:
            return
        for backend, family in tensorrt_library.FAMILIES.items():
            missing = tensorrt_library.missing(family)
            if missing is not None:
                self.report.head["left_out"][backend] = missing
                continue
            for named, precision in PRECISIONS.items():
                if self._wanted(f"{backend}-{named}") and precision in self.place.manifest.precisions:
                    yield backend, named

    def _build(self, backend: str, named: str) -> bool:
        from benchmarks import tensorrt_rows

        made = tensorrt_rows.build(self.place, backend, PRECISIONS[named])
        self.report.add(
            backend, named, "", {"build": (made["build"], "s"), "plans": (made["plans"], "bytes")}
        )
        return True

    def _check(self, backend: str, named: str) -> None:
        from benchmarks import tensorrt_rows as rows
        from robust_perception.engine.cuda_runtime import CudaRuntime
        from robust_perception.engine.pipeline import Pipeline

        report, manifest, precision = self.report, self.place.manifest, PRECISIONS[named]
        runtime = CudaRuntime.load()
        before, _ = runtime.memory()
        start = time.perf_counter()
        opened = rows.open_backend(self.place, backend, precision)
        load = time.perf_counter() - start
        after, _ = runtime.memory()
        pipeline = Pipeline(manifest, opened)
        graphs = len(manifest.graphs)
        inputs = rows.inputs_of(manifest, 2)
        report.add(
            backend,
            named,
            "",
            {
                "load": (load, "s"),
                "memory": (float(before - after), "bytes"),
                "buffers": (float(opened.memory()), "bytes"),
                "graphs_captured": (float(graphs - len(opened.uncaptured)), "graphs"),
                "graphs": (float(graphs), "graphs"),
            },
        )
        report.head["uncaptured"][f"{backend}-{named}"] = opened.uncaptured
        truth = self._truth()
        if truth is not None:
            for pattern, found in rows.parity(pipeline, truth, inputs).items():
                report.add(
                    backend, named, str(pattern), {name: (value, "1") for name, value in found.items()}
                )
        changed = rows.garbage(pipeline, inputs)
        report.add(backend, named, "", {"patterns_changed_by_garbage": (float(changed), "patterns")})

        def fresh() -> Pipeline:
            return Pipeline(manifest, rows.open_backend(self.place, backend, precision))

        deadline = time.perf_counter() + min(40.0, report.left() / 4)
        found = rows.switching(pipeline, fresh, inputs, 400, deadline)
        units = {"switch_cost": "us", "fusion": "us", "switch_share": "1"}
        report.add(backend, named, "", {name: (v, units.get(name, "frames")) for name, v in found.items()})
        self.pipelines[f"{backend}-{named}"] = pipeline
        self.frames[f"{backend}-{named}"] = pipeline.run

    def _references(self, backend: str, named: str) -> None:
        """Distance to the outputs that are stored with the model."""
        from robust_perception.engine import selfcheck

        pipeline = self.pipelines.get(f"{backend}-{named}")
        if pipeline is None or pipeline.manifest.references is None:
            return
        stored = selfcheck.read_references(self.place.folder, pipeline)
        assert stored is not None
        for result in selfcheck.compare(pipeline, stored, pipeline.manifest.patterns):
            found = {
                "references_largest_difference": (result.largest_difference, "1"),
                "references_pixel_agreement": (result.pixel_agreement, "1"),
                "references_passed": (float(result.passed), "1"),
            }
            self.report.add(backend, named, str(result.pattern), found)

    def _truth(self) -> Callable[..., Any] | None:
        """Torch's word, where the network is the model's."""
        if self.given.weights is not None or self.given.model is None:
            return self.frames.get("torch-eager")
        return None

    def _latency(self) -> None:
        from benchmarks.noise import noise_inputs
        from benchmarks.timing import interleave, summary
        from robust_perception.vocabulary import patterns_of

        patterns = patterns_of(self.network.config.modalities)
        inputs = noise_inputs(self.network.config.modalities, self.size, 3)
        chosen = (patterns[0], patterns[-1])
        if not self.frames:
            msg = "expected a row to measure, none was made"
            raise RuntimeError(msg)
        for index, pattern in enumerate(chosen):
            given = {m: inputs[m] for m in pattern}
            contestants = {name: partial(frame, given, pattern) for name, frame in self.frames.items()}
            for contestant in contestants.values():
                contestant()
            share = max(self.report.left(), LATENCY_S / 2) / (len(chosen) - index)
            times = interleave(contestants, self.given.rounds, time.perf_counter() + share)
            base = times.get("torch-eager")
            for name, spent in times.items():
                in_torch = name.startswith("torch")
                backend, _, precision = (name, "", "fp32") if in_torch else name.rpartition("-")
                found = {
                    metric: (value, "of torch-eager" if metric == "ratio" else "ms")
                    for metric, value in summary(spent, base).items()
                }
                found["rounds"] = (float(len(spent)), "rounds")
                self.report.add(backend, precision, str(pattern), found)


def own_weights(model: Path | None) -> Path | None:
    """The model itself, where it brings what torch needs beside its graphs."""
    if model is None:
        return None
    from robust_perception.training.graph_weights import FILE

    return model if (model / FILE).is_file() else None


def weights_sha256(weights: Path | None) -> str | None:
    """Of a file of weights, or of a model's manifest, which names its graphs by theirs."""
    if weights is None:
        return None
    return hashlib.sha256((weights / FILE_NAME if weights.is_dir() else weights).read_bytes()).hexdigest()


def _head(words: Sequence[str], given: argparse.Namespace) -> dict[str, Any]:
    device: dict[str, Any] = {"name": f"cpu ({platform.machine()})"}
    if given.device == "cuda":
        found = cuda.device()
        device = {
            "name": found.name,
            "compute_capability": found.sm,
            "multiprocessors": found.multiprocessors,
            "memory_bytes": found.memory,
            "driver": found.driver,
            "driver_cuda": found.driver_cuda,
        }
    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "benchmark": BENCHMARK,
        "command": ["benchmarks/gpu.py", *words],
        "date": datetime.datetime.now(tz=datetime.timezone.utc).isoformat(timespec="seconds"),
        "device": device,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": versions,
        "weights_sha256": weights_sha256(given.weights),
        "left_out": {},
        "uncaptured": {},
    }


if __name__ == "__main__":
    sys.exit(main())
