"""A run on disk: tensors in safetensors, everything else as JSON in the same file's header.

One file and one rename, so that a run that is killed while it saves keeps its last whole checkpoint.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from robust_perception.model.adapter_bank import AdapterBank, AdapterConfig, attach
from robust_perception.model.network import Network
from robust_perception.model.network_config import NetworkConfig
from robust_perception.training.errors import CheckpointError
from robust_perception.vocabulary import Pattern

FORMAT = "robust_perception/1"


@dataclass
class Progress:
    """Where a run stands.

    Attributes:
        config_sha256: of its configuration.
        seed: of the run.
        epoch: epochs done.
        step: steps done.
        best: best validation score so far, percent; None as long as nothing was measured.
        history: one row an epoch, as the log shows it.
    """

    config_sha256: str
    seed: int
    epoch: int = 0
    step: int = 0
    best: float | None = None
    history: list[dict[str, float]] = field(default_factory=list)


def save_run(
    path: Path,
    network: Network,
    average: Network,
    optimiser: torch.optim.Optimizer,
    progress: Progress,
    mined: nn.Module | None = None,
    origins: Mapping[str, str | None] | None = None,
) -> None:
    """Write everything that is needed to go on.

    Args:
        path: of the file.
        network: as it is.
        average: of its weights.
        optimiser: with its moments.
        progress: where the run stands.
        mined: what the run has learnt beside its weights.
        origins: what it builds on, in words; see `resuming`.
    """
    tensors = {f"network.{k}": v for k, v in network.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in average.state_dict().items()}
    state = optimiser.state_dict()["state"]
    tensors |= {f"optimiser.{i}.{k}": v for i, values in state.items() for k, v in values.items()}
    if mined is not None:
        tensors |= {f"mined.{k}": v for k, v in mined.state_dict().items()}
    content: dict[str, Any] = {"network": network.config.to_dict(), "progress": asdict(progress)}
    save(path, tensors, content if origins is None else {**content, "origins": dict(origins)})


def read_progress(path: Path) -> Progress:
    """Where the run of a checkpoint stands; no tensor is read.

    Raises:
        CheckpointError: missing, damaged, or a network alone.
    """
    content = read_content(path)
    if "progress" not in content:
        msg = f"{path}: expected a run's state (last.safetensors), got a network's weights"
        raise CheckpointError(msg)
    return Progress(**_known(path, "progress", content["progress"], Progress))


def read_network(path: Path) -> NetworkConfig:
    """Shape of the network of a checkpoint; no tensor is read.

    Raises:
        CheckpointError: missing, damaged, or of another schema.
    """
    return _shape(path, read_content(path))


def read_origins(path: Path) -> dict[str, str | None] | None:
    """What the run of a checkpoint builds on; None in one older than that. Raises as `read_network` does."""
    found: dict[str, str | None] | None = read_content(path).get("origins")
    return found


def load_run(
    path: Path,
    network: Network,
    average: Network,
    optimiser: torch.optim.Optimizer,
    mined: nn.Module | None = None,
) -> None:
    """Read the tensors that `save_run` wrote into these.

    Raises:
        CheckpointError: missing, damaged, or of another network.
    """
    tensors = _read_tensors(path)
    _fill(path, network, _part(tensors, "network."))
    _fill(path, average, _part(tensors, "average."))
    if mined is not None:
        _fill(path, mined, _part(tensors, "mined."))
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in _part(tensors, "optimiser.").items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def save_weights(
    path: Path, network: Network, training: Mapping[str, Any], adapters: AdapterBank | None = None
) -> None:
    """Write a network alone, with its adapters if it has any and what is to be remembered of its training."""
    content: dict[str, Any] = {"network": network.config.to_dict(), "training": dict(training)}
    if adapters is not None:
        content["adapters"] = {
            "config": asdict(adapters.config),
            "patterns": [pattern.bits for pattern in adapters.patterns],
        }
    save(path, dict(network.state_dict()), content)


def load_weights(path: Path) -> tuple[Network, dict[str, Any]]:
    """The network of `save_weights`, in evaluation mode, and what was remembered.

    Raises:
        CheckpointError: missing, damaged, or no file of weights.
    """
    return build(path, *read_weights(path))


def read_weights(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What `save_weights` wrote: the header's content, and the tensors by name.

    Raises:
        CheckpointError: missing, damaged, or no file of weights.
    """
    content = read_content(path)
    if "training" not in content:
        msg = f"{path}: expected a network's weights (best.safetensors), got a run's state"
        raise CheckpointError(msg)
    return content, _read_tensors(path)


def build(
    path: Path, content: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> tuple[Network, dict[str, Any]]:
    """The network that `read_weights` tells of, in evaluation mode, and what was remembered.

    Raises:
        CheckpointError: of another schema, or the tensors are not its own; names the path.
    """
    network = Network(_shape(path, content))
    if "adapters" in content:
        plain = _known(path, "adapters", content["adapters"]["config"], AdapterConfig)
        lists = {k: tuple(v) for k, v in plain.items() if isinstance(v, list)}
        patterns = [Pattern(bits) for bits in content["adapters"]["patterns"]]
        attach(network, AdapterConfig(**{**plain, **lists}), patterns, network.config.modalities)
    _fill(path, network, tensors)
    return network.eval(), dict(content["training"])


def _shape(path: Path, content: Mapping[str, Any]) -> NetworkConfig:
    return NetworkConfig.from_dict(_known(path, "network", content["network"], NetworkConfig))


def _known(path: Path, section: str, values: dict[str, Any], kind: type) -> dict[str, Any]:
    """The values of a section, refused where this version has no such key or lacks one it needs."""
    items = [item for item in fields(kind) if item.init]
    unknown = sorted(values.keys() - {item.name for item in items})
    needed = {i.name for i in items if i.default is MISSING and i.default_factory is MISSING}
    missing = sorted(needed - values.keys())
    if unknown or missing:
        msg = (
            f"{path}: expected a checkpoint of this version's schema, got unknown keys {unknown} and no "
            f"{missing} in its section {section!r}; use the version that wrote it, or train again"
        )
        raise CheckpointError(msg)
    return values


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def save(path: Path, tensors: Mapping[str, Tensor], content: Mapping[str, Any]) -> None:
    """Write tensors and, in the header, what they are; the file is there whole or not at all.

    Raises:
        CheckpointError: it cannot be written; an earlier file of the name is still there.
    """
    header = {"format": FORMAT, "content": json.dumps(content)}
    unfinished = path.with_suffix(".unfinished")
    try:
        save_file({k: v.contiguous() for k, v in tensors.items()}, unfinished, metadata=header)
        os.replace(unfinished, path)  # noqa: PTH105 - the atomic one is meant
    except (SafetensorError, OSError) as error:  # a full disk is an error of the library
        unfinished.unlink(missing_ok=True)
        msg = f"{path}: expected to write a checkpoint, could not: {error}; a run goes on with --resume"
        raise CheckpointError(msg) from None


def read_content(path: Path) -> dict[str, Any]:
    """What the header of a file of `save` says of its tensors.

    Raises:
        CheckpointError: missing, damaged, or of another format.
    """
    with _opened(path) as file:
        header = file.metadata() or {}
    if header.get("format") != FORMAT:
        msg = f"{path}: expected a checkpoint of format {FORMAT}, got {header.get('format')}"
        raise CheckpointError(msg)
    content: dict[str, Any] = json.loads(header["content"])
    return content


def _read_tensors(path: Path) -> dict[str, Tensor]:
    with _opened(path) as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not path.is_file():
        msg = f"{path}: expected a checkpoint, got no such file"
        raise CheckpointError(msg)
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        msg = f"{path}: expected a safetensors file, got one that cannot be read ({error})"
        raise CheckpointError(msg) from None


def _fill(path: Path, network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        msg = f"{path}: expected the weights of this network, got others: {error}"
        raise CheckpointError(msg) from None
