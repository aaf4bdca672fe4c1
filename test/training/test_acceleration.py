"""Faster steps give the same network but for rounding, and nothing is left on the host."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import small_data
import torch
from safetensors.torch import load_file
from torch import nn

from robust_perception.training import loop
from robust_perception.training.acceleration import accelerate
from robust_perception.training.adaptation import pattern_loss
from robust_perception.training.building import build_network
from robust_perception.training.config import TrainingConfig
from robust_perception.training.loader import Loader
from robust_perception.training.loop import Run, train
from robust_perception.training.mixture import MixedDataset
from robust_perception.training.objective import Helpers, objective
from robust_perception.training.stages import moment
from robust_perception.training.targets import assign
from robust_perception.vocabulary import Pattern, patterns_of

CPU = torch.device("cpu")
EVERYTHING = {**small_data.EVERYTHING, "patterns": {"distillation": 0.5}}
EVERYTHING["network"] = {**EVERYTHING["network"], "translation": "poe"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_data.write(tmp_path_factory.mktemp("data"))


def arguments(
    config: TrainingConfig, data: Path, network: loop.Network, hard: loop.HardCombinations
) -> tuple[Any, ...]:
    """What `objective` wants for one step with everything switched on."""
    split = MixedDataset.open((data,), "train", config.data.classes)
    (draw,) = next(Loader(split, network.config.modalities, config, 1).epoch(0))
    helpers = Helpers(torch.Generator(CPU).manual_seed(1), hard)
    now = moment(config.stages, config.optimiser.epochs, 1, config.methods, config.patterns)
    return network.train(), draw.batch, draw.patterns, config.losses, now, helpers


def combinations(network: loop.Network, count: int) -> loop.HardCombinations:
    return loop.HardCombinations(tuple(p.bits for p in patterns_of(network.config.modalities)), count)


def step(config: TrainingConfig, data: Path, network: loop.Network) -> tuple[torch.Tensor, dict[str, float]]:
    """Loss of that step and its parts."""
    return objective(*arguments(config, data, network, combinations(network, 1)))


def test_no_part_of_a_step_is_made_on_the_default_device(data: Path) -> None:
    # A tensor made without naming its device lands on "meta" here, as it would land on the host beside a GPU,
    # and does not mix with the others.
    config = small_data.config(**EVERYTHING)
    network = build_network(config, MixedDataset.open((data,), "train", config.data.classes))
    hard = combinations(network, len(patterns_of(network.config.modalities)))
    hard.agreement.fill_(1.0)
    hard.mean.fill_(1.0)
    hard.windows.fill_(2)
    given = arguments(config, data, network, hard)
    batch = given[1]
    # Boxes are matched on the host whatever the device is.
    targets = assign(batch.boxes, batch.class_ids, (batch.label.shape[1], batch.label.shape[2]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("robust_perception.training.objective.assign", lambda *_: targets)
        with torch.device("meta"):
            loss, parts = objective(*given)
            hard.close_window()
            adapted = pattern_loss(network, batch, Pattern(1), config.losses, 0.5)
    assert loss.device == adapted.device == CPU
    assert {"full/dice", "contrast", "distillation", "hard", "cycle", "token_bottleneck"} <= parts.keys()
    loss.backward()


def test_bfloat16_computes_the_same_but_for_rounding(data: Path) -> None:
    config = small_data.config(**EVERYTHING)
    network = build_network(config, MixedDataset.open((data,), "train", config.data.classes))
    names = list(network.state_dict())
    exact, parts = step(config, data, network)
    accelerate(network, CPU, "bfloat16", compiled=False)
    rounded, again = step(config, data, network)
    assert list(network.state_dict()) == names
    assert rounded.item() != exact.item()
    assert rounded.item() == pytest.approx(exact.item(), rel=0.05)
    assert parts.keys() == again.keys()
    rounded.backward()
    grads = [p.grad for p in network.encoders.parameters() if p.grad is not None]
    assert grads
    assert all(g.dtype == torch.float32 and bool(torch.isfinite(g).all()) for g in grads)


def test_a_bfloat16_run_ends_in_float32_weights(data: Path, tmp_path: Path) -> None:
    config = small_data.config(optimiser={"epochs": 1, "batch": 2, "precision": "bfloat16"})
    run = Run(config, (data,), tmp_path / "run")
    train(run, stream=io.StringIO())
    kinds = {value.dtype for value in load_file(run.out / loop.BEST).values()}
    assert torch.bfloat16 not in kinds


def test_compiled_parts_say_the_same(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Captured and differentiated as on a GPU; the code generator, minutes of a C++ compiler, is left out.
    plain = partial(nn.Module.compile, backend="aot_eager", fullgraph=True)
    monkeypatch.setattr(nn.Module, "compile", lambda module, **told: plain(module, **told))
    config = small_data.config(**{**EVERYTHING, "data": {"modalities": ["rgb", "thermal"]}})
    network = build_network(config, MixedDataset.open((data,), "train", config.data.classes))
    gradients = []
    for compiled in (False, True):
        if compiled:
            accelerate(network, CPU, "float32", compiled=True)
        network.zero_grad()
        loss, _ = step(config, data, network)
        loss.backward()
        gradients.append({n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, value in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], value, rtol=1e-3, atol=1e-4)
