"""The study: every row of a configuration, trained and measured with seeds, resumable run by run.

    python benchmarks/study.py --config config/study/mm5.yaml --data DATA/mm5_rgbdt --classes coarse \
        --seeds 0 1 2 --rows base dropout joint --out runs/study
    python benchmarks/study.py --config config/study/mm5.yaml --out runs/study --collect docs/results.json

A run is one folder, `<out>/<data>-<classes>-<labels>-<budget>/<row>/seed<k>`: the training's own files and
`records.json`, which is written last and marks the run as done. Weights are chosen on the validation split
alone; the test split is looked at once, by the chosen weights. A run that was killed goes on; several
processes (`--processes`, or commands on hosts that see the folder) share it, each takes runs that nobody has
taken and waits for those it builds on. On a GPU a handful of them fill it, each reading ahead with workers:

    python benchmarks/study.py --config config/study/mm5.yaml --data DATA/mm5_rgbdt --processes 6 --workers 2

Single results are records

    {data, classes, labels, budget, row, seed, machine, pattern, split, metric, value, commit}

of `metric` foreground_miou (percent; patterns, "mean" over them and "worst"), and of parameters and
training_seconds ("all", or the pattern of a dedicated network). `--collect` adds them to those of other runs;
`benchmarks/results_page.py` makes the page.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import fcntl
import json
import math
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.study_plan import merge, read_plan
from robust_perception import arguments
from robust_perception.benchmarking.machine import describe
from robust_perception.datasets import DatasetError, FolderDataset
from robust_perception.model.errors import ModelError
from robust_perception.model.network import Network
from robust_perception.training import checkpoint
from robust_perception.training.adaptation import adapt
from robust_perception.training.config import TrainingConfig
from robust_perception.training.errors import ConfigError, TrainingError
from robust_perception.training.loop import train
from robust_perception.training.machine import Machine
from robust_perception.training.ranks import DEVICES, Ranks, launch
from robust_perception.training.run import BEST, LAST, Run
from robust_perception.training.sections import read_section
from robust_perception.training.validation import mean_over, validate
from robust_perception.vocabulary import Pattern, patterns_of

RECORDS, CLAIM = "records.json", "claim"
DEDICATED = "dedicated"


@dataclass(frozen=True)
class Task:
    """One run.

    Attributes:
        row: of the study.
        seed: of the run.
        pattern: the only one the network knows, of a dedicated network; else None.
    """

    row: str
    seed: int
    pattern: Pattern | None = None

    @property
    def folder(self) -> str:
        """Place below the study's."""
        name = f"{self.row}/{self.pattern}" if self.pattern else self.row
        return f"{name}/seed{self.seed}"


@dataclass(frozen=True)
class Study:
    """What is common to all runs.

    Attributes:
        plan: the configuration file's content.
        data: folder with the splits train, val and test.
        classes: "fine" or "coarse".
        labels: share of labelled training samples.
        budget: in units of the configured epochs.
        out: the study's folder.
    """

    plan: Mapping[str, Any]
    data: Path
    classes: str
    labels: float
    budget: float
    out: Path

    @property
    def folder(self) -> Path:
        """Of this data, classes, labels and budget."""
        return self.out / f"{self.plan['name']}-{self.classes}-{self.labels:g}-{self.budget:g}"

    def config(self, task: Task) -> TrainingConfig:
        """The configuration of a run."""
        row = {k: v for k, v in self.plan["rows"][task.row].items() if k not in ("teacher", "start")}
        merged = merge(self.plan["common"], row)
        merged["name"] = f"{self.plan['name']}-{task.row}"
        merged = merge(merged, {"data": {"classes": self.classes}})
        if self.labels < 1.0:
            merged = merge(merged, {"data": {"labelled": self.labels}})
        if task.pattern is not None:
            merged = merge(merged, {"data": {"modalities": [m.value for m in task.pattern]}})
        config = read_section(TrainingConfig, merged, "")
        epochs = max(1, round(config.optimiser.epochs * self.budget))
        first = max(1, round(config.validation.first * self.budget))
        return dataclasses.replace(
            config,
            optimiser=dataclasses.replace(config.optimiser, epochs=epochs),
            validation=dataclasses.replace(config.validation, first=first),
        )

    def tasks(self, rows: Sequence[str], seeds: Sequence[int]) -> list[Task]:
        """All runs, seed by seed; rows in this order, but those that build on others come last.

        The dedicated network of all sensors is `base`, so `dedicated` leaves it out.
        """
        modalities = FolderDataset(self.data, "train", self.classes).modalities
        found: list[Task] = []
        alone = [row for row in rows if not {"teacher", "start"} & set(self.plan["rows"][row])]
        for seed in seeds:
            for row in [*alone, *(row for row in rows if row not in alone)]:
                if row == DEDICATED:
                    poorer = [p for p in patterns_of(modalities)[1:] if any(m.is_image for m in p)]
                    found += [Task(row, seed, pattern) for pattern in poorer]
                else:
                    found.append(Task(row, seed))
        return found


def weights_of(study: Study, task: Task, key: str) -> Path | None:
    """Weights of the row that this one's `teacher` or `start` names, of the same seed; None without one.

    Waits for another process that is at them.

    Raises:
        ConfigError: that row has not been trained.
    """
    row = study.plan["rows"][task.row].get(key)
    if row is None:
        return None
    other = Task(row, task.seed)
    file = study.folder / other.folder / BEST
    if file.parent.is_dir():
        with (file.parent / CLAIM).open("a") as claimed:
            fcntl.flock(claimed, fcntl.LOCK_SH)
    if not (study.folder / other.folder / RECORDS).is_file():
        msg = f"{task.row}: expected the finished run of {row} in {file.parent}, got none; run that row first"
        raise ConfigError(msg)
    return file


def run_task(study: Study, task: Task, machine: Machine) -> None:
    """Train and measure one run: adapters on the row it starts from, or a network, from there or anew.

    Raises:
        ConfigError: the row it builds on has not been trained.
    """
    out = study.folder / task.folder
    config = study.config(task)
    teacher, start = weights_of(study, task, "teacher"), weights_of(study, task, "start")
    began = time.monotonic()
    with (out / "progress.txt").open("a", encoding="utf-8") as stream:
        if start is not None and config.adapters.kind != "none":
            best = adapt(start, (study.data,), out, config, task.seed, stream, machine=machine)
            seconds = time.monotonic() - began
        else:
            run = Run(config, (study.data,), out, task.seed, teacher, start)
            best = train(run, resume=True, stream=stream, machine=machine)
            seconds = sum(row["seconds"] for row in checkpoint.read_progress(out / LAST).history)
    network, _ = checkpoint.load_weights(best)
    values = measure(network.to(machine.ranks.device), study, config, task.pattern, machine.ranks)
    of = str(task.pattern or "all")
    values += [(of, "parameters", float(parameters(network))), (of, "training_seconds", seconds)]
    common = {
        "data": study.plan["name"],
        "classes": study.classes,
        "labels": study.labels,
        "budget": study.budget,
        "row": task.row,
        "seed": task.seed,
        "machine": described(machine.ranks.device),
    }
    records = [
        common | {"pattern": pattern, "split": "test", "metric": metric, "value": value, "commit": commit()}
        for pattern, metric, value in values
    ]
    unfinished = out / f"{RECORDS}.unfinished"
    unfinished.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    unfinished.replace(out / RECORDS)
    (out / LAST).unlink(missing_ok=True)  # a run that is done needs no state to go on


def measure(
    network: Network, study: Study, config: TrainingConfig, only: Pattern | None, ranks: Ranks
) -> list[tuple[str, str, float]]:
    """Foreground mIoU on the test split: (pattern, metric, value), percent."""
    test = FolderDataset(study.data, "test", study.classes)
    patterns = patterns_of(network.config.modalities)
    if only is not None:
        patterns = patterns[:1]
    scores = validate(network, test, patterns, config.data.size, ranks=ranks)
    found = [(str(p), "foreground_miou", score) for p, score in scores.items()]
    if only is None:
        worst = min(score for score in scores.values() if not math.isnan(score))
        found += [("mean", "foreground_miou", mean_over(scores)), ("worst", "foreground_miou", worst)]
    return found


def parameters(network: Network) -> int:
    """Of the network that runs: what only training needs is not counted."""
    return sum(p.numel() for name, p in network.named_parameters() if not name.startswith("auxiliary."))


def described(device: torch.device) -> str:
    """What trained: the last bits of a sum are the processor's, and a whole training makes much of them."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    told = describe()
    return f"{told['cpu']}, {told['architecture']} with {', '.join(told['instruction_sets'])}"


def commit() -> str:
    """Of the source tree; with "+" when it has changes."""
    here = Path(__file__).resolve().parent

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(here), *words], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")


@contextlib.contextmanager
def claim(folder: Path) -> Iterator[bool]:
    """Whether this process has the run; the claim ends with the process, whatever ends it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / CLAIM).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def collect(folder: Path, target: Path) -> int:
    """Add the records of all finished runs to those of a file; return how many it then has.

    What the file has of other runs stays: they may have been made elsewhere, or long ago. Of a run that is in
    both, with one commit, the folder's records count.
    """
    records = json.loads(target.read_text(encoding="utf-8")) if target.is_file() else []
    for path in sorted(folder.rglob(RECORDS)):
        records += json.loads(path.read_text(encoding="utf-8"))
    names = ("data", "classes", "labels", "budget", "row", "seed", "commit", "split", "pattern", "metric")
    known = {tuple(record[name] for name in names): record for record in records}
    rows = ",\n".join(json.dumps(known[key]) for key in sorted(known, key=lambda key: key[:7]))
    target.write_text(f"[\n{rows}\n]\n", encoding="utf-8")
    return len(known)


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(description="Train and measure the rows of a study.")
    parser.add_argument("--config", required=True, type=Path, help="e.g. config/study/mm5.yaml")
    parser.add_argument("--data", type=Path, help="folder with the splits train, val and test")
    parser.add_argument("--out", type=Path, default=Path("runs/study"), help="folder of all runs")
    parser.add_argument("--classes", choices=("coarse", "fine"), default="coarse")
    parser.add_argument("--labels", type=float, default=1.0, help="share of labelled training samples")
    parser.add_argument("--budget", type=float, default=1.0, help="times the configured epochs")
    parser.add_argument("--rows", nargs="+", help="default: all")
    parser.add_argument("--seeds", nargs="+", type=arguments.seed, default=[0, 1, 2])
    parser.add_argument("--threads", type=arguments.positive, default=1, help="of one run")
    parser.add_argument("--processes", type=arguments.positive, default=1, help="runs at a time")
    parser.add_argument("--device", choices=DEVICES, default="auto", help="auto is CUDA if there is any")
    parser.add_argument("--workers", type=arguments.count, default=0, help="that read ahead for one run")
    parser.add_argument("--collect", type=Path, help="only add the records of all finished runs to this file")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    words = list(sys.argv[1:] if argv is None else argv)
    given = build_parser().parse_args(words)
    if given.processes > 1:
        command = [sys.executable, __file__, *words, "--processes", "1"]
        others = [subprocess.Popen(command) for _ in range(given.processes)]
        return max(other.wait() for other in others)
    if given.collect is not None:
        print(f"{collect(given.out, given.collect)} records in {given.collect}")
        return 0
    torch.set_num_threads(given.threads)
    try:
        machine = Machine(launch(given.device), given.workers)
        study = Study(
            read_plan(given.config), given.data, given.classes, given.labels, given.budget, given.out
        )
        tasks = study.tasks(given.rows or list(study.plan["rows"]), given.seeds)
        for number, task in enumerate(tasks, 1):
            folder = study.folder / task.folder
            with claim(folder) as mine:
                if not mine or (folder / RECORDS).is_file():
                    continue
                # One write a line: processes share the terminal.
                print(f"{number}/{len(tasks)} {task.folder}\n", end="", flush=True)
                try:
                    run_task(study, task, machine)
                except ConfigError as error:
                    print(f"{task.folder}: left out: {error}", file=sys.stderr)
    except (DatasetError, ModelError, TrainingError, OSError) as error:
        print(f"study: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
