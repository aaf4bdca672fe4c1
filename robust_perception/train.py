"""`robust-perception train`: from a data folder to a model folder."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from robust_perception.datasets import DatasetError
from robust_perception.model.errors import ModelError
from robust_perception.training.config import TrainingConfig
from robust_perception.training.errors import TrainingError
from robust_perception.training.loop import Run, train


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="robust-perception train",
        description="Train a network that any subset of its sensors is enough for, and export it.",
        epilog="The run folder gets config.yaml, log.csv, last.safetensors, best.safetensors and model/.",
    )
    parser.add_argument(
        "--config", required=True, type=Path, help="YAML file, e.g. config/train/default.yaml"
    )
    parser.add_argument("--data", required=True, type=Path, help="folder with the splits train and val")
    parser.add_argument("--out", required=True, type=Path, help="folder of the run")
    parser.add_argument("--seed", type=int, default=0, help="of weights, order, crops, patterns")
    parser.add_argument("--threads", type=int, help="threads of one operator (default: all cores)")
    parser.add_argument("--resume", action="store_true", help="go on from the folder's last checkpoint")
    parser.add_argument("--no-export", action="store_true", help="leave out the model folder")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command: 0 when the run is complete, 1 when something does not allow it, 2 on wrong usage."""
    words = list(sys.argv[1:] if argv is None else argv)
    arguments = build_parser().parse_args(words)
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    try:
        run = Run(TrainingConfig.load(arguments.config), arguments.data, arguments.out, arguments.seed)
        best = train(run, arguments.resume)
        if not arguments.no_export:
            from robust_perception.export import export

            command = shlex.join(["robust-perception", "train", *(w for w in words if w != "--resume")])
            print(export(best, arguments.data, arguments.out / "model", command=command))
    except (DatasetError, ModelError, TrainingError, OSError) as error:
        print(f"train: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
