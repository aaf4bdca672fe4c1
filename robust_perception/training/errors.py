"""What can go wrong in training; messages name the file or the value, what was expected and what came."""

from __future__ import annotations

from collections.abc import Iterable

from robust_perception.vocabulary import Pattern


class TrainingError(Exception):
    """Training cannot go on; the other errors of this room derive from it."""


class ConfigError(TrainingError):
    """A configuration has an unknown key or a value that is not allowed."""


class CheckpointError(TrainingError):
    """A checkpoint is missing, damaged, or of another run."""


class MachineError(TrainingError):
    """The machine lacks what the run was told to use."""


class ExportError(TrainingError):
    """An exported graph does not say what the network says."""


class NonFiniteLossError(TrainingError):
    """A loss, or the gradient of their sum, became NaN or infinite.

    Args:
        what: its name, e.g. "loss dice of the full pass".
        patterns: the sensors the samples of the batch showed.
        value: what it was.
    """

    def __init__(self, what: str, patterns: Iterable[Pattern], value: float) -> None:
        shown = ", ".join(sorted({str(pattern) for pattern in patterns}))
        super().__init__(
            f"{what}: expected a finite number, got {value} under the patterns {shown}; "
            "lower optimiser.learning_rate, or look for damaged frames in the data"
        )
