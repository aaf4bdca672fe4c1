"""A model folder's weights, to train on with: nearly all of them stand in its fp32 graphs already.

The exporter keeps the names of the network's tensors, and folds a norm that follows a convolution into it:

    G_o = f_o W_o        G the graph's tensor, W the network's, f one factor an output channel o

`training.safetensors`, beside the graphs, has what they lack. For every tensor of the network it holds

    nothing             where a graph has it bit by bit
    `factor/NAME`       f, float32 (O,), where W = G / f is right to some bits
    NAME                the tensor: norms, tables that graphs hold in another form, what only training uses

It is some percent of the weights, names the graphs it belongs to by their SHA-256, and no robot reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from robust_perception.engine.errors import EngineError
from robust_perception.engine.manifest import FILE_NAME, Manifest
from robust_perception.engine.model_files import GraphSpec
from robust_perception.engine.models import find_model
from robust_perception.model.network import Network
from robust_perception.training import checkpoint
from robust_perception.training.errors import CheckpointError

FILE = "training.safetensors"
FACTOR = "factor/"
PREFIX = "network."
"""Of names in the graphs of encoders."""

TOLERANCE = 1e-6
"""Of a restored tensor, relative to its largest value."""


def load(path: Path) -> tuple[Network, dict[str, Any]]:
    """The network of `read`, in evaluation mode, and what was remembered of its training."""
    return checkpoint.build(path, *read(path))


def read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a file of weights holds (`checkpoint.read_weights`), from there or out of a model.

    Args:
        path: `best.safetensors` of a run, or a model: its folder, or the name of an installed one.

    Raises:
        CheckpointError: missing, damaged, of another schema, or a model without `training.safetensors`.
    """
    if path.suffix == ".safetensors" or path.is_file():
        return checkpoint.read_weights(path)
    try:
        folder = find_model(path)
        manifest = Manifest.load(folder, check_files=False)  # each file is checked as it is read
    except EngineError as error:
        raise CheckpointError(str(error)) from None
    file = folder / FILE
    if not file.is_file():
        msg = f"{file}: expected what training knows beside the graphs, got no such file; begin with the "
        msg += "best.safetensors of the model's run, or export it again"
        raise CheckpointError(msg)
    content, tensors = checkpoint.read_weights(file)
    names, graphs = content.pop("held", ()), content.pop("graphs", None)
    if graphs != {name: spec.sha256 for name, spec in manifest.graphs.items()}:
        msg = f"{file}: expected the file that was exported with the graphs of {folder / FILE_NAME}, got one "
        msg += "of others"
        raise CheckpointError(msg)
    try:
        held = _held(folder, manifest.graphs)
    except EngineError as error:
        raise CheckpointError(str(error)) from None
    for name in names:
        factor = tensors.pop(FACTOR + name, None)
        tensors[name] = held[name] if factor is None else held[name] / _along(factor, held[name])
    return content, tensors


def write(
    content: Mapping[str, Any], tensors: Mapping[str, Tensor], folder: Path, graphs: Mapping[str, GraphSpec]
) -> Path:
    """Write what the graphs of a model lack of the weights they were made of; return the file.

    Args:
        content: of the weights, as `read` gives it.
        tensors: likewise.
        folder: of the model.
        graphs: its fp32 graphs, by name.
    """
    held = _held(folder, graphs)
    lacking: dict[str, Tensor] = {}
    names: list[str] = []
    for name, tensor in tensors.items():
        there = held.get(name)
        if there is None or there.shape != tensor.shape or there.dtype != tensor.dtype:
            lacking[name] = tensor
        elif torch.equal(there, tensor):
            names.append(name)
        elif (factor := _factor(tensor, there)) is not None:
            names.append(name)
            lacking[FACTOR + name] = factor
        else:
            lacking[name] = tensor
    path = folder / FILE
    shas = {name: spec.sha256 for name, spec in graphs.items()}
    checkpoint.save(path, lacking, {**content, "held": names, "graphs": shas})
    return path


def _held(folder: Path, graphs: Mapping[str, GraphSpec]) -> dict[str, Tensor]:
    """Constants of graphs by the network's names."""
    found: dict[str, Tensor] = {}
    for spec in graphs.values():
        graph = onnx.load_from_string(spec.read(folder)).graph
        for constant in graph.initializer:
            values = torch.from_numpy(numpy_helper.to_array(constant).copy())
            found[constant.name.removeprefix(PREFIX)] = values
    return found


def _factor(tensor: Tensor, there: Tensor) -> Tensor | None:
    """The f of there = f tensor, a value a row; None where there is none that leads back."""
    if tensor.ndim < 2 or not tensor.is_floating_point():
        return None
    ours, theirs = tensor.flatten(1).double(), there.flatten(1).double()
    factor = (theirs * ours).sum(dim=1) / ours.square().sum(dim=1)
    factor = factor.float()
    if not bool((factor.isfinite() & (factor != 0)).all()):
        return None
    back = there / _along(factor, there)
    error = (back - tensor).abs().max()
    return factor if bool(error <= TOLERANCE * tensor.abs().max()) else None


def _along(factor: Tensor, tensor: Tensor) -> Tensor:
    """A value a row, in the shape that divides a tensor."""
    return factor.reshape(-1, *[1] * (tensor.ndim - 1))
