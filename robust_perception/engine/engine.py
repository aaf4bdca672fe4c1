"""From a frame set to a perception: encode what is new, fuse what is alive, decode.

The latents of a sensor's last two frames are kept: a 9 Hz thermal camera beside a 30 Hz colour camera is
encoded nine times a second, and a frame encoded ahead does not drive out the one that is in use. A frame is
new when it is another measurement, by its stamp and its array, never by its content. Where a sensor's encoder
has adapters its latents belong to one pattern, and are made again when that changes.

Where the backend can, images that are new together are encoded side by side (side_by_side.py), and halves of
the fusion run so too (fusion_in_parts.py).
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from robust_perception.engine import postprocess, selfcheck
from robust_perception.engine.choice import choose
from robust_perception.engine.encodings import Encoding, Encodings
from robust_perception.engine.errors import EngineError, FrameError
from robust_perception.engine.fusion_in_parts import pipeline_of
from robust_perception.engine.inline import INLINE
from robust_perception.engine.manifest import AdapterSpec, Manifest
from robust_perception.engine.models import find_model
from robust_perception.engine.pipeline import Latents, Pipeline
from robust_perception.engine.protocol import Backend
from robust_perception.engine.side_by_side import SideBySide, side_by_side
from robust_perception.preprocess import INPUT_DTYPES, input_shape, prepare
from robust_perception.vocabulary import (
    MODALITIES,
    FrameSet,
    Modality,
    Pattern,
    Perception,
    Reason,
    SensorFrame,
)

LOG = logging.getLogger(__name__)


class Coming(NamedTuple):
    """A perception that is on its way.

    Attributes:
        frame_set: what it is made from: the frames of the model's sensors.
        perception: it, or what went wrong.
    """

    frame_set: FrameSet
    perception: Future[Perception]


@dataclass(frozen=True)
class EngineInfo:
    """What runs.

    Attributes:
        backend: name of the backend.
        precision: one of `precision.PRECISIONS`.
        device: where it runs.
        rejected: for every backend that was passed over, its name and the reason.
        model: the model's name.
        version: the model's version.
        sha: SHA-256 of the model's manifest, which holds those of graphs and references.
        adapters: the bank in the model's graphs; None where all patterns share all weights.
    """

    backend: str
    precision: str
    device: str
    rejected: tuple[str, ...]
    model: str
    version: str
    sha: str
    adapters: AdapterSpec | None = None

    def adapter(self, pattern: Pattern) -> str:
        """What a pattern runs with: its own adapters, as "ssf rgb+depth", or "none"."""
        return "none" if self.adapters is None else self.adapters.of(pattern)


class Engine:
    """A loaded model. One caller at a time.

    Attributes:
        manifest: what the model folder says about itself.
        info: what runs.
        score_threshold: least score of a published box for every pattern; None = the manifest's, per pattern.
    """

    def __init__(
        self, pipeline: Pipeline, info: EngineInfo, folder: Path, beside: SideBySide | None = None
    ) -> None:
        self.manifest = pipeline.manifest
        self.info = info
        self.folder = folder
        self.score_threshold: float | None = None
        self._pipeline = pipeline
        self._beside = beside
        self._kept = Encodings()

    @classmethod
    def load(
        cls,
        model: Path | str,
        backend: str = "auto",
        threads: int | None = None,
        precision: str = "auto",
        cache: Path | None = None,
        *,
        abreast: bool = False,
    ) -> Engine:
        """Load a model and check it against a few of its own reference outputs; one without is warned of.

        Args:
            model: a model folder, or the name of an installed model.
            backend: one of `choice.CHOICES`; a named one is never replaced by another.
            threads: at work at a time; None = the cores this process may use.
            precision: one of `choice.PRECISION_CHOICES`; a named one is never replaced by another.
            cache: folder of the plans that `robust-perception build-engine` made; None = the user's own.
            abreast: whether several inferences are to run side by side (`ahead.Ahead`), each on one thread,
                where the backend can; `threads` is for the others then.

        Raises:
            EngineError: no such model, a file of it is missing or damaged, no backend runs it, or it does not
                give its reference outputs; the message says which and what to do.
        """
        folder = find_model(model)
        manifest = Manifest.load(folder, check_files=False)  # each file is checked as it is read
        check = _checker(folder, manifest)
        pipeline: Pipeline | None = None

        def check_what_will_run(backend: Backend) -> None:
            nonlocal pipeline
            made = pipeline_of(backend, manifest, folder, 1 if abreast else threads)
            check(made)
            pipeline = made  # never one that was refused: the next may need its memory

        built, rejected = choose(
            folder, manifest, backend, precision, threads, check_what_will_run, cache, abreast
        )
        assert pipeline is not None  # `choose` checks what it returns
        beside = None if abreast else side_by_side(built, manifest, folder, threads)
        return cls(pipeline, _info(built, manifest, rejected), folder, beside)

    @classmethod
    def of(
        cls,
        backend: Backend,
        manifest: Manifest,
        folder: Path,
        rejected: tuple[str, ...] = (),
    ) -> Engine:
        """An engine on a backend that is built already; nothing is checked.

        Args:
            backend: runs the graphs.
            manifest: of the model.
            folder: of the model.
            rejected: see `EngineInfo`.
        """
        return cls(Pipeline(manifest, backend), _info(backend, manifest, rejected), folder)

    @property
    def backend(self) -> Backend:
        """What runs the graphs; several engines may share it, one call at a time."""
        return self._pipeline.backend

    def encode(self, frames: Iterable[SensorFrame], pattern: Pattern | None = None) -> bool:
        """Make latents before the inference that will use them.

        Encoding as frames arrive leaves only the fusion to do when a set is complete or a sensor is lost. A
        frame that cannot be made a network input is left out: the inference meets it again, and tells.

        Args:
            frames: in canonical units, of different sensors.
            pattern: that is expected when they are used; None = all sensors. Which one is of no meaning where
                encoders have no adapters.

        Returns:
            Whether there was something to do: False for latents in hand, sensors the model does not have, and
            a pattern of such alone, under which there is no inference.
        """
        known = self.manifest.modalities
        used = [m for m in pattern or known if m in known]
        if not used:
            return False
        expected = Pattern.of(used)
        new: list[Encoding] = []
        for frame in frames:
            if frame.modality in known and self._kept.of(frame, expected) is None:
                with contextlib.suppress(FrameError):
                    new.append(self._encoding(frame, expected))
        self._make(new)
        for encoding in new:
            encoding.wait()
        return bool(new)

    def infer(self, frame_set: FrameSet) -> Perception:
        """Perceive.

        Frames of modalities the model does not have are left out, and the perception's frame set says so.

        Args:
            frame_set: frames in canonical units.

        Returns:
            Label map and boxes at the size of the reference frame, or at the model's size when that is sound.

        Raises:
            FrameError: a frame cannot be made a network input; it names the sensor.
            EngineError: no frame is left that the model knows.
        """
        return self.begin(frame_set, INLINE).perception.result()

    def begin(self, frame_set: FrameSet, executor: Executor) -> Coming:
        """Begin to perceive.

        Args:
            frame_set: frames in canonical units.
            executor: does what takes long.

        Raises:
            FrameError: a frame cannot be made a network input; it names the sensor.
            EngineError: no frame is left that the model knows.
        """
        used = self._known(frame_set)
        encodings = {
            m: self._kept.of(frame, used.pattern) or self._encoding(frame, used.pattern)
            for m, frame in used.frames.items()
        }
        return Coming(used, executor.submit(self._perceive, used, encodings))

    def _perceive(self, used: FrameSet, encodings: Mapping[Modality, Encoding]) -> Perception:
        start = time.perf_counter()
        new = {modality: encoding for modality, encoding in encodings.items() if encoding.uncounted()}
        ahead_ms = sum(encoding.spent_ms for encoding in new.values())
        self._make(list(encodings.values()))
        latents = {modality: encoding.latents() for modality, encoding in encodings.items()}
        timings = {f"encode/{modality.value}": encoding.spent_ms for modality, encoding in new.items()}
        before = time.perf_counter()
        raw = self._pipeline.fuse(latents, used.pattern)
        timings["fuse"] = _milliseconds(before)

        before = time.perf_counter()
        threshold = self.score_threshold
        found = postprocess.detections(
            raw.boxes.astype(np.float32, copy=False),
            raw.box_scores.astype(np.float32, copy=False),
            self.manifest.threshold(used.pattern) if threshold is None else threshold,
            self.manifest.nms_iou,
            self.manifest.max_detections,
        )
        size = self.manifest.size
        if used.reference.is_image:
            height, width = used.frames[used.reference].data.shape[:2]
            size = height, width
        label_map = postprocess.resize_label_map(raw.label_map.astype(np.uint8, copy=False), size)
        boxes = postprocess.resize_boxes(found.boxes, self.manifest.size, size)
        timings["decode"] = _milliseconds(before)
        timings["total"] = ahead_ms + _milliseconds(start)
        return Perception(
            frame_set=used,
            label_map=label_map,
            boxes=boxes,
            scores=found.scores,
            class_ids=found.class_ids,
            scene=raw.scene.astype(np.float32, copy=False),
            confidence=float(raw.confidence[0]),
            timings_ms=timings,
        )

    def _make(self, encodings: Sequence[Encoding]) -> None:
        """Make all that nobody has begun; somebody else may still be at some."""
        if self._beside is not None:
            self._beside.make(encodings)
        for encoding in encodings:
            encoding.make(self._pipeline)

    def reset(self) -> None:
        """Forget the latents of every sensor."""
        self._kept.clear()

    def check(self, patterns: tuple[Pattern, ...] | None = None) -> tuple[selfcheck.CheckResult, ...]:
        """Compare with the stored references.

        Args:
            patterns: which to compare; None = all of the model.

        Returns:
            One result a pattern; empty when the model has no references.
        """
        references = selfcheck.read_references(self.folder, self._pipeline)
        if references is None:
            return ()
        return selfcheck.compare(self._pipeline, references, patterns or self.manifest.patterns)

    def _known(self, frame_set: FrameSet) -> FrameSet:
        modalities = self.manifest.modalities
        if all(m in modalities for m in frame_set.pattern):
            return frame_set
        frames = {m: frame for m, frame in frame_set.frames.items() if m in modalities}
        if not frames:
            known = ", ".join(m.value for m in modalities)
            msg = f"model {self.manifest.name}: expected a frame of {known}, got only {frame_set.pattern}"
            raise EngineError(msg)
        unknown = {m: Reason.DISABLED for m in frame_set.frames if m not in frames}
        first = next(m for m in MODALITIES if m in frames)
        reference = frame_set.reference if frame_set.reference in frames else first
        return replace(
            frame_set,
            pattern=Pattern.of(frames),
            frames=frames,
            reference=reference,
            header_age_ns={m: age for m, age in frame_set.header_age_ns.items() if m in frames},
            arrival_age_ns={m: age for m, age in frame_set.arrival_age_ns.items() if m in frames},
            absent={**frame_set.absent, **unknown},
        )

    def _encoding(self, frame: SensorFrame, pattern: Pattern) -> Encoding:
        start = time.perf_counter()
        try:
            prepared = prepare(frame, self.manifest.size)
        except ValueError as error:
            raise FrameError(frame.modality, str(error)) from None
        made_for = pattern if self.manifest.follows_pattern(frame.modality) else None

        def encode(pipeline: Pipeline) -> Latents:
            return pipeline.encode(frame.modality, prepared, pattern)

        return self._kept.add(Encoding(frame, made_for, encode, _milliseconds(start)))


def warm_up(engine: Engine) -> None:
    """Run every graph once on blank frames, so that the first real frame is not the slowest."""
    frames = {}
    for modality in engine.manifest.modalities:
        shape = input_shape(modality, engine.manifest.size)
        data = np.zeros(shape, dtype=INPUT_DTYPES[modality])
        frames[modality] = SensorFrame(modality, data, 0)
    engine.infer(FrameSet(Pattern.of(frames), frames, next(iter(frames))))
    engine.reset()


def _info(backend: Backend, manifest: Manifest, rejected: tuple[str, ...]) -> EngineInfo:
    return EngineInfo(
        backend=backend.name,
        precision=backend.precision,
        device=backend.device,
        rejected=rejected,
        model=manifest.name,
        version=manifest.version,
        sha=manifest.sha256,
        adapters=manifest.adapters,
    )


def _checker(folder: Path, manifest: Manifest) -> Callable[[Pipeline], None]:
    if manifest.references is None:
        LOG.warning("model %s was not checked: %s", manifest.name, selfcheck.NO_REFERENCES)

    def check(pipeline: Pipeline) -> None:
        references = selfcheck.read_references(folder, pipeline)
        if references is not None:
            # The richest and the poorest: every encoder, and the most that can be absent.
            patterns = dict.fromkeys((manifest.patterns[0], manifest.patterns[-1]))
            selfcheck.require(selfcheck.compare(pipeline, references, patterns), manifest.name)

    return check


def _milliseconds(start: float) -> float:
    return (time.perf_counter() - start) * 1e3
