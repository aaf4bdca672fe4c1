"""The training loop.

    for each epoch:
        for each batch:  L -> gradient -> step of AdamW -> running average
        validate the average under every pattern, keep it when its mean is the best so far
        save everything

The validated and exported weights are the running average's. Chance depends on (seed, epoch, sample) alone
and everything else is in the checkpoint, so that a run which is killed and goes on ends with the weights of
one which was not.
"""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import torch

from robust_perception.datasets import FolderDataset
from robust_perception.model.network import Network, NetworkConfig
from robust_perception.training import checkpoint, optimiser
from robust_perception.training.checkpoint import Progress
from robust_perception.training.config import TrainingConfig
from robust_perception.training.errors import CheckpointError, ConfigError
from robust_perception.training.loader import Loader
from robust_perception.training.log import ProgressLine, duration, write_csv
from robust_perception.training.objective import objective
from robust_perception.training.statistics import measure
from robust_perception.training.validation import validate
from robust_perception.vocabulary import Modality, Pattern, patterns_of

LAST, BEST, CONFIG, LOG = "last.safetensors", "best.safetensors", "config.yaml", "log.csv"


@dataclass(frozen=True)
class Run:
    """What a run is made of.

    Attributes:
        config: every choice.
        data: the data folder with the splits `train` and `val`.
        out: the folder the run writes into.
        seed: of weights, order, crops and patterns.
    """

    config: TrainingConfig
    data: Path
    out: Path
    seed: int = 0


def train(run: Run, resume: bool = False, stream: TextIO = sys.stderr, stop_after: int | None = None) -> Path:
    """Train until the last epoch; return the file of the best weights.

    Args:
        run: what to do.
        resume: go on from the folder's last checkpoint if there is one; otherwise the folder must hold none.
        stream: for progress.
        stop_after: leave after this epoch, as if killed there.

    Raises:
        ConfigError: the data lacks a modality that the configuration names.
        CheckpointError: the folder holds another run, or one that was not asked to be resumed.
        NonFiniteLossError: names the loss and the patterns.
    """
    config = run.config
    torch.manual_seed(run.seed)
    splits = {name: FolderDataset(run.data, name, config.data.classes) for name in ("train", "val")}
    network = build_network(config, splits["train"])
    patterns = patterns_of(network.config.modalities)
    loader = Loader(splits["train"], network.config.modalities, config, run.seed)
    adam = optimiser.build(network, config.optimiser)
    average = optimiser.WeightAverage(network, config.optimiser.average)
    progress = begin(run, network, average, adam, resume)
    steps = loader.steps * config.optimiser.epochs
    line = ProgressLine(stream, steps, progress.step)
    parameters = [p for p in network.parameters() if p.requires_grad]

    while progress.epoch < config.optimiser.epochs:
        start = time.monotonic()
        sums: dict[str, float] = {}
        network.train()
        for draw in loader.epoch(progress.epoch):
            learning_rate = optimiser.rate(progress.step, steps, config.optimiser)
            for group in adam.param_groups:
                group["lr"] = learning_rate * group["scale"]
            latents = network.encode(draw.batch.inputs)
            loss, parts = objective(
                network.fusion, latents, draw.batch, draw.patterns, config.losses, config.patterns
            )
            adam.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(parameters, config.optimiser.gradient_norm)
            adam.step()
            average.update(network, progress.step)
            progress.step += 1
            parts["loss"] = float(loss.detach())
            for name, value in parts.items():
                sums[name] = sums.get(name, 0.0) + value / loader.steps
            line(progress.step, progress.epoch + 1, parts["loss"], learning_rate)
        progress.epoch += 1
        row = {
            "epoch": float(progress.epoch),
            "seconds": time.monotonic() - start,
            "rate": learning_rate,
            **sums,
        }
        if is_validated(config, progress.epoch):
            scores = validate(
                average.network, splits["val"], patterns, config.data.size, config.validation.limit
            )
            known = [score for score in scores.values() if not math.isnan(score)]
            row["val/mean"] = sum(known) / len(known) if known else 0.0
            row |= {f"val/{pattern}": score for pattern, score in scores.items()}
            if progress.best is None or row["val/mean"] > progress.best:
                progress.best = row["val/mean"]
                checkpoint.save_weights(run.out / BEST, average.network, remembered(run, row))
            line.say(table(scores, row["val/mean"]))
        progress.history.append(row)
        line.say(f"epoch {progress.epoch}: loss {row['loss']:.3f}, {duration(row['seconds'])}")
        checkpoint.save_run(run.out / LAST, network, average.network, adam, progress)
        write_csv(run.out / LOG, progress.history)
        if stop_after is not None and progress.epoch >= stop_after:
            break
    return run.out / BEST


def build_network(config: TrainingConfig, dataset: FolderDataset) -> Network:
    """The network of a configuration for a data set, on its first weights.

    Raises:
        ConfigError: the data lacks a modality that the configuration names, or has no boxes and labels.
    """
    wanted = tuple(Modality(name) for name in config.data.modalities) or dataset.modalities
    missing = [m.value for m in wanted if m not in dataset.modalities]
    if missing:
        there = [m.value for m in dataset.modalities]
        msg = f"data.modalities: expected sensors that {dataset.folder} has ({there}), got {missing} too"
        raise ConfigError(msg)
    values: dict[str, float] = {}
    for modality in (Modality.DEPTH, Modality.THERMAL):
        found = measure(dataset, modality) if modality in wanted else None
        if found is not None:
            values |= {f"{modality.value}_mean": found[0], f"{modality.value}_std": found[1]}
    network = Network(
        NetworkConfig(
            modalities=tuple(m for m in Modality if m in wanted),
            class_names=dataset.class_names,
            scene_names=dataset.scene_names,
            width=config.network.width,
            audio_width=config.network.audio_width,
            **values,
        )
    )
    if config.network.imagenet:
        network.load_imagenet()
    return network


def begin(
    run: Run,
    network: Network,
    average: optimiser.WeightAverage,
    adam: torch.optim.AdamW,
    resume: bool,
) -> Progress:
    """A new run's progress, or that of the folder's last checkpoint with its tensors filled in."""
    last = run.out / LAST
    if not last.is_file():
        run.out.mkdir(parents=True, exist_ok=True)
        (run.out / CONFIG).write_text(run.config.to_text(), encoding="utf-8")
        return Progress(run.config.sha256, run.seed)
    if not resume:
        msg = f"{run.out}: expected a folder without a run, got {LAST}; add --resume or choose another --out"
        raise CheckpointError(msg)
    progress = checkpoint.load_run(last, network, average.network, adam)
    for name, expected, got in (
        ("configuration", run.config.sha256, progress.config_sha256),
        ("seed", run.seed, progress.seed),
    ):
        if expected != got:
            msg = f"{last}: expected a run of this {name} ({expected}), got {got}; give it another --out"
            raise CheckpointError(msg)
    return progress


def is_validated(config: TrainingConfig, epoch: int) -> bool:
    """Whether the run is validated after `epoch` (from 1); always after the last."""
    every, first = config.validation.every, config.validation.first
    return epoch == config.optimiser.epochs or (epoch >= first and (epoch - first) % every == 0)


def remembered(run: Run, row: dict[str, float]) -> dict[str, object]:
    """What goes beside the best weights."""
    return {
        "config": run.config.to_text(),
        "config_sha256": run.config.sha256,
        "seed": run.seed,
        "data": run.data.resolve().name,
        "epoch": int(row["epoch"]),
        "validation": {name: row[name] for name in row if name.startswith("val/")},
    }


def table(scores: dict[Pattern, float], mean: float) -> str:
    """Validation by pattern in lines of text."""
    rows = [f"  {pattern!s:<28} {score:6.2f}" for pattern, score in scores.items()]
    return "\n".join(["validation, foreground mIoU in percent", *rows, f"  {'mean':<28} {mean:6.2f}"])
