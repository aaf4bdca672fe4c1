"""Images of one frame set encoded at once, each on its share of the cores.

One encoder shared out among n cores leaves some of them idle in every operator that is too small to be
divided, and lets all wait for the slowest in every one that is not; n encoders on a core each do not. So as
many images as fill the cores are encoded side by side, and those left over one by one, each on all cores:

    2 cores, 3 images:  | rgb     | thermal |  fusion
                        | depth   | thermal |  fusion

An image's latents are the same bit by bit however many threads make them. A sound's are not; it takes a
twentieth of the time, and is left to its one thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from robust_perception.engine.choice import BACKENDS, runs_abreast
from robust_perception.engine.encodings import Encoding
from robust_perception.engine.manifest import Manifest, encoder_name
from robust_perception.engine.pipeline import Pipeline
from robust_perception.engine.protocol import Backend
from robust_perception.engine.threads import thread_count


class SideBySide:
    """Encodes a number of images at a time.

    Args:
        pipeline: of a backend that several threads may run, with a share of the cores each.
        at_once: images that fill the cores.
    """

    def __init__(self, pipeline: Pipeline, at_once: int) -> None:
        self.at_once = at_once
        self._pipeline = pipeline
        self._helpers = ThreadPoolExecutor(at_once - 1, "encoder")

    def make(self, encodings: Sequence[Encoding]) -> None:
        """Make those of images that nobody has begun, as far as they fill the cores, and wait for them."""
        images = [e for e in encodings if e.frame.modality.is_image and not e.begun]
        for first in range(0, len(images) - self.at_once + 1, self.at_once):
            batch = images[first : first + self.at_once]
            for encoding in batch[1:]:
                self._helpers.submit(encoding.make, self._pipeline)
            batch[0].make(self._pipeline)
            for encoding in batch:
                encoding.wait()


def side_by_side(chosen: Backend, manifest: Manifest, folder: Path, threads: int | None) -> SideBySide | None:
    """What encodes images side by side with a backend; None where one call fills what there is.

    Args:
        chosen: what runs the model.
        manifest: of the model.
        folder: of the model.
        threads: at work at a time; None = the cores this process may use.

    Raises:
        BackendError: see `OnnxRuntimeBackend`.
        ModelFileError: a graph's file has changed since `chosen` read it.
    """
    graphs = [encoder_name(m) for m in manifest.modalities if m.is_image]
    count = thread_count(threads)
    at_once = min(count, len(graphs))
    if at_once < 2 or not runs_abreast(chosen.name):
        return None
    build = BACKENDS[chosen.name].build
    backend = build(folder, manifest, chosen.precision, count // at_once, graphs=graphs)
    return SideBySide(Pipeline(manifest, backend), at_once)
