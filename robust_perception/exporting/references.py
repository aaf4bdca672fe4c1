"""What a model folder is checked against: inputs, every pattern's outputs, and torch's word for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from robust_perception.engine.manifest import Manifest
from robust_perception.engine.onnxruntime import OnnxRuntimeBackend
from robust_perception.engine.pipeline import Pipeline
from robust_perception.model.graphs import OUTPUTS, EncoderGraph, FusionGraph
from robust_perception.model.network import Network
from robust_perception.preprocess import prepare
from robust_perception.training.errors import ExportError
from robust_perception.training.mixture import MixedDataset
from robust_perception.vocabulary import Array, Modality

FILE = "references.npz"
TOLERANCE = 1e-4
"""Largest difference between torch and ONNX Runtime, relative to the larger of the value and one.

A box's side is a cell's centre and a distance from it, which is rounded as a number of its own size and may
leave next to nothing: of boxes it is relative to the longer side, too.
"""
PIXEL_AGREEMENT = 0.999
"""Least part of pixels with the same class: where two classes are as likely, rounding decides."""


def reference_inputs(dataset: MixedDataset, manifest: Manifest) -> dict[Modality, Array]:
    """Network inputs of the middle validation frame that has every sensor.

    Where none of several data folders has all sensors, each input is of the middle frame that has its sensor:
    what the graphs compute from them can be compared all the same.
    """
    inputs = _middle_frame(dataset, manifest, manifest.modalities)
    if not inputs and len(dataset.parts) > 1:
        for modality in manifest.modalities:
            inputs |= _middle_frame(dataset, manifest, (modality,))
    if len(inputs) < len(manifest.modalities):
        names = [m.value for m in manifest.modalities]
        without = [m.value for m in manifest.modalities if not any(dataset.path(m, n) for n in dataset.names)]
        got = f"no frame with {' or '.join(without)}" if without else "none"
        msg = f"{dataset.place}: expected a frame with all of {names} as reference, got {got}"
        raise ExportError(msg)
    return inputs


def _middle_frame(
    dataset: MixedDataset, manifest: Manifest, wanted: Sequence[Modality]
) -> dict[Modality, Array]:
    there = [i for i, name in enumerate(dataset.names) if all(dataset.path(m, name) for m in wanted)]
    if not there:
        return {}
    frames = dataset[min(there, key=lambda i: abs(i - len(dataset) // 2))].frames
    return {m: np.ascontiguousarray(prepare(frames[m], manifest.size)) for m in wanted}


@torch.no_grad()
def compare(
    network: Network,
    manifest: Manifest,
    folder: Path,
    inputs: Mapping[Modality, Array],
    temperatures: Mapping[int, float],
) -> tuple[float, float]:
    """Largest difference and least agreement of pixels between torch and ONNX Runtime over all patterns.

    Raises:
        ExportError: one is beyond `TOLERANCE` or `PIXEL_AGREEMENT`; names pattern and output.
    """
    pipeline = Pipeline(manifest, OnnxRuntimeBackend(folder, manifest))
    graph = FusionGraph(network.fusion, manifest.size, temperatures)
    encoders = {m: EncoderGraph(network, m) for m in network.config.modalities}
    largest, least = 0.0, 1.0
    for pattern in manifest.patterns:
        bits = torch.tensor([pattern.bits])
        flat = [
            v for m, encoder in encoders.items() for v in encoder(torch.from_numpy(inputs[m])[None], bits)
        ]
        expected = dict(zip(OUTPUTS, graph(*flat, bits), strict=False))
        got = pipeline.run({m: inputs[m] for m in pattern}, pattern)
        for name, tensor in expected.items():
            old = tensor.numpy() if name == "confidence" else tensor[0].numpy()
            new = getattr(got, name)
            found = 0.0
            if name == "label_map":
                least = min(least, float(np.mean(old == new)))
                failed = least < PIXEL_AGREEMENT
            else:
                found = difference(name, old, new)
                largest = max(largest, found)
                failed = not found <= TOLERANCE  # so that NaN fails
            if failed:
                msg = (
                    f"pattern {pattern}, output {name}: expected what torch says within {TOLERANCE:.0e} and "
                    f"{PIXEL_AGREEMENT:.1%} of the pixels, got {found:.1e} and {least:.3%}"
                )
                raise ExportError(msg)
    return largest, least


def difference(name: str, old: npt.NDArray[np.float32], new: npt.NDArray[np.float32]) -> float:
    """The largest of an output's values, relative as `TOLERANCE` says."""
    magnitude = np.maximum(1.0, np.abs(old))
    if name == "boxes":
        magnitude = np.maximum(magnitude, (old[:, 2:] - old[:, :2]).max(axis=1, keepdims=True))
    return float(np.max(np.abs(new - old) / magnitude))


def write_references(manifest: Manifest, folder: Path, inputs: Mapping[Modality, Array]) -> None:
    """Store inputs and every pattern's outputs in `FILE`."""
    pipeline = Pipeline(manifest, OnnxRuntimeBackend(folder, manifest))
    arrays: dict[str, Any] = {f"input/{m.value}": array for m, array in inputs.items()}
    for pattern in manifest.patterns:
        outputs = pipeline.run({m: inputs[m] for m in pattern}, pattern)
        for name in OUTPUTS if manifest.scene_names else OUTPUTS[:-1]:
            arrays[f"output/{pattern.bits}/{name}"] = getattr(outputs, name)
    np.savez_compressed(folder / FILE, **arrays)
