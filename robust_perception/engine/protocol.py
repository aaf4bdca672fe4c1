"""What the engine asks of a backend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from robust_perception.vocabulary import Array


class Backend(Protocol):
    """Runs the graphs of one model. One call at a time; the engine is its only caller."""

    @property
    def name(self) -> str:
        """The name users choose it by, e.g. `onnxruntime`."""

    @property
    def device(self) -> str:
        """Where it runs, in words."""

    @property
    def precision(self) -> str:
        """One of `precision.PRECISIONS`."""

    def run(self, graph: str, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run one graph.

        Args:
            graph: its name in the manifest.
            feeds: inputs of the graph, batch axis included, as the manifest describes them. Latents that are
                left out are of absent sensors: the graph does not look at them, whatever they are.

        Returns:
            Every output by name; the arrays belong to the caller. Latents are to be given back as they came:
            a backend may keep them in its device's memory.

        Raises:
            BackendError: the graph is unknown, an input is not as described, or one is missing that is no
                latent.
        """
        ...
