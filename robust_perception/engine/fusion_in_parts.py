"""The fusion on several cores: in stages of two parts, one beside the other (`exporting.fusion_parts`).

Its operators take some microseconds each. Shared out among two cores they cost half as much again and are
hardly quicker; cut into parts they are. The parts give the same as the whole, bit by bit, but for the
products of LoRA's tables, which another number of threads rounds otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import wait
from pathlib import Path

from robust_perception.engine.choice import on_shares
from robust_perception.engine.helpers import Helpers
from robust_perception.engine.manifest import MAP, PARTS, SCORES, STAGES, Manifest
from robust_perception.engine.pipeline import Latents, Pipeline, RawOutputs
from robust_perception.engine.protocol import Backend
from robust_perception.vocabulary import Array, Modality, Pattern


class PipelineInParts(Pipeline):
    """A pipeline whose fusion runs as `PARTS`.

    Args:
        manifest: of the model.
        backend: runs the encoders.
        parts: runs the parts of the fusion, two at a time, on half of the cores each.

    Raises:
        BackendError: see `Pipeline`.
    """

    def __init__(self, manifest: Manifest, backend: Backend, parts: Backend) -> None:
        super().__init__(manifest, backend)
        self._parts = parts
        known = manifest.parts[backend.precision]
        self._stages = [[part for part in stage if part in known] for stage in STAGES]
        self._helper = Helpers(1, "fusion")

    def fuse(self, latents: Mapping[Modality, Latents], pattern: Pattern) -> RawOutputs:
        """See `Pipeline.fuse`."""
        there = self._fusion_feeds(latents, pattern)
        for stage in self._stages:
            coming = [self._helper.submit(self._run, part, there) for part in stage[1:]]
            try:
                made = [self._run(part, there) for part in stage[:1]]
            finally:
                wait(coming)  # whatever happened here: nothing runs on when this has returned
            for outputs in (*made, *(each.result() for each in coming)):
                there |= outputs
        return self._finished(there, there[MAP][0])

    def _run(self, part: str, there: Mapping[str, Array]) -> Mapping[str, Array]:
        outputs = self._parts.run(part, there)
        return {**outputs, MAP: self._label_map(outputs)[None]} if SCORES in outputs else outputs


def pipeline_of(chosen: Backend, manifest: Manifest, folder: Path, threads: int | None) -> Pipeline:
    """The pipeline of a backend: in parts where there are some, cores for two, and calls may overlap.

    Args:
        chosen: what runs the model.
        manifest: of the model.
        folder: of the model.
        threads: at work at a time; None = the cores this process may use.

    Raises:
        BackendError: see `OnnxRuntimeBackend`.
        ModelFileError: a graph's file is not the one described.
    """
    cut = chosen.precision in manifest.parts
    parts = on_shares(chosen, manifest, folder, threads, 2, PARTS) if cut else None
    return Pipeline(manifest, chosen) if parts is None else PipelineInParts(manifest, chosen, parts)
