"""A run on disk: tensors in safetensors, everything else as JSON in the same file's header.

One file and one rename, so that a run that is killed while it saves keeps its last whole checkpoint.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from robust_perception.model.network import Network, NetworkConfig
from robust_perception.training.errors import CheckpointError

FORMAT = "robust_perception/1"


@dataclass
class Progress:
    """Where a run stands.

    Attributes:
        config_sha256: of its configuration.
        seed: of the run.
        epoch: epochs done.
        step: steps done.
        best: best validation score so far, percent; None before the first validation.
        history: one row an epoch, as the log shows it.
    """

    config_sha256: str
    seed: int
    epoch: int = 0
    step: int = 0
    best: float | None = None
    history: list[dict[str, float]] = field(default_factory=list)


def save_run(
    path: Path, network: Network, average: Network, optimiser: torch.optim.Optimizer, progress: Progress
) -> None:
    """Write everything that is needed to go on."""
    tensors = {f"network.{k}": v for k, v in network.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in average.state_dict().items()}
    state = optimiser.state_dict()["state"]
    tensors |= {f"optimiser.{i}.{k}": v for i, values in state.items() for k, v in values.items()}
    _save(path, tensors, network.config, {"progress": asdict(progress)})


def load_run(path: Path, network: Network, average: Network, optimiser: torch.optim.Optimizer) -> Progress:
    """Read what `save_run` wrote into these.

    Raises:
        CheckpointError: missing, damaged, or of another network.
    """
    tensors, content = _load(path)
    _fill(path, network, _part(tensors, "network."))
    _fill(path, average, _part(tensors, "average."))
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in _part(tensors, "optimiser.").items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    return Progress(**content["progress"])


def save_weights(path: Path, network: Network, training: Mapping[str, Any]) -> None:
    """Write a network alone, with what is to be remembered of its training."""
    _save(path, dict(network.state_dict()), network.config, {"training": dict(training)})


def load_weights(path: Path) -> tuple[Network, dict[str, Any]]:
    """The network of `save_weights`, in evaluation mode, and what was remembered.

    Raises:
        CheckpointError: missing, damaged, or no file of weights.
    """
    tensors, content = _load(path)
    if "training" not in content:
        msg = f"{path}: expected a network's weights (best.safetensors), got a run's state"
        raise CheckpointError(msg)
    network = Network(NetworkConfig.from_dict(content["network"]))
    _fill(path, network, tensors)
    return network.eval(), content["training"]


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _save(path: Path, tensors: Mapping[str, Tensor], config: NetworkConfig, more: Mapping[str, Any]) -> None:
    header = {"format": FORMAT, "content": json.dumps({"network": config.to_dict(), **more})}
    unfinished = path.with_suffix(".unfinished")
    save_file({k: v.contiguous() for k, v in tensors.items()}, unfinished, metadata=header)
    os.replace(unfinished, path)  # noqa: PTH105 - the atomic one is meant


def _load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    if not path.is_file():
        msg = f"{path}: expected a checkpoint, got no such file"
        raise CheckpointError(msg)
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError) as error:
        msg = f"{path}: expected a safetensors file, got one that cannot be read ({error})"
        raise CheckpointError(msg) from None
    if header.get("format") != FORMAT:
        msg = f"{path}: expected a checkpoint of format {FORMAT}, got {header.get('format')}"
        raise CheckpointError(msg)
    return tensors, json.loads(header["content"])


def _fill(path: Path, network: Network, tensors: Mapping[str, Tensor]) -> None:
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        msg = f"{path}: expected the weights of this network, got others: {error}"
        raise CheckpointError(msg) from None
