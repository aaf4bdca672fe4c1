"""Stage S3: adapters for each poorer pattern on a frozen network (Reza et al., arXiv 2310.03986).

    for each pattern c but the full one:
        min over Delta_c   L_task( f(x_c; Theta, Delta_c) )
                           + lambda_d KL( f(x; Theta) || f(x_c; Theta, Delta_c) )       x = all the sample has

Theta never changes, so the full pattern keeps every bit of what it could. Only the encoders of c run. A
pattern whose adapters do not raise its validation score keeps none. Patterns are trained one by one and each
is a file of its own: a run that is killed repeats the pattern it was at, with the same chance and result, and
several processes share the patterns among them. A file says whose it is; rows of another base, configuration
or seed are trained again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import torch
from safetensors.torch import load_file
from torch import Tensor

from robust_perception.model.adapter_bank import AdapterBank, AdapterConfig, attach, plan
from robust_perception.model.errors import ModelError
from robust_perception.model.network import Network
from robust_perception.training import checkpoint, losses
from robust_perception.training.batch import Batch
from robust_perception.training.config import LossConfig, TrainingConfig
from robust_perception.training.errors import CheckpointError, ConfigError, NonFiniteLossError
from robust_perception.training.loader import Loader
from robust_perception.training.log import ProgressLine
from robust_perception.training.machine import Machine
from robust_perception.training.method_config import AdaptationConfig
from robust_perception.training.mixture import MixedDataset
from robust_perception.training.objective import pattern_tensor, targets_of, task_losses
from robust_perception.training.optimiser import half_cosine
from robust_perception.training.supervision import labelled_names
from robust_perception.training.validation import validate
from robust_perception.vocabulary import Pattern, patterns_of

ADAPTED = "adapted.safetensors"


def bank_config(config: AdaptationConfig) -> AdapterConfig:
    """The bank that a configuration asks for."""
    return AdapterConfig(
        kind=config.kind,
        budget=config.budget,
        rank=config.rank,
        places=config.places,
        finest_stride=config.finest_stride,
        wide=config.wide,
        leave_out=True,
    )


def check_adapters(network: Network, config: AdaptationConfig) -> None:
    """Refuse adapters that a network could not be given: better before it is trained than after.

    Raises:
        ConfigError: a place is no part of it, no layer there serves a pattern, or the budget is too small.
    """
    modalities = network.config.modalities
    if config.kind != "none":
        try:
            plan(network, bank_config(config), patterns_of(modalities)[1:], modalities)
        except ModelError as error:
            msg = f"adapters: {error}"
            raise ConfigError(msg) from None


def adapt(
    base: Path,
    data: tuple[Path, ...],
    out: Path,
    config: TrainingConfig,
    seed: int = 0,
    stream: TextIO = sys.stderr,
    only: Sequence[Pattern] | None = None,
    machine: Machine = Machine(),  # noqa: B008 - a frozen value
) -> Path:
    """Train the adapters of a network; return the file of the network with them.

    Args:
        base: weights of the network (`best.safetensors`).
        data: folders with the splits train and val.
        out: folder for the patterns' files and `adapted.safetensors`.
        config: its sections data, augmentation, losses and adapters count, and optimiser.batch,
            optimiser.gradient_norm and validation.limit.
        seed: of crops and first values.
        stream: for progress.
        only: stop after these patterns, as if killed there.
        machine: what computes it.

    Raises:
        CheckpointError: the base cannot be read.
        DatasetError: a split cannot serve.
        ModelError: a pattern's adapters cost more than the budget.
        NonFiniteLossError: names the loss and the pattern.
    """
    ranks = machine.ranks
    stream = ranks.voice(stream)
    torch.manual_seed(seed)
    network, remembered = checkpoint.load_weights(base)
    network.to(ranks.device)
    splits = {name: MixedDataset.open(data, name, config.data.classes) for name in ("train", "val")}
    modalities = network.config.modalities
    everything = patterns_of(modalities)
    poorer = everything[1:]
    settings = dataclasses.replace(bank_config(config.adapters), seed=seed)
    size, limit = config.data.size, config.validation.limit
    before = validate(network, splits["val"], poorer, size, limit, ranks)
    bank = attach(network, settings, poorer, modalities)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    labelled = labelled_names(splits["train"], modalities, config.data.labelled, seed)
    out.mkdir(parents=True, exist_ok=True)
    todo = list(poorer if only is None else only)
    whose = {
        "base": hashlib.sha256(base.read_bytes()).hexdigest(),
        "config": config.sha256,
        "seed": seed,
    }
    for pattern in todo[ranks.index :: ranks.count]:
        file = out / f"{pattern}.safetensors"
        if file.is_file():
            if _made_by(file) == whose:
                continue
            stream.write(
                f"{file}: expected rows of this base, configuration and seed, got others or some that do not "
                f"say; {pattern} is trained again\n"
            )
        loader = Loader(
            splits["train"], modalities, config, seed, labelled, needs=pattern, workers=machine.workers
        )
        train_pattern(network, bank, pattern, loader, config, stream)
        rows = {str(i): p.detach().contiguous() for i, p in enumerate(bank.parameters_of(pattern))}
        checkpoint.save(file, rows, {"rows_of": whose})
    ranks.wait()
    scores: dict[str, tuple[float, float]] = {}
    for pattern in todo:
        _write(bank, pattern, load_file(out / f"{pattern}.safetensors"))
        after = validate(network, splits["val"], [pattern], size, limit, ranks)[pattern]
        scores[str(pattern)] = (before[pattern], after)
        if not after > before[pattern]:
            bank.reset(pattern)
        stream.write(f"{pattern}: validation {before[pattern]:.2f} -> {after:.2f}\n")
        stream.flush()
    known = {f"val/{name}": max(pair) for name, pair in scores.items() if not math.isnan(max(pair))}
    if ranks.first:
        checkpoint.save_weights(
            out / ADAPTED,
            network,
            {**remembered, "config": config.to_text(), "config_sha256": config.sha256, "validation": known},
            adapters=bank,
        )
    ranks.wait()
    return out / ADAPTED


def train_pattern(
    network: Network,
    bank: AdapterBank,
    pattern: Pattern,
    loader: Loader,
    config: TrainingConfig,
    stream: TextIO = sys.stderr,
) -> None:
    """Train one pattern's rows.

    Args:
        network: with the bank attached.
        bank: its adapters.
        pattern: c.
        loader: of the training samples that have all of its sensors; nothing is done if there are none.
        config: of the run.
        stream: for progress.

    Raises:
        NonFiniteLossError: names the loss and the pattern.
    """
    if not len(loader.indices):
        return
    rows = bank.parameters_of(pattern)
    adam = torch.optim.AdamW(rows, lr=config.adapters.learning_rate, weight_decay=0.0)
    steps = loader.steps * config.adapters.epochs
    line = ProgressLine(stream, steps, 0)
    network.train()
    step = 0
    for epoch in range(config.adapters.epochs):
        start = time.monotonic()
        for (draw,) in loader.epoch(epoch):
            rate = half_cosine(step, steps, 0.1) * config.adapters.learning_rate
            for group in adam.param_groups:
                group["lr"] = rate
            batch = draw.batch.to(rows[0].device)
            loss = pattern_loss(network, batch, pattern, config.losses, config.adapters.distillation)
            adam.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            norm = float(torch.nn.utils.clip_grad_norm_(rows, config.optimiser.gradient_norm))
            if not math.isfinite(norm):
                raise NonFiniteLossError("norm of the adapters' gradient", [pattern], norm)
            adam.step()
            step += 1
            line(step, epoch + 1, float(loss.detach()), rate)
        line.say(f"{pattern} epoch {epoch + 1}: {time.monotonic() - start:.0f} s")
    network.eval()


def pattern_loss(
    network: Network, batch: Batch, pattern: Pattern, weights: LossConfig, distillation: float
) -> Tensor:
    """The loss of the adapters of one pattern.

    Raises:
        NonFiniteLossError: names the loss and the pattern.
    """
    size = (batch.label.shape[1], batch.label.shape[2])
    bits = torch.full((len(batch.available),), pattern.bits, dtype=torch.int64, device=batch.label.device)
    with network.selection.of(bits):
        outputs = network.fusion(network.encode(batch.inputs, pattern), bits, size)
    total: Tensor = outputs.segmentation.new_zeros(())
    for name, value in task_losses(outputs, batch, targets_of(batch), weights).items():
        if not bool(torch.isfinite(value)):
            raise NonFiniteLossError(f"loss {name} of the adapters", [pattern], float(value.detach()))
        total = total + value
    if distillation:
        # The full pattern has no adapters: it selects the network as it was, whatever the samples have.
        full = torch.full_like(bits, Pattern.of(network.config.modalities).bits)
        with torch.no_grad(), network.selection.of(full):
            seen = pattern_tensor(batch.available, bits.device)
            fused = network.fusion.fuse(network.encode(batch.inputs), seen)
            teacher = network.fusion.decode(fused, size).segmentation
        total = total + distillation * losses.distillation(outputs.segmentation, teacher, batch.label)
    return total


def _made_by(file: Path) -> object:
    """Base, configuration and seed of a pattern's rows; None where the file does not say."""
    try:
        return checkpoint.read_content(file).get("rows_of")
    except CheckpointError:
        return None


@torch.no_grad()
def _write(bank: AdapterBank, pattern: Pattern, rows: dict[str, Tensor]) -> None:
    for index, parameter in enumerate(bank.parameters_of(pattern)):
        parameter.copy_(rows[str(index)])
