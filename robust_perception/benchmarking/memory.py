"""How much memory a backend takes: a process of its own loads the model and runs every pattern once.

    growth   resident set after that, less the one before the backend was imported
    peak     largest resident set of the process, everything included

Both are the process's as the kernel counts it, with the libraries' own pages and what loading needed and did
not give back: that is what has to be free on a robot.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from robust_perception import arguments
from robust_perception.benchmarking.errors import BenchmarkError
from robust_perception.benchmarking.frames import Frames
from robust_perception.benchmarking.records import Record
from robust_perception.benchmarking.variants import Variant
from robust_perception.engine.engine import Engine
from robust_perception.engine.tensorrt import named

NAME = "memory"
MIB = 1 << 20
STATUS = Path("/proc/self/status")
LIMIT_S = 900


def measure(
    variants: Sequence[Variant], threads: int, cache: Path | None = None
) -> tuple[list[Record], list[str]]:
    """Records of every variant that can be loaded by name, and the reasons of those that failed."""
    records, failed = [], []
    for variant in variants:
        if variant.load is None:
            continue
        try:
            growth, peak = in_process(variant.engine, threads, cache)
        except BenchmarkError as error:
            failed.append(f"memory of {variant.name}: {error}")
            continue
        records.append(variant.record(NAME, None, "growth", growth / MIB, "MiB"))
        records.append(variant.record(NAME, None, "peak", peak / MIB, "MiB"))
    return records, failed


def in_process(engine: Engine, threads: int, cache: Path | None = None) -> tuple[int, int]:
    """Growth and peak, bytes, of a process that does what this engine does.

    Args:
        engine: it.
        threads: of one operator.
        cache: folder of plans; None = the user's own.

    Raises:
        BenchmarkError: it failed, and the message is its last line, or it took more than `LIMIT_S`.
    """
    what = (str(engine.folder), engine.info.backend, named(engine.info.precision), str(threads))
    command = [sys.executable, "-m", __name__, *what, *(() if cache is None else ("--cache", str(cache)))]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        msg = f"expected a process that loads and runs it within {LIMIT_S:g} s, got one that was not done"
        raise BenchmarkError(msg) from None
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise BenchmarkError(last)
    found = json.loads(done.stdout.splitlines()[-1])
    return int(found["growth"]), int(found["peak"])


def kernel_says(entry: str) -> int:
    """`VmRSS`, the resident set of this process, or `VmHWM`, its largest so far; bytes.

    Not `getrusage`: the largest there begins with what the parent process had.
    """
    for line in STATUS.read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == entry:
            return int(value.split()[0]) << 10
    msg = f"{STATUS}: expected {entry}, got none; memory is measured on Linux"
    raise BenchmarkError(msg)


def main(argv: Sequence[str] | None = None) -> int:
    """The process: prints growth and peak in bytes as JSON."""
    parser = argparse.ArgumentParser(description="Load a model, run every pattern once, print the memory.")
    parser.add_argument("model")
    parser.add_argument("backend")
    parser.add_argument("precision")
    parser.add_argument("threads", type=int)
    arguments.add_cache_option(parser)
    given = parser.parse_args(argv)
    before = kernel_says("VmRSS")
    engine = Engine.load(given.model, given.backend, given.threads, given.precision, given.cache)
    frames = Frames(engine.manifest.modalities, engine.manifest.size)
    for pattern in engine.manifest.patterns:
        engine.infer(frames.frame_set(pattern))
    print(json.dumps({"growth": kernel_says("VmRSS") - before, "peak": kernel_says("VmHWM")}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
