"""What a bag costs when there are many: `evaluate --bags` with one worker and with several.

    python benchmarks/fleet.py --json docs/results/fleet.json
    python benchmarks/fleet.py --bags 20 --workers 1 2
    python benchmarks/fleet.py --model default --data DATA --frames 10

Makes 200 small bags of four sensors with truth, by default of drawings that the tiny model of the tests can
tell apart, and measures them once for every number of workers, each time from nothing. One worker is this
process without Ray, more are Ray's. Per number of workers:

    start      seconds until the first bag is begun: Ray's start and the loading of the model by a worker
    wall       seconds a bag between the first and the last that is done
    cpu        seconds of processor a bag in the workers, of all threads
    flat       the second half of the bags over the first half: 1 = the number of bags does not matter
    merge      seconds a bag to join all results, and the same of half of them

The reports must be the same to the last bit, whoever made them; the command fails when they are not.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robust_perception import arguments
from robust_perception.bags.dataset import write_dataset
from robust_perception.bags.layouts import open_folder
from robust_perception.benchmarking import machine
from robust_perception.datasets import FolderDataset
from robust_perception.engine.engine import Engine
from robust_perception.fleet.find import Bag, find_bags
from robust_perception.fleet.job import Job
from robust_perception.fleet.merge import FleetReport, merge
from robust_perception.fleet.result import Store
from robust_perception.fleet.run import Crew, measure

REPOSITORY = Path(__file__).resolve().parents[1]


def make(folder: Path, given: argparse.Namespace) -> tuple[str, Path]:
    """Model and bags: those of the tests, or as asked for."""
    if given.model is None:
        sys.path += [str(REPOSITORY / "test" / room) for room in ("engine", "evaluation")]
        model = str(importlib.import_module("tiny_model").make_model(folder / "tiny"))
        data: Path = importlib.import_module("small_folder").write(folder / "data", given.frames)
        dataset = FolderDataset(data, "test")
    else:
        model, dataset = given.model, open_folder(given.data, given.split)
    for number in range(given.bags):
        bag = folder / "bags" / f"{number:04}"
        write_dataset(dataset, bag, rate=given.rate, limit=given.frames, labels=True)
    return model, folder / "bags"


def run(job: Job, bags: Sequence[Bag], crew: Crew, folder: Path) -> tuple[dict[str, Any], FleetReport]:
    """Measure all bags with a crew, from nothing."""
    store = Store(folder)
    files, done, wall, cpu = {}, [], [], []
    start = time.perf_counter()
    for bag, outcome in measure(job, bags, (), crew):
        assert outcome.data is not None, outcome.error
        files[bag.name] = store.save(bag.name, outcome.key, outcome.data)
        done.append(time.perf_counter() - start)
        wall.append(outcome.seconds)
        cpu.append(outcome.cpu_seconds)
    ended = time.perf_counter() - start
    engine = job.load()
    report, whole = _merged(engine, store, bags, files)
    _, half = _merged(engine, store, bags[: len(bags) // 2], files)
    middle = len(done) // 2
    gaps = np.diff(done)
    figures = {
        "workers": crew.workers,
        "ray": crew.workers > 1,
        "start_s": done[0] - wall[0],
        "total_s": ended,
        "wall_s_per_bag": float(gaps.mean()),
        "wall_flat": float(gaps[middle:].mean() / gaps[:middle].mean()),
        "cpu_s_per_bag": float(np.mean(cpu)),
        "cpu_flat": float(np.mean(cpu[middle:]) / np.mean(cpu[:middle])),
        "merge_s_per_bag": whole / len(bags),
        "merge_s_per_bag_of_half": half / (len(bags) // 2),
    }
    return figures, report


def _merged(
    engine: Engine, store: Store, bags: Sequence[Bag], files: dict[str, Path]
) -> tuple[FleetReport, float]:
    manifest = engine.manifest
    start = time.process_time()
    results = ((bag.name, store.load(files[bag.name])) for bag in bags)
    report = merge(results, (), manifest.class_names, manifest.scene_names, {})
    return report, time.process_time() - start


def table(rows: Sequence[dict[str, Any]]) -> str:
    """For people."""
    head = "workers   start, s  wall a bag, s   flat  cpu a bag, s   flat  merge a bag, ms   of half, ms"
    lines = [head]
    for row in rows:
        lines.append(
            f"{row['workers']:>7}  {row['start_s']:9.1f}  {row['wall_s_per_bag']:13.3f}  "
            f"{row['wall_flat']:5.2f}  {row['cpu_s_per_bag']:12.3f}  {row['cpu_flat']:5.2f}  "
            f"{1e3 * row['merge_s_per_bag']:15.2f}  {1e3 * row['merge_s_per_bag_of_half']:12.2f}"
        )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see the head of this file."""
    parser = argparse.ArgumentParser(description="Measure what a bag costs when there are many.")
    parser.add_argument("--bags", type=arguments.positive, default=200, help="how many (%(default)s)")
    parser.add_argument("--frames", type=arguments.positive, default=6, help="of a bag (%(default)s)")
    parser.add_argument("--rate", type=arguments.rate, default=10.0, help="frames a second (%(default)s)")
    parser.add_argument(
        "--workers", type=arguments.positive, nargs="+", default=[1, 2], help="numbers of workers (1 2)"
    )
    parser.add_argument("--model", help="instead of the tests' tiny one; needs --data")
    parser.add_argument("--data", type=Path, help="folder whose frames the bags hold")
    parser.add_argument("--split", default="test", help="of that folder (%(default)s)")
    parser.add_argument("--threads", type=arguments.positive, default=1, help="of one operator (%(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures here")
    given = parser.parse_args(argv)
    arguments.make_way(given.json)
    if (given.model is None) != (given.data is None):
        parser.error("--model and --data go together")
    rows, reports = [], []
    with tempfile.TemporaryDirectory() as folder:
        model, source = make(Path(folder), given)
        bags = find_bags(source)
        job = Job(model, threads=given.threads)
        for workers in given.workers:
            row, report = run(job, bags, Crew(workers), Path(folder) / f"results_{workers}")
            rows.append(row)
            reports.append({k: v for k, v in report.to_json().items() if k != "seconds"})
            print(table(rows[-1:]), flush=True)
        name = job.load().manifest.name
    same = all(report == reports[0] for report in reports)
    print(table(rows))
    print("all reports are the same" if same else "the reports differ")
    content = {
        "bags": len(bags),
        "frames_per_bag": given.frames,
        "model": name,
        "threads": given.threads,
        "machine": machine.describe() | {"load": list(os.getloadavg())},
        "versions": machine.versions("ray", "rosbags"),
        "same_report": same,
        "rows": rows,
    }
    if given.json is not None:
        given.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
