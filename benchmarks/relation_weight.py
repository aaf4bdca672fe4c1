"""Which weight MMANet's distillation of relations wants on the digits of `vectors.py`.

    python benchmarks/relation_weight.py --seeds 10 11 12 13 --json docs/results/relation_weight.json

Accuracy in percent on the validation split, mean over the subsets of the views, less that of `dropout` of
the same seed: the test split is not looked at. Seeds are others than those the rows are compared with.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.vectors import run, summary, versions

WEIGHTS = (0.1, 0.5, 2.0, 4.0, 16.0)


def differences(seed: int, weights: Sequence[float]) -> list[dict[str, float]]:
    """A record a weight."""
    teacher = run("base", seed, 1.0, validated=True)[1]
    plain = summary(run("dropout", seed, 1.0, validated=True)[0])["mean"]
    found = []
    for weight in weights:
        scores, _ = run("mmanet", seed, 1.0, teacher, relation=weight, validated=True)
        found.append({"seed": seed, "weight": weight, "mean_above_dropout": summary(scores)["mean"] - plain})
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Try weights of MMANet's distillation on the digits.")
    parser.add_argument("--weights", nargs="+", type=float, default=list(WEIGHTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[10, 11, 12, 13])
    parser.add_argument("--json", type=Path, help="where records go")
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    records = []
    for seed in given.seeds:
        records += differences(seed, given.weights)
        for record in records[-len(given.weights) :]:
            print(f"seed {seed} weight {record['weight']:g}: {record['mean_above_dropout']:+.2f}", flush=True)
    if given.json is not None:
        body = {"versions": versions(), "records": records}
        given.json.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
