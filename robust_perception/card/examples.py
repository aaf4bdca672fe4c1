"""What it looks like: the outputs with the best and with the worst agreement of a course, and the truth."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from robust_perception.bags.truth import Truth
from robust_perception.engine.manifest import Manifest
from robust_perception.evaluation.playback import Played
from robust_perception.runtime import overlay
from robust_perception.vocabulary import UNLABELLED, Modality, SensorFrame

EACH = 2
"""Examples of the best, and of the worst."""
WIDTH = 320
QUALITY = 82

Picture = npt.NDArray[np.uint8]


class Example(NamedTuple):
    """An output: plain values, JPEGs of what was said and of what was there, and which scene it is of."""

    facts: dict[str, Any]
    said: bytes
    true: bytes
    scene: int = 0


class Examples:
    """Keeps the best and the worst outputs of a course; one of a scene. A sink of `follow`.

    Args:
        manifest: of the model.
        start_ns: when the source starts.
    """

    def __init__(self, manifest: Manifest, start_ns: int) -> None:
        self._manifest, self._start_ns = manifest, start_ns
        self._best: list[Example] = []
        self._worst: list[Example] = []

    def __call__(self, played: Played, truth: Truth | None, quality: float) -> None:
        """Take in an output."""
        if truth is None or truth.label is None or math.isnan(quality):
            return
        self._best = self._with(self._best, played, truth, quality, -1.0)
        self._worst = self._with(self._worst, played, truth, quality, 1.0)

    @property
    def best(self) -> Sequence[Example]:
        """Best first."""
        return self._best

    @property
    def worst(self) -> Sequence[Example]:
        """Worst first."""
        return self._worst

    def _with(
        self, kept: list[Example], played: Played, truth: Truth, quality: float, sign: float
    ) -> list[Example]:
        assert truth.label is not None

        def rank(example: Example) -> float:
            return sign * float(example.facts["foreground_miou"])

        # By its labels: a slide show comes back to the same scene.
        scene = zlib.crc32(truth.label.tobytes())
        same = [e for e in kept if e.scene == scene]
        rest = [e for e in kept if e.scene != scene]
        rivals = same or (kept if len(kept) >= EACH else [])
        if rivals and sign * quality >= max(map(rank, rivals)):
            return kept  # drawing costs more than looking
        candidates = [*rest, self._draw(played, truth, quality)._replace(scene=scene)]
        return sorted(candidates, key=rank)[:EACH]

    def _draw(self, played: Played, truth: Truth, quality: float) -> Example:
        assert truth.label is not None
        perception = played.perception
        said = perception.scores >= self._manifest.threshold(played.pattern)
        shown = replace(
            perception,
            boxes=perception.boxes[said],
            scores=perception.scores[said],
            class_ids=perception.class_ids[said],
        )
        facts = {
            "time_s": (played.published_ns - self._start_ns) / 1e9,
            "pattern": str(played.pattern),
            "foreground_miou": quality,
        }
        reference = perception.frame_set.frames[perception.frame_set.reference]
        names = self._manifest.class_names
        drawn = overlay.draw(shown, names)[: perception.label_map.shape[0]]
        return Example(facts, _jpeg(drawn), _jpeg(_true(truth.label, reference, len(names))))


def _true(label: Picture, reference: SensorFrame, classes: int) -> Picture:
    """The true label map over what the reference sensor saw, as `overlay.draw` does it."""
    picture = np.zeros((*label.shape, 3), dtype=np.uint8)
    if reference.modality is not Modality.AUDIO and reference.data.shape[:2] == label.shape:
        picture = overlay.look(reference)
    painted = (label > 0) & (label != UNLABELLED)
    colours = overlay.palette(classes)[label]
    blend = cv2.addWeighted(picture, 0.5, colours, 0.5, 0.0)
    picture[painted] = blend[painted]
    return picture


def _jpeg(picture: Picture) -> bytes:
    height, width = picture.shape[:2]
    if width > WIDTH:
        size = (WIDTH, round(height * WIDTH / width))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    assert done
    return bytes(data.tobytes())
