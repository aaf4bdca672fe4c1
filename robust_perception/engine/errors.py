"""What can go wrong in the engine; messages name the thing, what was expected, what came, and the mend."""

from __future__ import annotations

from robust_perception.vocabulary import Modality


class EngineError(Exception):
    """The engine cannot do what was asked; the other errors of this room derive from it."""


class ManifestError(EngineError):
    """A model's manifest is missing, damaged, or does not describe a model."""


class ModelFileError(EngineError):
    """A file of a model folder is missing or is not the one its manifest describes."""


class ModelNotFoundError(EngineError):
    """No model folder of this name or path."""


class BackendError(EngineError):
    """A backend is not usable on this machine or with this model."""


class FrameError(EngineError):
    """A frame cannot be made a network input.

    Attributes:
        modality: the sensor it came from, so that the others can go on without it.
    """

    def __init__(self, modality: Modality, message: str) -> None:
        super().__init__(message)
        self.modality = modality


class SelfCheckError(EngineError):
    """A model loaded but does not give its reference outputs."""
