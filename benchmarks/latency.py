"""How long one inference takes under every pattern, on this machine.

    python benchmarks/latency.py --model default --json latency.json

All frames of every inference are new, as when every sensor ticks at the rate of the output. Patterns take
turns in every round, so that a machine that slows down slows all of them; the ratio to the full pattern of
the same round comes first, milliseconds second.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from robust_perception import __version__, arguments
from robust_perception.engine.choice import CHOICES, PRECISION_CHOICES
from robust_perception.engine.engine import Engine, warm_up
from robust_perception.engine.errors import EngineError
from robust_perception.preprocess import INPUT_DTYPES, input_shape
from robust_perception.vocabulary import FrameSet, Modality, Pattern, SensorFrame


def main(argv: Sequence[str] | None = None) -> int:
    """Run it: 0 when measured, 1 when the model cannot be loaded."""
    parser = argparse.ArgumentParser(description="Latency of one inference by pattern.")
    parser.add_argument("--model", default="default", help="model folder or name (default: %(default)s)")
    parser.add_argument("--backend", choices=CHOICES, default="auto")
    parser.add_argument("--precision", choices=PRECISION_CHOICES, default="auto", help="in which arithmetic")
    parser.add_argument("--threads", type=arguments.positive, help="of one operator (default: all cores)")
    parser.add_argument("--rounds", type=arguments.positive, default=50, help="default: %(default)s")
    parser.add_argument("--json", type=Path, help="write the report here")
    given = parser.parse_args(argv)
    try:
        engine = Engine.load(given.model, given.backend, given.threads, given.precision)
    except EngineError as error:
        print(f"latency: {error}", file=sys.stderr)
        return 1
    report = {"device": device(), "engine": describe(engine), "rounds": given.rounds, "unit": "ms"}
    report["patterns"] = measure(engine, given.rounds)
    print(table(report["patterns"]))
    if given.json is not None:
        given.json.write_text(json.dumps(report, indent=1), encoding="utf-8")
    return 0


def measure(engine: Engine, rounds: int) -> dict[str, dict[str, float]]:
    """Per pattern: median ratio to the full pattern, percentiles of the total, medians of the steps."""
    warm_up(engine)
    generator = np.random.default_rng(0)
    spent: dict[Pattern, list[dict[str, float]]] = {pattern: [] for pattern in engine.manifest.patterns}
    stamp = 0
    for _ in range(rounds):
        for pattern, timings in spent.items():
            stamp += 1
            frames = {m: frame(engine, m, stamp, generator) for m in pattern}
            reference = next(iter(pattern))
            timings.append(dict(engine.infer(FrameSet(pattern, frames, reference)).timings_ms))
    full = np.array([timings["total"] for timings in spent[engine.manifest.patterns[0]]])
    found = {}
    for pattern, timings in spent.items():
        totals = np.array([step["total"] for step in timings])
        encode = [sum(v for k, v in step.items() if k.startswith("encode/")) for step in timings]
        found[str(pattern)] = {
            "ratio": float(np.median(totals / full)),
            "p50": float(np.percentile(totals, 50)),
            "p95": float(np.percentile(totals, 95)),
            "p99": float(np.percentile(totals, 99)),
            "encode": float(np.median(encode)),
            "fuse": float(np.median([step["fuse"] for step in timings])),
            "decode": float(np.median([step["decode"] for step in timings])),
        }
    return found


def frame(engine: Engine, modality: Modality, stamp: int, generator: np.random.Generator) -> SensorFrame:
    """A frame of noise at the model's size: what it shows costs nothing, its size does."""
    shape, dtype = input_shape(modality, engine.manifest.size), np.dtype(INPUT_DTYPES[modality])
    scale = {Modality.RGB: 255.0, Modality.DEPTH: 5.0, Modality.THERMAL: 310.0, Modality.AUDIO: 0.1}[modality]
    return SensorFrame(modality, (generator.random(shape) * scale).astype(dtype), stamp)


def table(patterns: dict[str, dict[str, float]]) -> str:
    """The figures as text."""
    names = ("ratio", "p50", "p95", "p99", "encode", "fuse", "decode")
    lines = [f"{'pattern':<24}" + "".join(f"{name:>9}" for name in names)]
    for pattern, found in patterns.items():
        lines.append(f"{pattern:<24}" + "".join(f"{found[name]:9.2f}" for name in names))
    return "\n".join(lines)


def describe(engine: Engine) -> dict[str, str]:
    """What ran."""
    info = engine.info
    return {
        "model": info.model,
        "model_sha256": info.sha,
        "backend": info.backend,
        "precision": info.precision,
        "device": info.device,
    }


def device() -> dict[str, str]:
    """The machine and the versions that the figures depend on."""
    return {
        "machine": f"{platform.system()} {platform.machine()}",
        "cores": str(len(os.sched_getaffinity(0))),
        "python": platform.python_version(),
        "robust_perception": __version__,
        "onnxruntime": importlib.metadata.version("onnxruntime"),
        "numpy": np.__version__,
    }


if __name__ == "__main__":
    sys.exit(main())
