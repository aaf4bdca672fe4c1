"""The same graphs in other precisions, and what each of them costs in quality.

The sound's encoder is the fp32 one in every precision: a spectrogram spans six orders of magnitude, and its
graph costs a tenth of a picture's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np

from robust_perception.datasets import Sample
from robust_perception.engine.engine import Engine
from robust_perception.engine.manifest import Manifest, encoder_name
from robust_perception.engine.model_files import GraphSpec
from robust_perception.engine.onnxruntime import OnnxRuntimeBackend, describe
from robust_perception.engine.pipeline import Pipeline
from robust_perception.engine.postprocess import resize_label_map
from robust_perception.engine.precision import FP16, INT8_SYMMETRIC
from robust_perception.evaluation.protocol import offline_frame_set
from robust_perception.evaluation.segmentation import ConfusionMatrix
from robust_perception.exporting.half import write_half
from robust_perception.exporting.quantisation import write_quantised
from robust_perception.preprocess import prepare
from robust_perception.training.mixture import MixedDataset
from robust_perception.training.validation import measured_frames
from robust_perception.vocabulary import Array, Modality, Pattern

Inputs = Mapping[Modality, Array]


def write_variant(
    folder: Path,
    manifest: Manifest,
    precision: str,
    samples: Sequence[Sample],
    sources: Mapping[str, Path] = MappingProxyType({}),
) -> dict[str, GraphSpec]:
    """Write one precision's files beside those of fp32.

    Args:
        folder: of the model.
        manifest: with its fp32 graphs.
        precision: any but fp32.
        samples: that show what ranges values have; eight bits need them, half precision does not.
        sources: by name, fp32 graphs to make it of that are not the model's own.

    Returns:
        Its graphs, for `Manifest.variants`.
    """
    graphs = {}
    for name, graph in manifest.graphs.items():
        if name == encoder_name(Modality.AUDIO):
            graphs[name] = graph
            continue
        source, target = sources.get(name, folder / graph.file), folder / f"{name}.{precision}.onnx"
        if precision == FP16:
            write_half(source, target)
        else:
            shown = feeds(folder, manifest, name, samples)
            write_quantised(source, target, shown, precision == INT8_SYMMETRIC)
        graphs[name] = describe(target)
    return graphs


def feeds(
    folder: Path, manifest: Manifest, graph: str, samples: Sequence[Sample]
) -> Iterator[dict[str, Array]]:
    """Inputs of a graph as it meets them: an encoder's frames, the fusion's latents under every pattern."""
    prepared = [
        {m: prepare(sample.frames[m], manifest.size) for m in manifest.modalities if m in sample.frames}
        for sample in samples
    ]
    if graph == "fusion":
        yield from _fusion_feeds(folder, manifest, prepared)
        return
    modality = next(m for m in manifest.modalities if graph == encoder_name(m))
    follows = manifest.follows_pattern(modality)
    for inputs in prepared:
        for pattern in _shown(manifest, inputs) if follows else manifest.patterns[:1]:
            if modality in inputs and modality in pattern:
                bits = {"pattern": np.array([pattern.bits], np.int64)} if follows else {}
                yield {modality.value: np.ascontiguousarray(inputs[modality])[np.newaxis], **bits}


def _fusion_feeds(folder: Path, manifest: Manifest, prepared: Sequence[Inputs]) -> Iterator[dict[str, Array]]:
    pipeline = Pipeline(manifest, OnnxRuntimeBackend(folder, manifest))
    tensors = manifest.graphs["fusion"].inputs
    for inputs in prepared:
        for pattern in _shown(manifest, inputs):
            # A backend leaves out what is absent; the calibrator wants every input.
            feed: dict[str, Array] = {t.name: np.zeros(t.shape, t.dtype) for t in tensors}
            for modality in pattern:
                feed.update(pipeline.encode(modality, np.ascontiguousarray(inputs[modality]), pattern))
            feed["pattern"] = np.array([pattern.bits], np.int64)
            yield feed


def _shown(manifest: Manifest, inputs: Inputs) -> list[Pattern]:
    return [pattern for pattern in manifest.patterns if all(m in inputs for m in pattern)]


def measure(
    folder: Path, manifest: Manifest, precision: str, dataset: MixedDataset, limit: int
) -> dict[int, float]:
    """Foreground mIoU in percent by pattern's bits; a pattern that no labelled frame shows is left out."""
    engine = Engine.of(OnnxRuntimeBackend(folder, manifest, precision), manifest, folder)
    counts = {pattern: ConfusionMatrix(len(manifest.class_names)) for pattern in manifest.patterns}
    for index in measured_frames(dataset, limit):
        sample = dataset[index]
        assert sample.label is not None  # they are those that have one
        known = dataset.known_classes(index)
        for pattern, matrix in counts.items():
            if all(m in sample.frames for m in pattern):
                found = engine.infer(offline_frame_set(sample, pattern)).label_map
                found = resize_label_map(found, (sample.label.shape[0], sample.label.shape[1]))
                matrix.add(sample.label, np.where(known[found], found, 0).astype(np.uint8))
    scores = {pattern.bits: matrix.foreground_miou() for pattern, matrix in counts.items()}
    return {bits: score for bits, score in scores.items() if not math.isnan(score)}
