"""`robust-perception export`: from trained weights to a model folder that the engine loads.

1. every pattern's confidence is calibrated on the validation split,
2. the graphs are written,
3. each pattern's outputs in ONNX Runtime are compared with those of the network in torch,
4. score thresholds are chosen on the validation split,
5. one input and the outputs of every pattern are stored, for whoever loads the model to check itself against,
6. the graphs are written in other precisions; one that an engine would refuse is left out; what each of the
   others costs is measured on the validation split,
7. the fusion is cut into parts, for CPUs of several cores,
8. what training needs beside the graphs is stored, so that the model can be trained on.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.metadata
import shlex
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml

from robust_perception import __version__
from robust_perception.datasets import DatasetError
from robust_perception.engine import selfcheck
from robust_perception.engine.choice import ON_CPU
from robust_perception.engine.engine import Engine
from robust_perception.engine.errors import EngineError
from robust_perception.engine.fusion_in_parts import pipeline_of
from robust_perception.engine.manifest import FILE_NAME, Manifest
from robust_perception.engine.model_files import FileSpec
from robust_perception.engine.onnxruntime import OnnxRuntimeBackend, describe
from robust_perception.engine.pipeline import Pipeline
from robust_perception.engine.precision import FP16, INT8, INT8_SYMMETRIC, PRECISIONS
from robust_perception.evaluation.thresholds import FALLBACK, best_thresholds
from robust_perception.exporting import card, references
from robust_perception.exporting.adapters import adapters_in
from robust_perception.exporting.frames import calibration_frames, threshold_frames
from robust_perception.exporting.fusion_parts import write_parts
from robust_perception.exporting.temperature import fit_temperatures, temperatures_of
from robust_perception.exporting.variants import measure, write_variant
from robust_perception.model.graphs import OPSET, adapted_graphs, write_graphs
from robust_perception.model.network import Network
from robust_perception.progress import Steps
from robust_perception.training import checkpoint, graph_weights
from robust_perception.training.config import TrainingConfig
from robust_perception.training.errors import ExportError, TrainingError
from robust_perception.training.mixture import MixedDataset
from robust_perception.training.sections import read_section
from robust_perception.vocabulary import patterns_of

CALIBRATION_FRAMES = 16
"""Whose ranges eight bits are laid over: each shows the fusion every pattern that it has the sensors of."""


@dataclass(frozen=True)
class Options:
    """How to export.

    Attributes:
        precisions: other than fp32.
        limit: validation frames for temperatures, thresholds and quality.
        say: told what comes next.
    """

    precisions: Sequence[str] = PRECISIONS[1:]
    limit: int = 60
    say: Callable[[str], None] = lambda _: None


def export(weights: Path, data: Sequence[Path], out: Path, command: str, options: Options = Options()) -> str:
    """Write a model folder.

    Args:
        weights: `best.safetensors` of a run, or a model that is to be written again.
        data: its data folders; their splits `val` give thresholds and reference input.
        out: the folder to write; made if it does not exist.
        command: what made the model, for the model card.
        options: how.

    Returns:
        A summary for people.

    Raises:
        ExportError: ONNX Runtime says something else than torch, the data has other classes than the network,
            or no validation frame has a sensor. What was in the folder before is there still.
    """
    content, tensors = graph_weights.read(weights)
    network, training = checkpoint.build(weights, content, tensors)
    config = read_section(TrainingConfig, yaml.safe_load(training["config"]), "")
    dataset = MixedDataset.open(data, "val", config.data.classes)
    if dataset.class_names != network.config.class_names:
        expected, got = list(network.config.class_names), list(dataset.class_names)
        msg = (
            f"{dataset.place}: expected the data the weights were trained on, with classes {expected}, "
            f"got {got}"
        )
        raise ExportError(msg)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=out) as scratch:
        folder = Path(scratch)
        summary = _write_model(network, training, config, dataset, folder, command, options)
        graph_weights.write(content, tensors, folder, Manifest.load(folder, check_files=False).graphs)
        _put_in_place(folder, out)
    return f"{out}: {summary}"


def _put_in_place(whole: Path, out: Path) -> None:
    """Move a model's files. The manifest goes first and comes last: half a model is none.

    What only the model before had goes too; a file that no manifest speaks of is not ours to remove.
    """
    former: set[str] = set()
    with contextlib.suppress(EngineError):  # there is none, or a damaged one, whose words do not count
        former = {spec.file for spec in Manifest.load(out, check_files=False).files()}
    (out / FILE_NAME).unlink(missing_ok=True)
    for name in former:
        (out / name).unlink()
    for path in sorted(whole.iterdir(), key=lambda path: path.name == FILE_NAME):
        path.replace(out / path.name)


def _write_model(
    network: Network,
    training: Mapping[str, Any],
    config: TrainingConfig,
    dataset: MixedDataset,
    out: Path,
    command: str,
    options: Options,
) -> str:
    size, limit, say = config.data.size, options.limit, options.say
    patterns = patterns_of(network.config.modalities)
    say("temperatures of the patterns")
    calibration = fit_temperatures(network, dataset, patterns, size, limit)
    temperatures = temperatures_of(calibration)
    say("graphs in fp32")
    files = write_graphs(network, size, out, temperatures, mapped=False)
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
        calibration=calibration,
        adapters=adapters_in(network),
        training={
            "command": command,
            **{key: training[key] for key in ("seed", "data", "config_sha256", "epoch", "validation")},
            **{key: training[key] for key in ("start", "teacher") if key in training},
        },
        exporter={
            "torch": torch.__version__,
            "onnx": importlib.metadata.version("onnx"),
            "onnxruntime": importlib.metadata.version("onnxruntime"),
            "opset": OPSET,
        },
    )
    inputs = references.reference_inputs(dataset, manifest)
    difference, agreement = references.compare(network, manifest, out, inputs, temperatures)
    say("score thresholds")
    engine = Engine.of(OnnxRuntimeBackend(out, manifest), manifest, out)
    shown, unseen = threshold_frames(dataset, patterns, limit)
    if unseen:
        names = ", ".join(str(pattern) for pattern in unseen)
        say(f"no frame of {dataset.place} with a box shows {names}: their score threshold is {FALLBACK}")
    thresholds = best_thresholds(engine, dataset, patterns, shown, dataset.known_classes)
    manifest = replace(manifest, score_threshold={p.bits: value for p, value in thresholds.items()})
    references.write_references(manifest, out, inputs)
    manifest = replace(manifest, references=FileSpec.of(out / references.FILE))
    eight = {INT8, INT8_SYMMETRIC} & set(options.precisions)
    chosen = calibration_frames(dataset, manifest.modalities, CALIBRATION_FRAMES) if eight else []
    frames = [dataset[i] for i in chosen]
    for precision in options.precisions:
        say(f"graphs in {precision}")
        with tempfile.TemporaryDirectory() as scratch:
            sources = _sources(network, size, Path(scratch), temperatures, precision)
            graphs = write_variant(out, manifest, precision, frames, sources)
        variant = replace(manifest, variants={**manifest.variants, precision: graphs})
        pipeline = Pipeline(variant, OnnxRuntimeBackend(out, variant, precision))
        manifest = _unless_refused(precision, pipeline, manifest, out, say)
    for precision in (p for p in ON_CPU.values() if p in manifest.precisions):
        say(f"the fusion in parts, {precision}")
        parts = write_parts(out, manifest, precision)
        if parts:
            cut = replace(manifest, parts={**manifest.parts, precision: parts})
            pipeline = pipeline_of(OnnxRuntimeBackend(out, cut, precision), cut, out, threads=2)
            manifest = _unless_refused(f"the cut fusion in {precision}", pipeline, manifest, out, say)
    for precision in manifest.precisions:
        say(f"quality in {precision}")
        scores = measure(out, manifest, precision, dataset, limit)
        manifest = replace(manifest, quality={**manifest.quality, precision: scores})
    manifest.save(out)
    (out / "config.yaml").write_text(training["config"], encoding="utf-8")
    (out / card.FILE).write_text(card.model_card(manifest, network), encoding="utf-8")
    megabytes = sum(path.stat().st_size for path in out.iterdir()) / 1e6
    return (
        f"{len(files)} graphs in {len(manifest.precisions)} precisions, {megabytes:.1f} MB; torch and "
        f"ONNX Runtime differ by at most {difference:.1e} over {len(patterns)} patterns, {agreement:.3%} of "
        "the pixels agree"
    )


def _unless_refused(
    what: str, pipeline: Pipeline, before: Manifest, folder: Path, say: Callable[[str], None]
) -> Manifest:
    """A pipeline's manifest; where an engine would refuse it the one before, and what is new is removed."""
    stored = selfcheck.read_references(folder, pipeline)
    assert stored is not None  # they were written above
    results = selfcheck.compare(pipeline, stored, before.patterns)
    failed = [result for result in results if not result.passed]
    if not failed:
        return pipeline.manifest
    worst = min(failed, key=lambda result: result.pixel_agreement)
    say(f"{what} is left out, an engine would refuse it: {worst}")
    for file in {spec.file for spec in pipeline.manifest.files()} - {spec.file for spec in before.files()}:
        (folder / file).unlink()
    return before


def _sources(
    network: Network, size: tuple[int, int], folder: Path, temperatures: Mapping[int, float], precision: str
) -> dict[str, Path]:
    """The fp32 graphs that a precision is made of where they are others than fp32's own.

    Eight bits want constant weights in spite of adapters, GPUs a fusion that makes the label map.
    """
    eight, gpu = precision in (INT8, INT8_SYMMETRIC), precision in (FP16, INT8_SYMMETRIC)
    only = set(adapted_graphs(network) if eight else ()) | ({"fusion"} if gpu else set())
    if not only:
        return {}
    return write_graphs(network, size, folder, temperatures, fixed=eight, only=only, mapped=gpu)


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="robust-perception export", description="Turn trained weights into a model folder."
    )
    parser.add_argument("--weights", required=True, type=Path, help="best.safetensors of a run, or a model")
    parser.add_argument(
        "--data",
        required=True,
        action="append",
        type=Path,
        help="the run's data folder, with the split val; several times, in the run's order, for several",
    )
    parser.add_argument("--out", required=True, type=Path, help="model folder to write")
    parser.add_argument(
        "--precision",
        action="append",
        choices=PRECISIONS,
        help="graphs beside those of fp32; several times for several (default: all)",
    )
    parser.add_argument("--command", help="what made the model, for the model card (default: this command)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command: 0 when the model folder is complete, 1 when not, 2 on wrong usage."""
    words = list(sys.argv[1:] if argv is None else argv)
    arguments = build_parser().parse_args(words)
    command = arguments.command or shlex.join(["robust-perception", "export", *words])
    try:
        chosen = [p for p in PRECISIONS[1:] if p in (arguments.precision or PRECISIONS)]
        options = Options(chosen, say=Steps("export", sys.stderr))
        print(export(arguments.weights, arguments.data, arguments.out, command, options))
    except (DatasetError, EngineError, TrainingError, OSError) as error:
        print(f"export: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
