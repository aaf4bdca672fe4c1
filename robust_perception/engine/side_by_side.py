"""Sensors of one frame set encoded at once, each on its share of the cores.

One encoder shared out among n cores leaves some of them idle in every operator that is too small to be
divided, and lets all wait for the slowest in every one that is not; n encoders on a core each do not. So as
many images as fill the cores are encoded side by side, and those left over one by one, each on all cores. A
sound takes a twentieth of the time on its one thread, and fits into what such an image leaves idle:

    2 cores, 3 images:  | rgb     | thermal, audio |  fusion
                        | depth   | thermal        |  fusion

An image's latents are the same bit by bit however many threads make them, but for the products of LoRA's
tables, which are rounded otherwise. A sound's are not, and it has one always.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from robust_perception.engine.choice import on_shares
from robust_perception.engine.encodings import Encoding
from robust_perception.engine.helpers import Helpers
from robust_perception.engine.manifest import Manifest, encoder_name
from robust_perception.engine.pipeline import Pipeline
from robust_perception.engine.protocol import Backend
from robust_perception.engine.threads import thread_count


class SideBySide:
    """Encodes a number of images at a time.

    Args:
        whole: of a backend that several threads may run, with all cores.
        shared: of one with a share of the cores each.
        at_once: images that fill the cores.
    """

    def __init__(self, whole: Pipeline, shared: Pipeline, at_once: int) -> None:
        self.at_once = at_once
        self._whole = whole
        self._shared = shared
        self._helpers = Helpers(at_once - 1, "encoder")

    def make(self, encodings: Sequence[Encoding]) -> None:
        """Make those of images that nobody has begun, and wait for them.

        Sounds are begun where an image is left over that they can be made beside.
        """
        new = [e for e in encodings if not e.begun]
        images = [e for e in new if e.frame.modality.is_image]
        sounds = [e for e in new if not e.frame.modality.is_image]
        left_over = len(images) % self.at_once
        for first in range(0, len(images) - left_over, self.at_once):
            batch = images[first : first + self.at_once]
            for encoding in batch[1:]:
                self._helpers.submit(encoding.make, self._shared)
            batch[0].make(self._shared)
            for encoding in batch:
                encoding.wait()
        if left_over:
            for sound in sounds:
                self._helpers.submit(sound.make, self._whole)
            for image in images[-left_over:]:
                image.make(self._whole)


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
    at_once = min(thread_count(threads), len(graphs))
    shared = on_shares(chosen, manifest, folder, threads, at_once, graphs)
    if shared is None:
        return None
    return SideBySide(Pipeline(manifest, chosen), Pipeline(manifest, shared), at_once)
