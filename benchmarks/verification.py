"""What `gpu.py` does, part by part: a row is made, timed, and only then looked at more closely.

Each row is timed beside torch-eager, in turns: the ratio is of one round, whatever the clocks do, and it is
written before the next row begins. What cannot be ended is last.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.noise import noise_inputs
from benchmarks.parts import LEAST_S, Report
from benchmarks.timing import interleave, summary
from robust_perception.engine import tensorrt_library
from robust_perception.engine.choice import ON_TENSORRT
from robust_perception.engine.cuda_runtime import CudaRuntime
from robust_perception.engine.errors import BackendError
from robust_perception.engine.manifest import Manifest
from robust_perception.vocabulary import Modality, Pattern, patterns_of

PRECISIONS = dict(reversed(ON_TENSORRT.items()))
"""As users name them -> the graphs; the most exact first."""

EAGER, GRAPH, COMPILED = TORCH_ROWS = ("torch-eager", "torch-cuda-graph", "torch-compile")
TINY = (64, 96)

COMPILE_S, BUILD_S = 120.0, 60.0
"""Seconds without which torch.compile and the building of plans are left out."""

LATENCY_S, SWITCHING_S = 30.0, 40.0
"""Most seconds for the latencies of a row, and for its switching."""

METRICS = {
    "p50, p95, p99": "ms from inputs on the host to outputs on the host",
    "ratio": "median over rounds of the time to torch-eager's in the same round",
    "rounds": "that were timed",
    "label_map_on_host": "ms of it in which the CPU makes the label map; 0 = the GPU makes it",
    "device_memory": "bytes of the device that were free before the row was made and are not after",
    "tensors_peak": "bytes, the most that torch's tensors took at once, weights included",
    "buffers": "bytes of device_memory in which inputs, latents and outputs lie",
    "build": "s for all plans of the row",
    "plans": "bytes on the disk",
    "load, load_again": "s from plans on the disk to graphs that ran; again with the first's kernels",
    "graphs_captured, graphs": "of the model, as CUDA graphs, and all",
    "largest_difference": "to torch-eager, of any number, relative to the larger of it and 1",
    "pixel_agreement": "share of the label map's pixels that are torch-eager's",
    "references_*": "the same to the outputs stored in the model, and whether they pass",
    "patterns_changed_by_garbage": "patterns whose outputs change in a bit by NaN in absent sensors' latents",
    "switch_cost": "us that the first fusion after a change of the pattern takes more than the next",
    "fusion": "us of that next one",
    "switch_share": "switch_cost as a share of a whole frame",
    "frames_that_differ, frames_compared": "in a bit from a session of one pattern; of a random order",
}
"""What the numbers of the report are."""


class Verification:
    """The parts, in the order of what is most wanted if the time is up.

    Args:
        given: the command's arguments.
        report: filled.
        scratch: folder for a model that is exported, and for plans that nobody wants to keep.
    """

    def __init__(self, given: argparse.Namespace, report: Report, scratch: Path) -> None:
        self.given = given
        self.report = report
        self.scratch = scratch
        self.cache = given.cache or scratch / "plans"
        self.size: tuple[int, int] = TINY
        self.modalities: tuple[Modality, ...] = tuple(Modality)
        self.eager: Callable[..., Any] | None = None
        self.network: Any = None
        self.place: Any = None
        self.temperatures: dict[int, float] = {}

    def run(self) -> None:
        """Do them all."""
        report = self.report
        in_torch = report.part("network", self._network) is not None
        if not in_torch and self.given.model is None:
            return
        if in_torch:
            self._torch_row(EAGER)
            self._torch_row(GRAPH)
        if self.given.device == "cuda":
            report.part("model", self._model)
        made = [row for row in self._engine_rows() if self._engine_row(*row)]
        for backend, precision in made:  # the longest part of a row, when all have what is shorter
            report.part(f"{backend}-{precision} switching", partial(self._switching, backend, precision))
        if in_torch:
            self._torch_row(COMPILED, COMPILE_S)  # nothing can end it
        if not any(record["metric"] == "p50" for record in report.records):
            report.part("rows", self._nothing, needs=-float("inf"))
        report.save()  # with what was left out

    def _nothing(self) -> None:
        msg = "expected a row to measure, none was made"
        raise RuntimeError(msg)

    def _wanted(self, row: str) -> bool:
        return self.given.rows is None or row in self.given.rows.split(",")

    def _network(self) -> bool:
        manifest = None if self.given.model is None else Manifest.load(self.given.model)
        if manifest is not None:
            self.size, self.modalities = manifest.size, manifest.modalities
            self.temperatures = {bits: c.temperature for bits, c in manifest.calibration.items()}
        elif not self.given.tiny:
            self.size = (240, 320)
        import torch

        from benchmarks import torch_rows
        from robust_perception.model.network import Network
        from robust_perception.model.network_config import NetworkConfig

        torch_rows.exact_float32()
        torch.manual_seed(0)
        if self.given.device == "cpu":
            torch.set_num_threads(1)  # a dry run is in nobody's way
        if self.given.weights is not None:
            from robust_perception.training import graph_weights

            self.network, _ = graph_weights.load(self.given.weights)
            self.modalities = self.network.config.modalities
            return True
        names = ("background", "thing", "other") if manifest is None else manifest.class_names
        scenes = ("quiet", "loud") if manifest is None else manifest.scene_names
        config = NetworkConfig(self.modalities, names, scenes)
        if self.given.tiny:
            config = replace(config, width=8, fine_width=8, audio_width=8)
        self.network = Network(config).eval()
        return True

    def _torch_row(self, name: str, needs: float = LEAST_S) -> None:
        if not self._wanted(name):
            return
        frame = self.report.part(name, partial(self._make_torch_row, name), needs)
        if frame is None:
            return
        if name == EAGER:
            self.eager = frame
        self.report.part(f"{name} latency", partial(self._latency, name, "fp32", frame))

    def _make_torch_row(self, name: str) -> Callable[..., Any]:
        import copy

        import torch

        from benchmarks import torch_rows

        on_gpu = self.given.device == "cuda"
        if on_gpu:
            torch.cuda.init()  # type: ignore[no-untyped-call]  # or says why it cannot be
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        free, tensors = (torch.cuda.mem_get_info()[0], torch.cuda.memory_allocated()) if on_gpu else (0, 0)
        network = copy.deepcopy(self.network)
        frame = torch_rows.rows(network, self.size, self.given.device, self.temperatures)[name]()
        inputs = noise_inputs(self.modalities, self.size, 1)
        for _ in range(3):
            frame(inputs, Pattern.of(self.modalities))  # compiled and warmed up here, not while it is timed
        found = {"label_map_on_host": (0.0, "ms")}
        if on_gpu:
            found["device_memory"] = (float(free - torch.cuda.mem_get_info()[0]), "bytes")
            found["tensors_peak"] = (float(torch.cuda.max_memory_allocated() - tensors), "bytes")
        self.report.add(name, "fp32", "", found)
        return frame

    def _model(self) -> None:
        from benchmarks.tensorrt_rows import Place

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
        if self.place is None:
            return
        left_out, manifest = self.report.head["left_out"], self.place.manifest
        for backend, family in tensorrt_library.FAMILIES.items():
            rows = {f"{backend}-{named}": named for named in PRECISIONS if self._wanted(f"{backend}-{named}")}
            missing = tensorrt_library.missing(family)
            if rows and missing is not None:
                left_out[backend] = missing
                continue
            for row, named in rows.items():
                if PRECISIONS[named] in manifest.precisions:
                    yield backend, named
                else:
                    left_out[row] = f"model {manifest.name} has no {PRECISIONS[named]} graphs"

    def _engine_row(self, backend: str, named: str) -> bool:
        """All of a row but its switching; whether it runs."""
        from benchmarks import tensorrt_rows as rows

        report, row = self.report, f"{backend}-{named}"
        if report.part(f"{row} build", partial(self._build, backend, named), BUILD_S) is None:
            return False
        pipeline = report.part(f"{row} load", partial(self._load, backend, named))
        if pipeline is None:
            return False
        report.part(f"{row} latency", partial(self._latency, backend, named, pipeline.run))
        inputs = rows.inputs_of(pipeline.manifest, 2)
        truth = self._truth()
        if truth is not None:
            report.part(f"{row} parity", partial(self._parity, backend, named, pipeline, truth, inputs))
        report.part(f"{row} references", partial(self._references, backend, named, pipeline))
        report.part(f"{row} garbage", partial(self._garbage, backend, named, pipeline, inputs))
        with contextlib.suppress(BackendError):  # a device that gives no memory back tells the next row so
            pipeline.backend.close()
        return True

    def _build(self, backend: str, named: str) -> bool:
        from benchmarks import tensorrt_rows as rows

        until = time.monotonic() + self.report.left() / 2
        made = rows.build(self.place, backend, PRECISIONS[named], until)
        found = {"build": (made["build"], "s"), "plans": (made["plans"], "bytes")}
        self.report.add(backend, named, "", found)
        return True

    def _load(self, backend: str, named: str) -> Any:
        from benchmarks import tensorrt_rows as rows
        from robust_perception.engine.pipeline import Pipeline

        manifest, precision = self.place.manifest, PRECISIONS[named]
        runtime = CudaRuntime.load()
        runtime.select()
        before, _ = runtime.memory()
        load, opened = _timed(partial(rows.open_backend, self.place, backend, precision))
        after, _ = runtime.memory()
        load_again, other = _timed(partial(rows.open_backend, self.place, backend, precision))
        other.close()
        pipeline = Pipeline(manifest, opened)
        on_host = rows.label_map_on_host(pipeline, rows.inputs_of(manifest, 1))
        self.report.head["libraries"][backend] = tensorrt_library.load(backend).version
        self.report.head["uncaptured"][f"{backend}-{named}"] = opened.uncaptured
        graphs = len(manifest.graphs)
        found = {
            "load": (load, "s"),
            "load_again": (load_again, "s"),
            "device_memory": (float(before - after), "bytes"),
            "buffers": (float(opened.memory()), "bytes"),
            "graphs_captured": (float(graphs - len(opened.uncaptured)), "graphs"),
            "graphs": (float(graphs), "graphs"),
            "label_map_on_host": (on_host, "ms"),
        }
        self.report.add(backend, named, "", found)
        return pipeline

    def _parity(self, backend: str, named: str, pipeline: Any, truth: Any, inputs: Any) -> None:
        from benchmarks import tensorrt_rows as rows

        for pattern, found in rows.parity(pipeline, truth, inputs).items():
            values = {name: (value, "1") for name, value in found.items()}
            self.report.add(backend, named, str(pattern), values)

    def _references(self, backend: str, named: str, pipeline: Any) -> None:
        """Distance to the outputs that are stored with the model."""
        from robust_perception.engine import selfcheck

        if pipeline.manifest.references is None:
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

    def _garbage(self, backend: str, named: str, pipeline: Any, inputs: Any) -> None:
        from benchmarks import tensorrt_rows as rows

        changed = rows.garbage(pipeline, inputs)
        found = {"patterns_changed_by_garbage": (float(changed), "patterns")}
        self.report.add(backend, named, "", found)

    def _switching(self, backend: str, named: str) -> None:
        from benchmarks import tensorrt_rows as rows
        from robust_perception.engine.pipeline import Pipeline

        manifest = self.place.manifest

        def fresh() -> Pipeline:
            return Pipeline(manifest, rows.open_backend(self.place, backend, PRECISIONS[named]))

        deadline = time.perf_counter() + min(SWITCHING_S, self.report.left() / 4)
        found = rows.switching(fresh(), fresh, rows.inputs_of(manifest, 2), 400, deadline)
        units = {"switch_cost": "us", "fusion": "us", "switch_share": "1"}
        values = {name: (value, units.get(name, "frames")) for name, value in found.items()}
        self.report.add(backend, named, "", values)

    def _truth(self) -> Callable[..., Any] | None:
        """Torch's word, where the network is the model's."""
        known = self.given.weights is not None or self.given.model is None
        return self.eager if known else None

    def _latency(self, backend: str, precision: str, frame: Callable[..., Any]) -> None:
        inputs, patterns = noise_inputs(self.modalities, self.size, 3), patterns_of(self.modalities)
        chosen = (patterns[0], patterns[-1])
        end = time.perf_counter() + min(LATENCY_S, self.report.left())
        for index, pattern in enumerate(chosen):
            given = {m: inputs[m] for m in pattern}
            contestants: dict[str, Callable[[], Any]] = {}
            if self.eager is not None:
                contestants[EAGER] = partial(self.eager, given, pattern)
            contestants[backend] = partial(frame, given, pattern)
            for contestant in contestants.values():
                contestant()
            now = time.perf_counter()
            share = max(0.0, end - now) / (len(chosen) - index)
            times = interleave(contestants, self.given.rounds, now + share)
            spent = times[backend]
            found = {
                metric: (value, "of torch-eager" if metric == "ratio" else "ms")
                for metric, value in summary(spent, times.get(EAGER)).items()
            }
            found["rounds"] = (float(len(spent)), "rounds")
            self.report.add(backend, precision, str(pattern), found)


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what it gave."""
    start = time.perf_counter()
    value = work()
    return time.perf_counter() - start, value
