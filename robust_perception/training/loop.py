"""The training loop.

    for each epoch:
        for each batch:
            for each of its shards that is this process's:  L -> gradient
            sum over the processes -> step of AdamW -> running average
        validate the average under every pattern, keep it when its mean is the best so far
        save everything

The validated and exported weights are the running average's. Chance depends on (seed, epoch, sample, shard)
alone and everything else is in the checkpoint, so that a run which is killed and goes on ends with the
weights of one which was not, on as many processes as there are then.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

import torch

from robust_perception.model.embedding import HardCombinations
from robust_perception.training import checkpoint, optimiser
from robust_perception.training.acceleration import accelerate
from robust_perception.training.adaptation import check_adapters
from robust_perception.training.building import (
    build_network,
    check_shards,
    check_splits,
    check_validation,
    modalities_of,
)
from robust_perception.training.config import TrainingConfig
from robust_perception.training.errors import NonFiniteLossError
from robust_perception.training.loader import Loader
from robust_perception.training.log import Journal, ProgressLine, duration
from robust_perception.training.machine import Machine
from robust_perception.training.method_config import MethodConfig
from robust_perception.training.mixture import MixedDataset
from robust_perception.training.objective import Helpers, objective
from robust_perception.training.ranks import Ranks
from robust_perception.training.resuming import Origins, begin
from robust_perception.training.run import BEST, LAST, Run
from robust_perception.training.shards import NormStatistics, own_shards, sum_gradients
from robust_perception.training.stages import moment
from robust_perception.training.supervision import labelled_names
from robust_perception.training.teacher import open_teacher
from robust_perception.training.validation import mean_over, validate
from robust_perception.training.warm_start import Start, take_over
from robust_perception.vocabulary import Pattern, patterns_of

STEPS_APART, SHARDS_APART, SEEDS = 1 << 32, 1 << 56, 1 << 63
"""Between the chance of two runs, between that of two shards of a step, and in all."""


def train(
    run: Run,
    resume: bool = False,
    stream: TextIO = sys.stderr,
    stop_after: int | None = None,
    machine: Machine = Machine(),  # noqa: B008 - a frozen value
) -> Path:
    """Train until the last epoch; return the file of the best weights.

    Args:
        run: what to do; the same in every process.
        resume: go on from the folder's last checkpoint if there is one; otherwise the folder must hold none.
        stream: for progress.
        stop_after: leave after this epoch, as if killed there.
        machine: what computes it.

    Raises:
        DatasetError: a split is missing, or cannot serve for what it is for.
        ConfigError: the data lacks a modality that the configuration names, a batch cannot be dealt out to
            the processes, no validation frame has the sensors of the patterns to validate, there is no
            teacher where one is asked for, or one that does not fit, or the network cannot have the adapters
            that it shall get.
        CheckpointError: the folder holds another run, or one that was not asked to be resumed; the file of
            `start` or `teacher` cannot be read or fits nowhere.
        NonFiniteLossError: names the loss and the patterns.
    """
    config, ranks = run.config, machine.ranks
    stream = ranks.voice(stream)
    own = own_shards(config.optimiser.shards, ranks)
    torch.manual_seed(run.seed)
    splits = {name: MixedDataset.open(run.data, name, config.data.classes) for name in ("train", "val")}
    check_splits(splits, modalities_of(config, splits["train"]))
    # On a processor convolutions of this layout are a sixth faster.
    network = build_network(config, splits["train"])
    check_adapters(network, config.adapters)
    start = None if run.start is None or (run.out / LAST).is_file() else Start.open(run.start)
    if start is not None:
        stream.write(f"start: {start}: {take_over(network, start)}\n")
    network = network.to(device=ranks.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    patterns = patterns_of(network.config.modalities)
    modalities = network.config.modalities
    labelled = labelled_names(splits["train"], modalities, config.data.labelled, run.seed)
    loader = Loader(
        splits["train"], modalities, config, run.seed, labelled,
        shards=config.optimiser.shards, own=own, workers=machine.workers,
    )  # fmt: skip
    check_shards(len(loader.indices), config.optimiser.shards)
    chosen = patterns if config.validation.patterns == "all" else patterns[:1]
    check_validation(config.validation, splits["val"], chosen)
    teacher = open_teacher(run, network.config)
    helpers = build_helpers(config.methods, patterns, ranks.device, teacher)
    adam = optimiser.build(network, config.optimiser, config.stages)
    average = optimiser.WeightAverage(network, config.optimiser.average)
    progress, origins = ranks.from_first(
        lambda: begin(run, resume, loader.steps, network.config, Origins.of(start, teacher))
    )
    if progress.epoch:
        checkpoint.load_run(run.out / LAST, network, average.network, adam, helpers.hard)
    accelerate(network, ranks.device, config.optimiser.precision, machine.compiled)
    statistics = NormStatistics(network, config.optimiser.shards, ranks)
    journal = Journal(run.out, progress.epoch) if ranks.first else None
    steps = loader.steps * config.optimiser.epochs
    line = ProgressLine(stream, steps, progress.step)
    parameters = [p for p in network.parameters() if p.requires_grad]

    while progress.epoch < config.optimiser.epochs:
        began = time.monotonic()
        if helpers.hard is not None and not ranks.first:
            helpers.hard.forget_window()  # the first process has what was seen so far
        sums: dict[str, float] = {}
        now = moment(config.stages, config.optimiser.epochs, progress.epoch, config.methods, config.patterns)
        network.train()
        for draws in loader.epoch(progress.epoch):
            learning_rate = optimiser.rate(progress.step, steps, config.optimiser)
            for group in adam.param_groups:
                group["lr"] = learning_rate * group["scale"] * group["stages"][now.index]
            adam.zero_grad(set_to_none=True)
            statistics.begin_step()
            for shard, draw in zip(own, draws, strict=True):
                helpers.generator.manual_seed(
                    (run.seed * STEPS_APART + progress.step + shard * SHARDS_APART) % SEEDS
                )
                batch = draw.batch.to(ranks.device)
                loss, parts = objective(network, batch, draw.patterns, config.losses, now, helpers)
                (loss / config.optimiser.shards).backward()  # type: ignore[no-untyped-call]
                statistics.end_shard()
                parts["loss"] = float(loss.detach())
                for name, value in parts.items():
                    sums[name] = sums.get(name, 0.0) + value / (loader.steps * config.optimiser.shards)
            sum_gradients(parameters, ranks)
            statistics.end_step()
            norm = float(torch.nn.utils.clip_grad_norm_(parameters, config.optimiser.gradient_norm))
            if not math.isfinite(norm):
                shown = [pattern for draw in draws for pattern in draw.patterns]
                raise NonFiniteLossError("norm of the gradient", shown, norm)
            adam.step()
            average.update(network, progress.step)
            progress.step += 1
            line(progress.step, progress.epoch + 1, parts["loss"], learning_rate)
        progress.epoch += 1
        if helpers.hard is not None:
            ranks.sum_([helpers.hard.total, helpers.hard.seen])
            if progress.epoch % config.methods.window == 0:
                helpers.hard.close_window()
        sums = add_up(sums, ranks)
        row = {
            "epoch": float(progress.epoch),
            "stage": float(now.index),
            "seconds": time.monotonic() - began,
            "rate": learning_rate,
            **sums,
        }
        if is_validated(config, progress.epoch):
            scores = validate(
                average.network, splits["val"], chosen, config.data.size, config.validation.limit, ranks
            )
            row["val/mean"] = mean_over(scores)
            row |= {f"val/{pattern}": score for pattern, score in scores.items()}
            if progress.best is None or row["val/mean"] > progress.best:
                # As long as nothing could be measured the newest weights are kept, but are not the best.
                progress.best = None if math.isnan(row["val/mean"]) else row["val/mean"]
                if ranks.first:
                    checkpoint.save_weights(run.out / BEST, average.network, remembered(run, row, origins))
            line.say(table(scores, row["val/mean"]))
        progress.history.append(row)
        line.say(f"epoch {progress.epoch}: loss {row['loss']:.3f}, {duration(row['seconds'])}")
        if journal is not None:
            checkpoint.save_run(
                run.out / LAST, network, average.network, adam, progress, helpers.hard, asdict(origins)
            )
            journal.write(progress.history)
        if stop_after is not None and progress.epoch >= stop_after:
            break
    ranks.wait()
    return run.out / BEST


def add_up(sums: dict[str, float], ranks: Ranks) -> dict[str, float]:
    """Sums of the processes by name; a loss that only some of them had counts 0 in the others."""
    everywhere = ranks.gather(sums)
    names = dict.fromkeys(name for part in everywhere for name in part)
    return {name: sum(part.get(name, 0.0) for part in everywhere) for name in names}


def build_helpers(
    methods: MethodConfig, patterns: Sequence[Pattern], device: torch.device, teacher: Start | None
) -> Helpers:
    """What the loss needs beside the network."""
    hard = None
    if methods.hard or methods.weakest:
        count = max(1, round(methods.hard_share * len(patterns))) if methods.hard else 1
        hard = HardCombinations(tuple(p.bits for p in patterns), count).to(device)
    taught = None if teacher is None else teacher.network.requires_grad_(False).to(device)
    return Helpers(torch.Generator(device), hard, taught, bool(methods.weakest))


def is_validated(config: TrainingConfig, epoch: int) -> bool:
    """Whether the run is validated after `epoch` (from 1); always after the last."""
    every, first = config.validation.every, config.validation.first
    return epoch == config.optimiser.epochs or (epoch >= first and (epoch - first) % every == 0)


def remembered(run: Run, row: dict[str, float], origins: Origins) -> dict[str, object]:
    """What goes beside the best weights; patterns that no validation frame could show are left out."""
    return origins.known() | {
        "config": run.config.to_text(),
        "config_sha256": run.config.sha256,
        "seed": run.seed,
        "data": " + ".join(path.resolve().name for path in run.data),
        "epoch": int(row["epoch"]),
        "validation": {k: v for k, v in row.items() if k.startswith("val/") and not math.isnan(v)},
    }


def table(scores: dict[Pattern, float], mean: float) -> str:
    """Validation by pattern in lines of text."""
    rows = [f"  {pattern!s:<28} {score:6.2f}" for pattern, score in scores.items()]
    return "\n".join(["validation, foreground mIoU in percent", *rows, f"  {'mean':<28} {mean:6.2f}"])
