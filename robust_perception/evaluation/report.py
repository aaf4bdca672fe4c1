"""The result of an evaluation: values, JSON, table. Quality is in percent; what is undefined is null."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from robust_perception.evaluation.scene import SceneResult
from robust_perception.vocabulary import Pattern


@dataclass(frozen=True)
class PatternResult:
    """Quality under one pattern.

    Attributes:
        pattern: the sensors that were present.
        frames: frames that had all of them.
        foreground_miou: see `segmentation`; NaN without labels.
        per_class_iou: class name -> IoU, background included; NaN where the class does not occur.
        map50: see `detection`; NaN without boxes.
        map50_95: see `detection`; NaN without boxes.
        scene: see `scene`; None when data or model have no scene classes.
        confidence: mean of the model's own confidence, 0 to 1.
    """

    pattern: Pattern
    frames: int
    foreground_miou: float
    per_class_iou: Mapping[str, float]
    map50: float
    map50_95: float
    scene: SceneResult | None
    confidence: float

    def to_json(self) -> dict[str, Any]:
        """Plain values; NaN stays NaN until `Report.to_text`."""
        scene = None
        if self.scene is not None:
            scene = {
                "mean_average_precision": self.scene.mean_average_precision,
                "average_precision": self.scene.average_precision,
                "balanced_accuracy": self.scene.balanced_accuracy,
            }
        return {
            "frames": self.frames,
            "foreground_miou": self.foreground_miou,
            "per_class_iou": dict(self.per_class_iou),
            "map50": self.map50,
            "map50_95": self.map50_95,
            "scene": scene,
            "confidence": self.confidence,
        }


@dataclass(frozen=True)
class Report:
    """Quality of one model on one split under every pattern.

    Attributes:
        head: what was measured, on what, by what: model, data, split, versions.
        frames: frames of the split that were read.
        results: one a pattern, richest first.
        seconds: wall time.
    """

    head: Mapping[str, Any]
    frames: int
    results: Sequence[PatternResult]
    seconds: float

    @property
    def mean(self) -> dict[str, float]:
        """Mean over the patterns that have a value, by metric."""
        scenes = [r.scene.mean_average_precision for r in self.results if r.scene is not None]
        return {
            "foreground_miou": _mean([r.foreground_miou for r in self.results]),
            "map50": _mean([r.map50 for r in self.results]),
            "map50_95": _mean([r.map50_95 for r in self.results]),
            "scene_map": _mean(scenes),
        }

    @property
    def worst(self) -> PatternResult | None:
        """The pattern with the lowest foreground mIoU; None when no pattern has one."""
        known = [r for r in self.results if not math.isnan(r.foreground_miou)]
        return min(known, key=lambda r: r.foreground_miou) if known else None

    def to_json(self) -> dict[str, Any]:
        """Plain values without NaN: what is undefined is None."""
        worst = self.worst
        content = {
            **self.head,
            "unit": "percent",
            "frames": self.frames,
            "patterns": {str(r.pattern): r.to_json() for r in self.results},
            "mean": self.mean,
            "worst": {
                "pattern": None if worst is None else str(worst.pattern),
                "foreground_miou": None if worst is None else worst.foreground_miou,
            },
            "seconds": self.seconds,
        }
        plain: dict[str, Any] = without_nan(content)
        return plain

    def to_text(self) -> str:
        """The JSON file's content."""
        return to_text(self.to_json())

    def table(self) -> str:
        """A table for people, one row a pattern, then the mean and the worst."""
        head = ("pattern", "frames", "mIoU", "mAP50", "mAP50-95", "scene mAP")
        rows: list[tuple[str, ...]] = [head]
        for r in self.results:
            scene = float("nan") if r.scene is None else r.scene.mean_average_precision
            values = (r.foreground_miou, r.map50, r.map50_95, scene)
            rows.append((str(r.pattern), str(r.frames), *map(_cell, values)))
        mean = self.mean
        values = (mean["foreground_miou"], mean["map50"], mean["map50_95"], mean["scene_map"])
        rows.append(("mean", "", *map(_cell, values)))
        widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
        lines = [
            "  ".join(
                [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
            )
            for row in rows
        ]
        lines.insert(1, "-" * len(lines[0]))
        lines.insert(-1, "-" * len(lines[0]))
        if self.worst is not None:
            lines.append(f"worst: {self.worst.pattern} with {self.worst.foreground_miou:.2f} mIoU")
        return "\n".join(lines)


def _mean(values: Sequence[float]) -> float:
    known = [v for v in values if not math.isnan(v)]
    return float(np.mean(known)) if known else float("nan")


def _cell(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"


def to_text(content: Mapping[str, Any]) -> str:
    """Plain values as the content of a JSON file."""
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def without_nan(value: Any) -> Any:
    """Plain values in which what is undefined is None."""
    if isinstance(value, Mapping):
        return {str(k): without_nan(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
