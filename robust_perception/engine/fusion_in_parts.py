"""The fusion on several cores: after what map and objects have in common, one of them beside the other.

Its operators take some microseconds each. Shared out among two cores they cost half as much again and are
hardly quicker; cut in two they are:

    core 1   fusion_common | fusion_objects
    core 2                 | fusion_map, label map

The parts have the nodes of the whole, and give the same bit by bit (`exporting.fusion_parts`).
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import wait
from pathlib import Path

from robust_perception.engine.choice import on_shares
from robust_perception.engine.helpers import Helpers
from robust_perception.engine.manifest import COMMON, MAP_PART, OBJECTS_PART, PARTS, Manifest
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
        self._helper = Helpers(1, "fusion")

    def fuse(self, latents: Mapping[Modality, Latents], pattern: Pattern) -> RawOutputs:
        """See `Pipeline.fuse`."""
        feeds = self._fusion_feeds(latents, pattern)
        feeds |= self._parts.run(COMMON, feeds)
        coming = self._helper.submit(self._map, feeds)
        try:
            outputs = self._parts.run(OBJECTS_PART, feeds)
        finally:
            wait([coming])  # whatever happened here: nothing runs on when this has returned
        others, labels = coming.result()
        return self._finished({**outputs, **others}, labels)

    def _map(self, feeds: Mapping[str, Array]) -> tuple[Mapping[str, Array], Array]:
        outputs = self._parts.run(MAP_PART, feeds)
        return outputs, self._label_map(outputs)


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
