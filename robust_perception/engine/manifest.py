"""What a model folder holds: its graphs, class names, thresholds, and what is known of their quality.

The manifest is the root of trust of a model folder: it has the sizes and hashes of the files that are run and
compared with, graphs and references (`model_files`). What else is in the folder, the model card, the weights
to train on from and their configuration, no engine reads.
"""

from __future__ import annotations

import hashlib
import json
import reprlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from robust_perception.engine import json_values
from robust_perception.engine.errors import BackendError, ManifestError
from robust_perception.engine.model_files import MEND, FileSpec, GraphSpec, TensorSpec
from robust_perception.engine.precision import FP32, PRECISIONS
from robust_perception.vocabulary import MODALITIES, Modality, Pattern, patterns_of

FILE_NAME = "manifest.json"
SCHEMA = 1

MAXIMUM_MANIFEST_BYTES = 1 << 20
"""A manifest is some kilobytes; anything above this is not one and is not read."""

SCORES, MAP = "class_scores", "label_map"
"""Of a fusion graph's outputs, one of the two: coarse scores that a label map is made from, or the map."""

COARSE, FINE = "fusion_coarse", "fusion_fine"
COMMON, AHEAD = "fusion_common", "fusion_ahead"
MAP_PART, OBJECTS_PART = "fusion_map", "fusion_objects"
STAGES = ((COARSE, FINE), (COMMON, AHEAD), (MAP_PART, OBJECTS_PART))
"""Graphs a fusion may be cut into (`exporting.fusion_parts`): those of a stage need nothing of each other,
only inputs of the fusion and what earlier stages give."""

PARTS = tuple(part for stage in STAGES for part in stage)


@dataclass(frozen=True)
class Calibration:
    """What a pattern's logits are divided by for the confidence, and how wrong that is on average.

    Attributes:
        temperature: positive; it is in the fusion graph.
        error_before, error: expected calibration error with temperature 1 and with this one, 0 to 1, of
            validation pixels.
    """

    temperature: float
    error_before: float
    error: float

    def __post_init__(self) -> None:
        _expect(self.temperature > 0.0, "temperature", "a positive number", self.temperature)


@dataclass(frozen=True)
class AdapterSpec:
    """The adapters in a model's graphs: what each pattern changes of the weights that all share.

    Attributes:
        kind: "lora", "ssf" or "bitfit".
        layers: number of adapted layers by part of the network.
        parameters: by pattern's bits, how many of its own it has; patterns that use the shared weights as
            they are are left out.
        shared: parameters of the network that all patterns share.
    """

    kind: str
    layers: Mapping[str, int]
    parameters: Mapping[int, int]
    shared: int

    def __post_init__(self) -> None:
        _expect(bool(self.kind), "kind", "a name", self.kind)
        _expect(self.shared > 0, "shared", "a positive count", self.shared)
        counted = all(n > 0 for n in self.parameters.values())
        _expect(counted, "parameters", "positive counts by pattern", dict(self.parameters))

    def share(self, pattern: Pattern) -> float:
        """The pattern's own numbers as a part of the shared parameters."""
        return self.parameters.get(pattern.bits, 0) / self.shared

    def of(self, pattern: Pattern) -> str:
        """What is in use under a pattern: kind and pattern, or "none"."""
        return f"{self.kind} {pattern}" if pattern.bits in self.parameters else "none"


@dataclass(frozen=True)
class Manifest:
    """A model as its exporter described it.

    Attributes:
        name: the model's name.
        version: its version.
        created: date of the export, ISO 8601.
        license: SPDX identifier or words.
        size: (H, W) of the image inputs, pixels.
        modalities: the sensors it knows, in the order of `MODALITIES`.
        class_names: label id -> name; index 0 is the background.
        scene_names: scene class -> name; may be empty.
        score_threshold: pattern's bits -> least score of a published box; every pattern of `modalities`.
        nms_iou: boxes of one class that overlap more than this are one object.
        max_detections: most boxes of one frame.
        graphs: `encoder_<modality>` for every modality, and `fusion`, in fp32.
        variants: by other precision, the same graphs with the same inputs and outputs.
        parts: by precision, the fusion once more as some of `PARTS`; a precision that no CPU runs has none.
        calibration: by pattern's bits; patterns that were not fitted have none.
        adapters: the bank in its graphs; None where all patterns share all weights.
        quality: by precision, by pattern's bits the foreground mIoU on validation frames, percent; what a
            lower precision costs is told here.
        references: inputs and outputs to check a loaded model against; None when there are none.
        training: command, seed, data, config_sha256.
        exporter: versions of what wrote the graphs.
    """

    name: str
    version: str
    created: str
    license: str
    size: tuple[int, int]
    modalities: tuple[Modality, ...]
    class_names: tuple[str, ...]
    scene_names: tuple[str, ...]
    score_threshold: Mapping[int, float]
    graphs: Mapping[str, GraphSpec]
    nms_iou: float = 0.5
    max_detections: int = 100
    variants: Mapping[str, Mapping[str, GraphSpec]] = field(default_factory=dict)
    parts: Mapping[str, Mapping[str, GraphSpec]] = field(default_factory=dict)
    calibration: Mapping[int, Calibration] = field(default_factory=dict)
    quality: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    references: FileSpec | None = None
    adapters: AdapterSpec | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    exporter: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = tuple(m for m in MODALITIES if m in self.modalities)
        good = bool(known) and self.modalities == known
        order = f"sensors, each once, in the order {', '.join(MODALITIES)}"
        _expect(good, "modalities", order, ", ".join(self.modalities) or "none")
        expected = {encoder_name(m) for m in self.modalities} | {"fusion"}
        _expect(set(self.graphs) == expected, "graphs", sorted(expected), sorted(self.graphs))
        others = PRECISIONS[1:]
        _expect(set(self.variants) <= set(others), "variants", f"some of {others}", sorted(self.variants))
        for precision, graphs in self.variants.items():
            what = f"variants: {precision}"
            _expect(set(graphs) == expected, what, sorted(expected), sorted(graphs))
            for name, graph in graphs.items():
                as_fp32 = self.graphs[name]
                same = graph.inputs == as_fp32.inputs and _but_the_map(graph) == _but_the_map(as_fp32)
                _expect(same, f"{what}: {name}", "the inputs and outputs of fp32", "others")
        _expect(
            set(self.parts) <= set(self.precisions), "parts", f"some of {self.precisions}", sorted(self.parts)
        )
        for precision, graphs in self.parts.items():
            _expect_parts(f"parts: {precision}", graphs, self.graphs_of(precision)["fusion"])
        bits = {p.bits for p in self.patterns}
        _expect(
            set(self.score_threshold) == bits, "score_threshold", sorted(bits), sorted(self.score_threshold)
        )
        of_patterns: dict[str, Mapping[int, object]] = {"calibration": self.calibration}
        of_patterns |= {f"quality: {precision}": values for precision, values in self.quality.items()}
        if self.adapters is not None:
            of_patterns["adapters: parameters"] = self.adapters.parameters
        for what, values in of_patterns.items():
            _expect(set(values) <= bits, what, f"patterns out of {sorted(bits)}", sorted(values))
        in_range = all(0.0 <= t <= 1.0 for t in self.score_threshold.values())
        _expect(in_range, "score_threshold", "values from 0 to 1", dict(self.score_threshold))
        _expect(min(self.size) > 0, "size", "[H, W] in pixels", self.size)
        good = 2 <= len(self.class_names) <= 255 and len(set(self.class_names)) == len(self.class_names)
        _expect(good, "class_names", "2 to 255 names, each once, background first", self.class_names)
        _expect(0.0 < self.nms_iou <= 1.0, "nms_iou", "a value in (0, 1]", self.nms_iou)
        _expect(self.max_detections > 0, "max_detections", "a positive count", self.max_detections)

    @property
    def precisions(self) -> tuple[str, ...]:
        """Those this model has graphs for."""
        return tuple(p for p in PRECISIONS if p == FP32 or p in self.variants)

    def graphs_of(self, precision: str) -> Mapping[str, GraphSpec]:
        """The graphs of a precision.

        Raises:
            BackendError: the model has none.
        """
        if precision not in self.precisions:
            msg = (
                f"model {self.name}: expected one of its precisions {', '.join(self.precisions)}, got "
                f"{precision!r}; `robust-perception export --precision {precision}` makes its graphs"
            )
            raise BackendError(msg)
        return self.graphs if precision == FP32 else self.variants[precision]

    def files(self) -> list[FileSpec]:
        """All that it describes: graphs of every precision, whole and in parts, and the references."""
        graphs = [self.graphs_of(precision) for precision in self.precisions]
        files: list[FileSpec] = [g for each in (*graphs, *self.parts.values()) for g in each.values()]
        return files if self.references is None else [*files, self.references]

    def follows_pattern(self, modality: Modality) -> bool:
        """Whether a sensor's latents depend on the pattern: its encoder has adapters."""
        return any(t.name == "pattern" for t in self.graphs[encoder_name(modality)].inputs)

    @property
    def patterns(self) -> tuple[Pattern, ...]:
        """Every pattern this model serves, richest first."""
        return patterns_of(self.modalities)

    @property
    def sha256(self) -> str:
        """Identity of the model: SHA-256 of the manifest as saved; it has those of graphs and references."""
        return hashlib.sha256(self.to_text().encode()).hexdigest()

    def threshold(self, pattern: Pattern) -> float:
        """Least score of a published box under `pattern`."""
        return self.score_threshold[pattern.bits]

    def to_text(self) -> str:
        """The manifest as JSON."""
        content: dict[str, Any] = {"schema": SCHEMA, **asdict(self)}
        content["modalities"] = [m.value for m in self.modalities]
        content["score_threshold"] = _by_text(self.score_threshold)
        content["calibration"] = _by_text(content["calibration"])
        if self.adapters is None:
            del content["adapters"]
        else:
            content["adapters"]["parameters"] = _by_text(self.adapters.parameters)
        if not self.parts:
            del content["parts"]
        content["quality"] = {precision: _by_text(values) for precision, values in self.quality.items()}
        return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    def save(self, folder: Path) -> Path:
        """Write `manifest.json` into the folder and return its path."""
        path = folder / FILE_NAME
        path.write_text(self.to_text(), encoding="utf-8")
        return path

    @classmethod
    def load(cls, folder: Path, check_files: bool = True) -> Manifest:
        """Read a model folder's manifest.

        Args:
            folder: the model folder.
            check_files: compare every file's size and SHA-256 too; whoever reads them through `FileSpec.read`
                may leave it out, because that checks them as well.

        Raises:
            ManifestError: missing, too large, not JSON, another schema, or a value that is not allowed.
            ModelFileError: a file is missing or is not the one described.
        """
        path = folder / FILE_NAME
        manifest = cls._from_json(path, _read_bounded(path))
        files = manifest.files()
        for file in files:
            file.check_size(folder)
        if check_files:
            for file in files:
                file.read(folder)
        return manifest

    @classmethod
    def _from_json(cls, path: Path, text: str) -> Manifest:
        try:
            content = json.loads(text)
            schema = content.pop("schema")
        except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
            msg = f"{path}: expected a JSON object with 'schema', got {error!r}: {MEND}"
            raise ManifestError(msg) from None
        if schema != SCHEMA:
            got = reprlib.repr(schema)
            msg = f"{path}: expected schema {SCHEMA}, got {got}: export it again with this version"
            raise ManifestError(msg)
        try:
            return json_values.read(cls, content)
        except ManifestError as error:
            msg = f"{path}: {error}: {MEND}"
            raise ManifestError(msg) from None


def encoder_name(modality: Modality) -> str:
    """Name of a sensor's encoder graph."""
    return f"encoder_{modality.value}"


def _by_text(values: Mapping[int, Any]) -> dict[str, Any]:
    """Keys as JSON has them, in order."""
    return {str(bits): value for bits, value in sorted(values.items())}


def _read_bounded(path: Path) -> str:
    if not path.is_file():
        msg = f"{path}: expected a model's manifest, got no such file: {MEND}"
        raise ManifestError(msg)
    size = path.stat().st_size
    if size > MAXIMUM_MANIFEST_BYTES:
        msg = f"{path}: expected at most {MAXIMUM_MANIFEST_BYTES} bytes, got {size}; not a manifest: {MEND}"
        raise ManifestError(msg)
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{path}: expected UTF-8 text, got {error}: {MEND}"
        raise ManifestError(msg) from None


def _expect_parts(what: str, parts: Mapping[str, GraphSpec], whole: GraphSpec) -> None:
    """That parts take what the whole takes, or an earlier stage gives, and give what it gives."""
    _expect(bool(parts) and set(parts) <= set(PARTS), what, f"some of {sorted(PARTS)}", sorted(parts))
    there = set(whole.inputs)
    given: list[TensorSpec] = []
    for stage in STAGES:
        running = [name for name in stage if name in parts]
        for name in running:
            known = set(parts[name].inputs) <= there
            _expect(known, f"{what}: {name}", "inputs of the fusion or of what runs before", "others")
        given += [tensor for name in running for tensor in parts[name].outputs]
        there |= set(given)
    names = {tensor.name for tensor in whole.outputs}
    ends = sorted(str(tensor) for tensor in given if tensor.name in names)
    _expect(ends == sorted(map(str, whole.outputs)), what, "the outputs of the fusion, each once", ends)


def _but_the_map(graph: GraphSpec) -> list[TensorSpec]:
    return [tensor for tensor in graph.outputs if tensor.name not in (SCORES, MAP)]


def _expect(condition: bool, what: str, expected: object, got: object) -> None:
    if not condition:
        msg = f"{what}: expected {expected}, got {got}"
        raise ManifestError(msg)
