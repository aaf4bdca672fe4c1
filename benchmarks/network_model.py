"""A model folder of any network, without data: what a benchmark or a test needs where no training has been.

Quality means nothing here: the network may be random, and what eight bits are calibrated on is noise. Graphs,
references and shapes are those of a real export.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.noise import noise_inputs
from robust_perception.datasets import Sample
from robust_perception.engine.manifest import Manifest
from robust_perception.engine.model_files import FileSpec
from robust_perception.engine.onnxruntime import describe
from robust_perception.exporting import references
from robust_perception.exporting.variants import write_variant
from robust_perception.model.graphs import OPSET, write_graphs
from robust_perception.model.network import Network
from robust_perception.vocabulary import Modality, SensorFrame, patterns_of

NOISE_FRAMES = 2


def write_model(network: Network, size: tuple[int, int], folder: Path, precisions: Sequence[str]) -> Manifest:
    """Export a network as it is.

    Args:
        network: any; in evaluation mode afterwards.
        size: (H, W) of the images.
        folder: made if it does not exist.
        precisions: beside fp32.

    Returns:
        The manifest that was saved there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = network.config
    files = write_graphs(network, size, folder)
    manifest = Manifest(
        name="network",
        version="0",
        created="",
        license="none",
        size=size,
        modalities=config.modalities,
        class_names=config.class_names,
        scene_names=config.scene_names,
        score_threshold={p.bits: 0.5 for p in patterns_of(config.modalities)},
        graphs={name: describe(path) for name, path in files.items()},
        exporter={"torch": torch.__version__, "opset": OPSET},
    )
    references.write_references(manifest, folder, noise_inputs(config.modalities, size, 0))
    manifest = replace(manifest, references=FileSpec.of(folder / references.FILE))
    for precision in precisions:
        frames = [_sample(config.modalities, size, seed) for seed in range(1, 1 + NOISE_FRAMES)]
        graphs = write_variant(folder, manifest, precision, frames)
        manifest = replace(manifest, variants={**manifest.variants, precision: graphs})
    manifest.save(folder)
    return manifest


def _sample(modalities: Sequence[Modality], size: tuple[int, int], seed: int) -> Sample:
    inputs = noise_inputs(modalities, size, seed)
    return Sample(str(seed), {m: SensorFrame(m, v, seed) for m, v in inputs.items()}, None, None, None, None)
