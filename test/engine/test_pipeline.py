"""A fusion graph hands out a label map, or class scores that one is made from; nothing else fits.

Encoders take what frames are made to at the model's size, and the fusion what encoders give.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_model import make_model

from robust_perception.engine.errors import BackendError, ManifestError
from robust_perception.engine.manifest import Manifest
from robust_perception.engine.model_files import GraphSpec, TensorSpec
from robust_perception.engine.onnxruntime import OnnxRuntimeBackend
from robust_perception.engine.pipeline import Pipeline
from robust_perception.preprocess import INPUT_DTYPES, input_shape
from robust_perception.vocabulary import ALL_PATTERNS

SIZE = (64, 96)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "tiny", size=SIZE)


class Scoring(OnnxRuntimeBackend):
    """Hands out class scores where the graph has a label map: one everywhere at its pixels of stride 4."""

    def run(self, graph: str, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        outputs = super().run(graph, feeds)
        if "label_map" in outputs:
            coarse = outputs.pop("label_map")[:, ::4, ::4]
            classes = np.arange(3)[None, :, None, None]
            outputs["class_scores"] = (coarse[:, None] == classes).astype(np.float32)
        return outputs


def fusion_with(manifest: Manifest, *outputs: TensorSpec) -> Manifest:
    """The manifest with other outputs in place of the fusion's label map."""
    fusion = manifest.graphs["fusion"]
    kept = tuple(t for t in fusion.outputs if t.name != "label_map")
    return replace(manifest, graphs={**manifest.graphs, "fusion": replace(fusion, outputs=(*outputs, *kept))})


def scores(*shape: int) -> TensorSpec:
    return TensorSpec("class_scores", "float32", shape)


def test_class_scores_become_the_label_map(folder: Path) -> None:
    manifest = Manifest.load(folder)
    backend = Scoring(folder, manifest, threads=1)
    made = Pipeline(fusion_with(manifest, scores(1, 3, 16, 24)), backend)
    given = Pipeline(manifest, OnnxRuntimeBackend(folder, manifest, threads=1))
    generator = np.random.default_rng(2)
    classes = set()
    for pattern in ALL_PATTERNS:
        inputs = {}
        for m in pattern:
            # Blocks of 32 pixels: inside them no interpolation can change a class.
            shape = input_shape(m, SIZE)
            values = generator.random(shape) * 300
            if m.is_image:
                values[:] = np.kron(generator.random((2, 3)) * 250, np.ones((32, 32))).reshape(
                    values.shape[:2] + (1,) * (values.ndim - 2)
                )
            inputs[m] = values.astype(INPUT_DTYPES[m])
        ours, theirs = made.run(inputs, pattern).label_map, given.run(inputs, pattern).label_map
        assert ours.shape == theirs.shape == SIZE
        assert ours.dtype == np.uint8
        inside = (slice(8, 24), slice(8, 24))
        np.testing.assert_array_equal(ours[inside], theirs[inside])
        classes |= set(np.unique(ours))
    assert len(classes) > 1


@pytest.mark.parametrize(
    "shape",
    [(1, 2, 16, 24), (1, 3, 17, 24), (1, 3, 64, 96), (1, 3, 16, 48), (2, 3, 16, 24), (3, 16, 24)],
    ids=str,
)
def test_scores_that_make_no_map_of_the_model_s_size_are_refused(
    folder: Path, shape: tuple[int, ...]
) -> None:
    manifest = Manifest.load(folder)
    backend = OnnxRuntimeBackend(folder, manifest, threads=1)
    with pytest.raises(
        BackendError, match=r"class_scores of shape \(1, 3, h, w\), with sides that go an even"
    ):
        Pipeline(fusion_with(manifest, scores(*shape)), backend)


def test_neither_scores_nor_map_are_refused(folder: Path) -> None:
    manifest = Manifest.load(folder)
    backend = OnnxRuntimeBackend(folder, manifest, threads=1)
    with pytest.raises(BackendError, match=r"expected outputs .*'label_map'.*, got \['box_scores', "):
        Pipeline(fusion_with(manifest), backend)


def with_graph(manifest: Manifest, name: str, **changed: tuple[TensorSpec, ...]) -> Manifest:
    """The manifest with other tensors of a graph."""
    return replace(manifest, graphs={**manifest.graphs, name: replace(manifest.graphs[name], **changed)})


def test_encoders_that_take_no_frames_of_the_model_s_size_are_refused(folder: Path) -> None:
    manifest = Manifest.load(folder)
    backend = OnnxRuntimeBackend(folder, manifest, threads=1)
    # The same class scores make a label map of twice the size as well: they do not tell.
    twice = replace(fusion_with(manifest, scores(1, 3, 16, 24)), size=(128, 192))
    with pytest.raises(
        BackendError,
        match=r"encoder_rgb graph: expected as input rgb uint8\[1, 128, 192, 3\], of a model of size "
        r"\[128, 192\], got rgb uint8\[1, 64, 96, 3\]",
    ):
        Pipeline(twice, backend)
    depth = manifest.graphs["encoder_depth"].inputs
    with pytest.raises(BackendError, match=r"as input thermal float32\[1, 64, 96\].*got depth float32\["):
        Pipeline(with_graph(manifest, "encoder_thermal", inputs=depth), backend)
    halves = (TensorSpec("depth", "float16", (1, *SIZE)),)
    with pytest.raises(BackendError, match=r"as input depth float32\[1, 64, 96\].*got depth float16\["):
        Pipeline(with_graph(manifest, "encoder_depth", inputs=halves), backend)


def test_a_fusion_that_takes_others_than_encoders_give_is_refused(folder: Path) -> None:
    manifest = Manifest.load(folder)
    backend = OnnxRuntimeBackend(folder, manifest, threads=1)
    inputs = manifest.graphs["fusion"].inputs
    pattern = next(t for t in inputs if t.name == "pattern")
    rest = tuple(t for t in inputs if t != pattern)
    for wrong, got in (
        (rest, r"no pattern int64\[1\]"),
        ((*inputs, TensorSpec("radar_p2", "float32", (1, 2))), r"radar_p2 float32\[1, 2\]"),
        ((pattern, TensorSpec("rgb_p2", "float32", (1, 2, 8, 12))), r"rgb_p2 float32\[1, 2, 8, 12\]"),
    ):
        with pytest.raises(BackendError, match=rf"as inputs pattern .* what the encoders give, got {got}$"):
            Pipeline(with_graph(manifest, "fusion", inputs=wrong), backend)


def test_precisions_may_differ_in_who_makes_the_map_and_in_nothing_else(folder: Path) -> None:
    manifest = Manifest.load(folder)
    scoring = fusion_with(manifest, scores(1, 3, 16, 24))
    both = replace(scoring, variants={"fp16": manifest.graphs})
    assert both.graphs_of("fp16")["fusion"].outputs[0].name == "label_map"
    fusion = manifest.graphs["fusion"]
    fewer: dict[str, GraphSpec] = {
        **manifest.graphs,
        "fusion": replace(fusion, outputs=fusion.outputs[:-1]),
    }
    with pytest.raises(ManifestError, match="fp16: fusion: expected the inputs and outputs of fp32"):
        replace(scoring, variants={"fp16": fewer})
