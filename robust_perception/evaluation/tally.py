"""What is gathered of many frames to become one row of a report.

Two tallies are joined before anything is divided: counts of pixels are added up, boxes, scene probabilities
and confidences put side by side. What comes of it is what one tally of all frames would have given, and no
mean of means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from robust_perception.datasets import Sample
from robust_perception.engine.postprocess import resize_boxes, resize_label_map
from robust_perception.evaluation.detection import DetectionMetric
from robust_perception.evaluation.report import PatternResult
from robust_perception.evaluation.scene import SceneMetric
from robust_perception.evaluation.segmentation import ConfusionMatrix
from robust_perception.evaluation.unjudged import unjudged
from robust_perception.vocabulary import Array, Pattern, Perception


@dataclass(frozen=True)
class Columns:
    """Where the scene classes that model and data share stand in the arrays of each."""

    model: list[int]
    data: list[int]

    @classmethod
    def of(cls, shared: Sequence[str], model: Sequence[str], data: Sequence[str]) -> Columns:
        """Columns of the names in `shared`."""
        return cls([model.index(name) for name in shared], [data.index(name) for name in shared])


@dataclass
class Tally:
    """Metrics of some frames; `add` each, then ask for the `result`."""

    segmentation: ConfusionMatrix
    detection: DetectionMetric
    scene: SceneMetric
    confidences: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, classes: int, scene_names: Sequence[str]) -> Tally:
        """An empty one, of so many classes and the scene classes that model and data share."""
        return cls(ConfusionMatrix(classes), DetectionMetric(), SceneMetric(scene_names))

    def add(
        self,
        sample: Sample,
        perception: Perception,
        columns: Columns,
        pixels: ConfusionMatrix | None = None,
    ) -> None:
        """Hold a perception against what is known of its instant.

        Args:
            sample: what is known.
            perception: what was seen.
            columns: which scene classes are meant.
            pixels: `pixels_of` them, where somebody has counted already.
        """
        self.confidences.append(perception.confidence)
        if sample.label is not None:
            pixels = pixels or pixels_of(sample.label, perception, self.segmentation.classes)
            self.segmentation.join(pixels.counts)
        if sample.boxes is not None and sample.class_ids is not None:
            boxes = in_pixels_of(sample.size, perception)
            self.detection.add(
                sample.boxes,
                sample.class_ids,
                boxes,
                perception.class_ids,
                perception.scores,
                unjudged(sample, boxes),
                sample.crowds,
            )
        if sample.scene is not None and columns.model:
            self.scene.add(sample.scene[columns.data], perception.scene[columns.model])

    def arrays(self) -> dict[str, Array]:
        """All that was gathered, by name, to be stored or to be joined to another."""
        return {
            "confusion": self.segmentation.counts,
            **{f"boxes/{name}": values for name, values in self.detection.arrays().items()},
            **{f"scene/{name}": values for name, values in self.scene.arrays().items()},
            "confidences": np.array(self.confidences, dtype=np.float64),
        }

    def join(self, arrays: Mapping[str, Array]) -> None:
        """Add the frames behind another one's `arrays`.

        Raises:
            KeyError: an array is missing.
            ValueError: an array is not of these classes, or they do not fit together.
        """
        self.segmentation.join(arrays["confusion"])
        self.detection.join(_below("boxes/", arrays))
        self.scene.join(_below("scene/", arrays))
        self.confidences += arrays["confidences"].tolist()

    def result(self, pattern: Pattern, class_names: Sequence[str]) -> PatternResult:
        """The values over all frames."""
        map50, map50_95 = self.detection.compute()
        return PatternResult(
            pattern=pattern,
            frames=len(self.confidences),
            foreground_miou=self.segmentation.foreground_miou(),
            per_class_iou=dict(zip(class_names, self.segmentation.iou().tolist(), strict=True)),
            map50=map50,
            map50_95=map50_95,
            scene=self.scene.compute(),
            confidence=float(np.mean(self.confidences)) if self.confidences else float("nan"),
        )


def in_pixels_of(size: tuple[int, int] | None, perception: Perception) -> npt.NDArray[np.float32]:
    """The boxes of a perception in pixels of a picture of size (H, W); as they are where it is not known.

    Only sound alone comes at the model's size; everything else has the size of its images already.
    """
    height, width = perception.label_map.shape[:2]
    return perception.boxes if size is None else resize_boxes(perception.boxes, (height, width), size)


def pixels_of(label: npt.NDArray[np.uint8], perception: Perception, classes: int) -> ConfusionMatrix:
    """Counts of one perception's pixels against a ground truth, uint8 (H, W)."""
    matrix = ConfusionMatrix(classes)
    matrix.add(label, resize_label_map(perception.label_map, (label.shape[0], label.shape[1])))
    return matrix


def _below(prefix: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {name.removeprefix(prefix): values for name, values in arrays.items() if name.startswith(prefix)}
