"""`robust-perception train`: from a data folder to a model folder."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from robust_perception import arguments
from robust_perception.datasets import DatasetError
from robust_perception.engine.errors import EngineError
from robust_perception.model.errors import ModelError
from robust_perception.progress import Steps
from robust_perception.training.adaptation import adapt
from robust_perception.training.config import TrainingConfig
from robust_perception.training.errors import TrainingError
from robust_perception.training.loop import train
from robust_perception.training.machine import Machine
from robust_perception.training.ranks import DEVICES, launch
from robust_perception.training.run import Run


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="robust-perception train",
        description="Train a network that any subset of its sensors is enough for, and export it.",
        epilog="The run folder gets config.yaml, log.csv, last.safetensors, best.safetensors and model/, and "
        "tensorboard/ where TensorBoard is installed. Several GPUs or hosts: put `torchrun ... -m "
        "robust_perception.train` in place of `robust-perception train`.",
    )
    parser.add_argument(
        "--config", required=True, type=Path, help="YAML file, e.g. config/train/default.yaml"
    )
    parser.add_argument(
        "--data",
        required=True,
        action="append",
        type=Path,
        help="folder with the splits train and val; several times for several folders, which may have other "
        "sensors and classes",
    )
    parser.add_argument("--out", required=True, type=Path, help="folder of the run")
    parser.add_argument(
        "--start",
        type=Path,
        metavar="WEIGHTS",
        help="begin with these weights where they fit: a run's best.safetensors, or a model, folder or name",
    )
    parser.add_argument(
        "--teacher",
        type=Path,
        metavar="WEIGHTS",
        help="learn relations (methods.relation) from these weights: a run's best.safetensors, or a model, "
        "folder or name, of the same classes and no other sensors",
    )
    parser.add_argument(
        "--seed",
        type=arguments.seed,
        default=0,
        help="seed of weights, order, crops and patterns (default: %(default)s)",
    )
    parser.add_argument(
        "--threads", type=arguments.positive, help="processor threads of one operator (default: one a core)"
    )
    parser.add_argument(
        "--device", choices=DEVICES, default="auto", help="auto = CUDA if there is any (default: %(default)s)"
    )
    parser.add_argument(
        "--workers",
        type=arguments.count,
        default=0,
        help="processes that read ahead; 0 = a thread of this one (default: %(default)s)",
    )
    parser.add_argument("--compile", action="store_true", help="compile the network; pays on a GPU")
    parser.add_argument("--resume", action="store_true", help="go on from the folder's last checkpoint")
    parser.add_argument("--no-export", action="store_true", help="leave out the model folder")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command: 0 when the run is complete, 1 when something does not allow it, 2 on wrong usage."""
    words = list(sys.argv[1:] if argv is None else argv)
    given = build_parser().parse_args(words)
    if given.threads is not None:
        torch.set_num_threads(given.threads)
    try:
        config = TrainingConfig.load(given.config)
        run = Run(config, tuple(given.data), given.out, given.seed, given.teacher, given.start)
        machine = Machine(launch(given.device), given.workers, given.compile)
        best = train(run, given.resume, machine=machine)
        if run.config.adapters.kind != "none":
            best = adapt(best, run.data, run.out / "adapters", run.config, run.seed, machine=machine)
        if machine.ranks.first and not given.no_export:
            from robust_perception.export import Options, export

            command = shlex.join(["robust-perception", "train", *(w for w in words if w != "--resume")])
            options = Options(say=Steps("export", sys.stderr))
            print(export(best, given.data, given.out / "model", command, options))
    except (DatasetError, EngineError, ModelError, TrainingError, OSError) as error:
        print(f"train: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
