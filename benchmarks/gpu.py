"""Everything that only a GPU can show, in one go: latency, parity, switching, memory, as one JSON.

    python benchmarks/gpu.py --model models/default --json gpu.json

TensorRT or TensorRT-RTX and cuda-bindings are needed for their rows, and torch with CUDA for its own. Torch
runs the weights that the model brings, or those of --weights. Where there are neither, the network is random:
times are those of a trained one, and parity with torch is left out; that with the model's stored references
is always there. Without --model the network is exported first, which needs torch and the exporter's packages.

Every part is guarded: one that fails is in the report with its error, and the rest goes on. The report is
written after each part, what is most wanted first; a build that would take more than half of the time that is
left is cancelled, and parts for which none is left are left out, so that the whole ends within --budget-s.
What each number means is in the report's head. Without a GPU it says so and ends with status 2 before it does
anything; --device cpu is a dry run of torch's rows.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import importlib.metadata
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.parts import Report, table
from benchmarks.verification import METRICS, PRECISIONS, TORCH_ROWS, Verification
from robust_perception import arguments
from robust_perception.engine import cuda, tensorrt_library
from robust_perception.engine.errors import EngineError
from robust_perception.engine.manifest import FILE_NAME
from robust_perception.engine.models import find_model

BENCHMARK = "gpu"
PACKAGES = (
    "torch", "triton", "numpy", "onnx", "onnxruntime", "cuda-bindings", "tensorrt", "tensorrt-cu12",
    "tensorrt-cu13", "tensorrt-rtx-cu13-libs", "tensorrt-rtx-cu13-bindings",
)  # fmt: skip
ROUNDS = 500
ROWS = (*TORCH_ROWS, *(f"{backend}-{named}" for backend in tensorrt_library.FAMILIES for named in PRECISIONS))


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
    parser = build_parser()
    given = parser.parse_args(words)
    unknown = sorted(set(given.rows.split(",")) - set(ROWS)) if given.rows is not None else []
    if unknown:
        parser.error(f"--rows: expected some of {', '.join(ROWS)}, got {', '.join(unknown)}")
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
    for row, reason in report.head["left_out"].items():
        print(f"left out: {row}: {reason}")
    failed = [part for part in report.parts if part["error"] is not None]
    print(
        f"{len(report.parts) - len(failed)} of {len(report.parts)} parts done, {len(report.records)} records"
    )
    return 1 if failed else 0


def own_weights(model: Path | None) -> Path | None:
    """The model itself, where it brings what torch needs beside its graphs."""
    if model is None:
        return None
    try:
        from robust_perception.training.graph_weights import FILE
    except ImportError:  # of torch, or of what reads weights: told by the part that needs it
        return model
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
        "libraries": {},
        "metrics": METRICS,
        "weights_sha256": weights_sha256(given.weights),
        "left_out": {},
        "uncaptured": {},
    }


if __name__ == "__main__":
    sys.exit(main())
