"""What can be wrong with a network's configuration or weights."""

from __future__ import annotations


class ModelError(ValueError):
    """A network cannot be built or fed as asked; says what was expected and what came."""


class WeightsError(ModelError):
    """A file of weights does not fit the network."""
