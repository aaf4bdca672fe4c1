"""Does a loaded model give the outputs that were stored when it was exported?

The exporter stores one input per modality and, for every pattern, the outputs fp32 gave. Another machine or a
lower precision rounds differently, so numbers may differ and single pixels may flip their class, within
`TOLERANCES`; a wrong kernel, a damaged constant or a forgotten mask differs by far more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robust_perception.engine.errors import ModelFileError, SelfCheckError
from robust_perception.engine.model_files import MEND
from robust_perception.engine.pipeline import Pipeline
from robust_perception.engine.precision import FP16, FP32, INT8, INT8_SYMMETRIC
from robust_perception.engine.reference_file import unpack
from robust_perception.preprocess import input_shape
from robust_perception.vocabulary import Array, Modality, Pattern


@dataclass(frozen=True)
class Tolerance:
    """How far a precision may be from the fp32 references.

    Attributes:
        difference: largest difference of a number, relative to the larger of its magnitude and one.
        pixel_agreement: least part of the pixels whose class must be the stored one.
        boxes_on_average: whether of the boxes' sides the mean difference counts: in a lower precision a box
            that is at nothing may lie anywhere.
    """

    difference: float
    pixel_agreement: float
    boxes_on_average: bool = False


TOLERANCES = {
    FP32: Tolerance(2e-3, 0.995),
    FP16: Tolerance(1e-1, 0.995, boxes_on_average=True),
    INT8: Tolerance(1e-1, 0.98, boxes_on_average=True),
    INT8_SYMMETRIC: Tolerance(1e-1, 0.98, boxes_on_average=True),
}
"""Another machine rounds differently, a lower precision everywhere: each its own.

In half precision one score out of 200 000, of all patterns, was 0.0501 off in a model trained on a hundred
frames.
"""


@dataclass(frozen=True)
class CheckResult:
    """How far one pattern is from its reference.

    Attributes:
        pattern: the pattern.
        pixel_agreement: part of the pixels whose class is the stored one.
        largest_difference: largest difference of an output, as in `Tolerance`; NaN when a number is not
            finite.
        worst_output: the output it was found in.
        tolerance: how far it may be.
    """

    pattern: Pattern
    pixel_agreement: float
    largest_difference: float
    worst_output: str
    tolerance: Tolerance = TOLERANCES[FP32]

    @property
    def passed(self) -> bool:
        """Whether it is within the tolerances; a number that is not finite never is."""
        near = self.largest_difference <= self.tolerance.difference  # never of NaN
        return self.pixel_agreement >= self.tolerance.pixel_agreement and near

    def __str__(self) -> str:
        return (
            f"{self.pattern}: {self.pixel_agreement:.2%} of the pixels agree (least "
            f"{self.tolerance.pixel_agreement:.1%}), largest difference {self.largest_difference:.2e} in "
            f"{self.worst_output} (most {self.tolerance.difference:.0e})"
        )


NO_REFERENCES = f"expected references to check it against, got none: {MEND}"


def read_references(folder: Path, pipeline: Pipeline) -> dict[str, Array] | None:
    """The stored inputs and outputs by key (`input/rgb`, `output/7/label_map`); None when the model has none.

    Raises:
        ModelFileError: the file is missing, damaged, or no archive of plain arrays.
    """
    spec = pipeline.manifest.references
    if spec is None:
        return None
    content = spec.read(folder)
    try:
        return unpack(content)
    except ValueError as error:
        msg = f"{folder / spec.file}: expected an npz archive of plain arrays, got {error}: {MEND}"
        raise ModelFileError(msg) from None


def compare(
    pipeline: Pipeline, references: Mapping[str, Array], patterns: Iterable[Pattern]
) -> tuple[CheckResult, ...]:
    """Run the stored inputs under each pattern and measure the distance to the stored outputs.

    Raises:
        SelfCheckError: the references lack an input or an output, or one has another shape.
    """
    inputs = {m: read_input(references, m, pipeline) for m in pipeline.manifest.modalities}
    tolerance = TOLERANCES[pipeline.backend.precision]
    results = []
    for pattern in patterns:
        outputs = pipeline.run({m: inputs[m] for m in pattern}, pattern)
        names = ["confidence", "box_scores", "boxes"] + (["scene"] if outputs.scene.size else [])
        stored = {name: _stored(references, pattern, name, getattr(outputs, name)) for name in names}
        labels = _stored(references, pattern, "label_map", outputs.label_map)
        average = {"boxes"} if tolerance.boxes_on_average else set()
        differences = {n: _difference(getattr(outputs, n), stored[n], n in average) for n in names}
        worst = max(names, key=lambda name: np.nan_to_num(differences[name], nan=np.inf))
        agreement = float(np.mean(outputs.label_map == labels))
        results.append(CheckResult(pattern, agreement, differences[worst], worst, tolerance))
    return tuple(results)


def require(results: Iterable[CheckResult], model: str) -> None:
    """Raise SelfCheckError with the measured differences unless every result passed."""
    failed = [str(result) for result in results if not result.passed]
    if failed:
        msg = f"model {model}: expected its reference outputs, got " + "; ".join(failed)
        raise SelfCheckError(msg)


def read_input(references: Mapping[str, Array], modality: Modality, pipeline: Pipeline) -> Array:
    """The stored input of one modality, without batch axis; SelfCheckError when none has its shape."""
    stored = _get(references, f"input/{modality.value}")
    expected = input_shape(modality, pipeline.manifest.size)
    return _unbatched(stored, expected, f"input/{modality.value}")


def _get(references: Mapping[str, Array], key: str) -> Array:
    if key not in references:
        msg = f"references: expected {key!r}, got only {sorted(references)}: {MEND}"
        raise SelfCheckError(msg)
    return references[key]


def _stored(references: Mapping[str, Array], pattern: Pattern, name: str, like: Array) -> Array:
    key = f"output/{pattern.bits}/{name}"
    return _unbatched(_get(references, key), like.shape, key)


def _unbatched(stored: Array, shape: tuple[int, ...], key: str) -> Array:
    # References may hold the tensors as the graphs have them, batch axis included.
    if stored.shape == (1, *shape):
        stored = stored[0]
    if stored.shape != shape:
        msg = f"references: expected {key} of shape {shape}, got {stored.shape}: {MEND}"
        raise SelfCheckError(msg)
    return stored


def _difference(got: Array, stored: Array, average: bool) -> float:
    if got.size == 0:
        return 0.0
    new, old = got.astype(np.float64), stored.astype(np.float64)
    relative = np.abs(new - old) / np.maximum(1.0, np.abs(old))
    return float(np.mean(relative) if average else np.max(relative))
