"""The two steps of an inference: a sensor's input to its latents, latents and pattern to outputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from robust_perception.engine.errors import BackendError, EngineError
from robust_perception.engine.label_map import label_map, magnification
from robust_perception.engine.manifest import MAP, SCORES, Manifest, encoder_name
from robust_perception.engine.model_files import GraphSpec, TensorSpec
from robust_perception.engine.protocol import Backend
from robust_perception.preprocess import INPUT_DTYPES, input_shape
from robust_perception.vocabulary import Array, Modality, Pattern

Latents = Mapping[str, Array]
"""Outputs of one encoder by name."""

PATTERN_INPUT = TensorSpec("pattern", "int64", (1,))

REQUIRED_OUTPUTS = ("confidence", "box_scores", "boxes")


@dataclass(frozen=True)
class RawOutputs:
    """What the fusion graph gives, batch axis removed.

    Attributes:
        label_map: uint8 (H, W), class index.
        confidence: float32 (1,), mean over pixels of the winning class's probability.
        box_scores: float32 (N, K), score of foreground class j + 1 at [:, j].
        boxes: float32 (N, 4), xyxy in pixels of the model's size.
        scene: float32 (S,), probabilities; empty when the model has no scene classes.
    """

    label_map: Array
    confidence: Array
    box_scores: Array
    boxes: Array
    scene: Array


class Pipeline:
    """Encoders and fusion of one model on one backend; keeps nothing between calls.

    Raises:
        BackendError: the graphs do not fit together as the manifest describes them.
    """

    def __init__(self, manifest: Manifest, backend: Backend) -> None:
        self.manifest = manifest
        self.backend = backend
        self._magnification = self._check_fit()

    def encode(self, modality: Modality, prepared: Array, pattern: Pattern) -> Latents:
        """Latents of one sensor.

        Args:
            modality: the sensor.
            prepared: what `preprocess.prepare` made of its frame, without batch axis.
            pattern: that they will be fused under; of no meaning unless `Manifest.follows_pattern`.
        """
        feeds = {modality.value: prepared[np.newaxis]}
        if self.manifest.follows_pattern(modality):
            feeds["pattern"] = self._row(pattern)
        return self.backend.run(encoder_name(modality), feeds)

    def run(self, prepared: Mapping[Modality, Array], pattern: Pattern) -> RawOutputs:
        """Outputs of one frame a sensor under a pattern: `encode` each, then `fuse`."""
        return self.fuse({m: self.encode(m, array, pattern) for m, array in prepared.items()}, pattern)

    def fuse(self, latents: Mapping[Modality, Latents], pattern: Pattern) -> RawOutputs:
        """Outputs under a pattern.

        Args:
            latents: of every modality in the pattern; the graph ignores those of others, whatever they hold.
            pattern: a subset of the model's modalities.

        Raises:
            EngineError: the pattern names a modality the model or `latents` does not have.
        """
        feeds = self._fusion_feeds(latents, pattern)
        outputs = self.backend.run("fusion", feeds)
        return self._finished(outputs, self._label_map(outputs))

    def _fusion_feeds(self, latents: Mapping[Modality, Latents], pattern: Pattern) -> dict[str, Array]:
        """What the fusion takes; the latents of absent sensors are left to the backend."""
        missing = [m.value for m in pattern if m not in latents]
        if missing:
            msg = f"pattern {pattern}: expected latents of each of its modalities, got none of {missing}"
            raise EngineError(msg)
        feeds: dict[str, Array] = {"pattern": self._row(pattern)}
        for given in latents.values():
            feeds.update(given)
        return feeds

    def _finished(self, outputs: Mapping[str, Array], labels: Array) -> RawOutputs:
        scene = outputs["scene"][0] if "scene" in outputs else np.zeros(0, dtype=np.float32)
        return RawOutputs(
            label_map=labels,
            confidence=outputs["confidence"],
            box_scores=outputs["box_scores"][0],
            boxes=outputs["boxes"][0],
            scene=scene,
        )

    def _label_map(self, outputs: Mapping[str, Array]) -> Array:
        if MAP in outputs:
            made: Array = outputs[MAP][0]
            return made
        return label_map(outputs[SCORES][0].astype(np.float32, copy=False), self._magnification)

    def _row(self, pattern: Pattern) -> Array:
        # The runtime's Gather takes negative rows from the end without a word: the range is checked here.
        unknown = [m.value for m in pattern if m not in self.manifest.modalities]
        if unknown:
            known = ", ".join(m.value for m in self.manifest.modalities)
            msg = f"pattern {pattern}: expected modalities out of {known}, got {unknown}"
            raise EngineError(msg)
        return np.array([pattern.bits], dtype=np.int64)

    def _encoder(self, modality: Modality) -> GraphSpec:
        """A sensor's encoder, which takes what `preprocess.prepare` makes at the model's size."""
        name, size = modality.value, self.manifest.size
        encoder = self.manifest.graphs[encoder_name(modality)]
        frame = TensorSpec(name, INPUT_DTYPES[modality], (1, *input_shape(modality, size)))
        if {*encoder.inputs} not in ({frame}, {frame, PATTERN_INPUT}):
            msg = (
                f"{encoder_name(modality)} graph: expected as input {frame}, of a model of size "
                f"{list(size)}, got {_words(encoder.inputs)}"
            )
            raise BackendError(msg)
        return encoder

    def _check_fit(self) -> int:
        """Pixels a point of the class scores along an axis; 1 where the graph makes the label map."""
        fusion = self.manifest.graphs_of(self.backend.precision)["fusion"]
        given = {PATTERN_INPUT} | {t for m in self.manifest.modalities for t in self._encoder(m).outputs}
        others = {*fusion.inputs} - given
        if others or PATTERN_INPUT not in fusion.inputs:
            wrong = _words(others) or f"no {PATTERN_INPUT}"
            msg = f"fusion graph: expected as inputs {PATTERN_INPUT} and what the encoders give, got {wrong}"
            raise BackendError(msg)
        found = {t.name: t.shape for t in fusion.outputs}
        required = {*REQUIRED_OUTPUTS, SCORES if SCORES in found else MAP}
        required |= {"scene"} if self.manifest.scene_names else set()
        if not required <= set(found):
            msg = f"fusion graph: expected outputs {sorted(required)}, got {sorted(found)}"
            raise BackendError(msg)
        classes = len(self.manifest.class_names) - 1
        shapes = (
            (MAP, found.get(MAP, (1, *self.manifest.size)), (1, *self.manifest.size)),
            ("box_scores", found["box_scores"], (1, found["boxes"][1], classes)),
            ("boxes", found["boxes"], (1, found["boxes"][1], 4)),
            ("scene", found.get("scene", (1, 0)), (1, len(self.manifest.scene_names))),
        )
        for name, got, expected_shape in shapes:
            if got != expected_shape:
                msg = f"fusion graph: expected output {name} of shape {expected_shape}, got {got}"
                raise BackendError(msg)
        if SCORES not in found:
            return 1
        got_scores = found[SCORES]
        factor = magnification(self.manifest.size, got_scores[2:]) if len(got_scores) == 4 else None
        if factor is None or got_scores[:2] != (1, classes + 1):
            size = list(self.manifest.size)
            msg = (
                f"fusion graph: expected output {SCORES} of shape (1, {classes + 1}, h, w), with sides that "
                f"go an even number of times into {size}, got {got_scores}"
            )
            raise BackendError(msg)
        return factor


def _words(tensors: Iterable[TensorSpec]) -> str:
    return ", ".join(sorted(map(str, tensors)))
