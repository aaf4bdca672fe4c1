"""A complete model folder with tiny graphs, made by hand: the shapes of a real model without its training.

Encoder of an image: its own values, averaged down to strides 4, 8, 16, 32, two channels each (invalid depth
counts as 0). Encoder of sound: eight loudness values. Fusion: per pixel the mean of the present sensors at
stride 4 decides between background and classes; boxes are the cells of stride 32, scored by the same
evidence. Nothing in it is random, so that what it gives can be worked out by hand.

With `filters` there are convolutions in the encoders and in the fusion, as many in a row: what a lower
precision has to work on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from robust_perception.engine.manifest import Manifest, encoder_name
from robust_perception.engine.model_files import FileSpec, GraphSpec
from robust_perception.engine.onnxruntime import OnnxRuntimeBackend, describe
from robust_perception.engine.pipeline import Pipeline
from robust_perception.preprocess import INPUT_DTYPES, input_shape
from robust_perception.vocabulary import ALL_PATTERNS, Modality, patterns_of

CHANNELS = 2
STRIDES = (4, 8, 16, 32)
AUDIO_VALUES = 8
SCALE = {Modality.RGB: 1 / 255, Modality.DEPTH: 1 / 10, Modality.THERMAL: 1 / 400}
OPSET = 17


def make_model(
    folder: Path,
    modalities: tuple[Modality, ...] = tuple(Modality),
    size: tuple[int, int] = (64, 96),
    class_names: tuple[str, ...] = ("background", "cup", "box"),
    scene_names: tuple[str, ...] = ("quiet", "loud"),
    references: bool = True,
    threshold: float = 0.3,
    filters: int = 0,
) -> Path:
    """Write a model folder and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    for modality in modalities:
        graph = image_encoder(modality, size, filters) if modality.is_image else audio_encoder()
        _save(graph, folder / f"{encoder_name(modality)}.onnx")
    last = fusion(modalities, size, len(class_names) - 1, len(scene_names), filters)
    _save(last, folder / "fusion.onnx")
    graphs: dict[str, GraphSpec] = {
        name: describe(folder / f"{name}.onnx") for name in (*map(encoder_name, modalities), "fusion")
    }
    manifest = Manifest(
        name="tiny",
        version="1",
        created="2024-01-01",
        license="Apache-2.0",
        size=size,
        modalities=modalities,
        class_names=class_names,
        scene_names=scene_names,
        score_threshold={p.bits: threshold for p in patterns_of(modalities)},
        graphs=graphs,
    )
    manifest.save(folder)
    if references:
        save_references(folder, manifest)
    return folder


def described(folder: Path, graph: str) -> None:
    """Make the manifest agree with a graph's file, as a faulty exporter would."""
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    file = FileSpec.of(folder / content["graphs"][graph]["file"])
    content["graphs"][graph].update(sha256=file.sha256, bytes=file.bytes)
    path.write_text(json.dumps(content))


def save_references(
    folder: Path, manifest: Manifest, inputs: Mapping[Modality, np.ndarray] = MappingProxyType({})
) -> Manifest:
    """Run every pattern once and store what went in and came out; noise goes in where nothing is given."""
    generator = np.random.default_rng(3)
    pipeline = Pipeline(manifest, OnnxRuntimeBackend(folder, manifest, threads=1))
    arrays: dict[str, np.ndarray] = {}
    for m in manifest.modalities:
        values = generator.random(input_shape(m, manifest.size)) * (255 if m is Modality.RGB else 5)
        arrays[f"input/{m.value}"] = inputs.get(m, values.astype(INPUT_DTYPES[m]))
    for pattern in manifest.patterns:
        outputs = pipeline.run({m: arrays[f"input/{m.value}"] for m in pattern}, pattern)
        for name in ("label_map", "confidence", "box_scores", "boxes", "scene"):
            arrays[f"output/{pattern.bits}/{name}"] = getattr(outputs, name)
    np.savez(folder / "references.npz", **arrays)
    fields = {name: getattr(manifest, name) for name in manifest.__dataclass_fields__}
    fields["references"] = FileSpec.of(folder / "references.npz")
    complete = Manifest(**fields)
    complete.save(folder)
    return complete


def image_encoder(modality: Modality, size: tuple[int, int], filters: int = 0) -> onnx.ModelProto:
    """Average pooling to four strides, the grey value in every channel."""
    name, (height, width) = modality.value, size
    build = _Graph()
    value = name
    kind = TensorProto.UINT8 if modality is Modality.RGB else TensorProto.FLOAT
    shape = [1, *input_shape(modality, size)]
    if modality is Modality.RGB:
        value = build.node("Cast", [value], to=TensorProto.FLOAT)
        value = build.node("ReduceMean", [value], axes=[3], keepdims=0)
    else:
        invalid = build.node("IsNaN", [value])
        value = build.node("Where", [invalid, build.constant(np.float32(0)), value])
    value = build.node("Mul", [value, build.constant(np.float32(SCALE[modality]))])
    value = build.node("Reshape", [value, build.constant(np.array([1, 1, height, width], np.int64))])
    outputs = []
    for level, stride in enumerate(STRIDES, start=2):
        pooled = build.node("AveragePool", [value], kernel_shape=[stride, stride], strides=[stride, stride])
        output = f"{name}_p{level}"
        channels = build.node("Concat", [pooled] * CHANNELS, None if filters else output, axis=1)
        build.filtered(channels, CHANNELS, filters, output)
        outputs.append((output, TensorProto.FLOAT, [1, CHANNELS, height // stride, width // stride]))
    return build.model([(name, kind, shape)], outputs)


def audio_encoder() -> onnx.ModelProto:
    """Mean magnitude of eight pieces of the second."""
    build = _Graph()
    shape = build.constant(np.array([1, AUDIO_VALUES, 16000 // AUDIO_VALUES], np.int64))
    pieces = build.node("Reshape", [build.node("Abs", ["audio"]), shape])
    build.node("ReduceMean", [pieces], "audio_vector", axes=[2], keepdims=0)
    return build.model(
        [("audio", TensorProto.FLOAT, [1, 16000])], [("audio_vector", TensorProto.FLOAT, [1, AUDIO_VALUES])]
    )


def fusion(
    modalities: tuple[Modality, ...], size: tuple[int, int], classes: int, scenes: int, filters: int = 0
) -> onnx.ModelProto:
    """Mean of the present sensors' evidence; absent ones are selected away."""
    height, width = size
    build = _Graph()
    inputs: list[tuple[str, int, list[int]]] = [("pattern", TensorProto.INT64, [1])]
    evidence, coarse, present = [], [], []
    sound = build.constant(np.zeros((1, AUDIO_VALUES), np.float32))
    for modality in modalities:
        table = np.array([[0] + [int(modality in p) for p in sorted(ALL_PATTERNS)]], bool)[0]
        here = build.node("Gather", [build.constant(table), "pattern"])
        if modality is Modality.AUDIO:
            inputs.append(("audio_vector", TensorProto.FLOAT, [1, AUDIO_VALUES]))
            sound = build.node("Where", [here, "audio_vector", sound])
            continue
        for level, stride in enumerate(STRIDES, start=2):
            shape = [1, CHANNELS, height // stride, width // stride]
            inputs.append((f"{modality.value}_p{level}", TensorProto.FLOAT, shape))
        for level, into in ((2, evidence), (5, coarse)):
            zeros = build.constant(np.float32(0))
            kept = build.node("Where", [here, f"{modality.value}_p{level}", zeros])
            into.append(build.node("ReduceMean", [kept], axes=[1], keepdims=1))
        present.append(build.node("Cast", [here], to=TensorProto.FLOAT))
    if present:
        count = build.node("Max", [build.node("Sum", present), build.constant(np.float32(1))])
        fine = build.filtered(build.node("Div", [build.node("Sum", evidence), count]), 1, filters)
        cells = build.node("Div", [build.node("Sum", coarse), count])
    else:
        fine = build.constant(np.zeros((1, 1, height // 4, width // 4), np.float32))
        cells = build.constant(np.zeros((1, 1, height // 32, width // 32), np.float32))
    # Class k wins where the evidence is nearest to k / (classes + 1).
    centres = np.arange(classes + 1, dtype=np.float32).reshape(1, -1, 1, 1) / (classes + 1)
    logits = build.node("Neg", [build.node("Abs", [build.node("Sub", [fine, build.constant(centres)])])])
    scales = build.constant(np.array([1, 1, 4, 4], np.float32))
    full = build.node("Resize", [logits, "", scales], mode="nearest")
    winner = build.node("ArgMax", [full], axis=1, keepdims=0)
    build.node("Cast", [winner], "label_map", to=TensorProto.UINT8)
    probability = build.node("Softmax", [full], axis=1)
    best = build.node("ReduceMax", [probability], axes=[1], keepdims=0)
    build.node("ReduceMean", [best], "confidence", axes=[1, 2], keepdims=0)
    rows, columns = height // 32, width // 32
    flat = build.node("Reshape", [cells, build.constant(np.array([1, rows * columns, 1], np.int64))])
    gains = np.linspace(1.0, 0.5, classes, dtype=np.float32).reshape(1, 1, classes)
    build.node("Mul", [flat, build.constant(gains)], "box_scores")
    y, x = np.meshgrid(np.arange(rows) * 32, np.arange(columns) * 32, indexing="ij")
    boxes = np.stack([x, y, x + 32, y + 32], axis=-1).reshape(1, -1, 4).astype(np.float32)
    build.node("Identity", [build.constant(boxes)], "boxes")
    outputs = [
        ("label_map", TensorProto.UINT8, [1, height, width]),
        ("confidence", TensorProto.FLOAT, [1]),
        ("box_scores", TensorProto.FLOAT, [1, rows * columns, classes]),
        ("boxes", TensorProto.FLOAT, [1, rows * columns, 4]),
    ]
    if scenes:
        loudness = build.node("ReduceMean", [sound], axes=[1], keepdims=1)
        weights = build.constant(np.linspace(-4, 4, scenes, dtype=np.float32).reshape(1, scenes))
        build.node("Sigmoid", [build.node("Mul", [loudness, weights])], "scene")
        outputs.append(("scene", TensorProto.FLOAT, [1, scenes]))
    return build.model(inputs, outputs)


class _Graph:
    """Nodes and constants in the order they are named."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def constant(self, value: np.ndarray | np.generic) -> str:
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, operator: str, inputs: list[str], output: str | None = None, **attributes: object) -> str:
        output = output or f"value_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [output], f"{operator}_{output}", **attributes))
        return output

    def filtered(self, value: str, channels: int, count: int, output: str | None = None) -> str:
        """As many 3x3 convolutions in a row, each cut off at 0 and 6: nearly the value itself."""
        generator = np.random.default_rng(7)
        for index in range(count):
            kernel = generator.normal(0, 0.01, (channels, channels, 3, 3))
            kernel[range(channels), range(channels), 1, 1] += 1.0 - kernel.sum(axis=(1, 2, 3))
            weights = self.constant(kernel.astype(np.float32))
            value = self.node("Conv", [value, weights], pads=[1, 1, 1, 1])
            ends = [self.constant(np.float32(end)) for end in (0, 6)]
            value = self.node("Clip", [value, *ends], output if index == count - 1 else None)
        return value

    def model(
        self, inputs: list[tuple[str, int, list[int]]], outputs: list[tuple[str, int, list[int]]]
    ) -> onnx.ModelProto:
        graph = helper.make_graph(
            self._nodes,
            "tiny",
            [helper.make_tensor_value_info(*i) for i in inputs],
            [helper.make_tensor_value_info(*o) for o in outputs],
            self._constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
        model.ir_version = 8
        onnx.checker.check_model(model, full_check=True)
        return model


def _save(model: onnx.ModelProto, path: Path) -> None:
    path.write_bytes(model.SerializeToString())
