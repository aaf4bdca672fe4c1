"""What can go wrong in training; messages name the file or the value, what was expected and what came."""

from __future__ import annotations

from collections.abc import Sequence


class TrainingError(Exception):
    """Training cannot go on; the other errors of this room derive from it."""


class ConfigError(TrainingError):
    """A configuration has an unknown key or a value that is not allowed."""


class CheckpointError(TrainingError):
    """A checkpoint is missing, damaged, or of another run."""


class ExportError(TrainingError):
    """An exported graph does not say what the network says."""


class NonFiniteLossError(TrainingError):
    """A loss became NaN or infinite.

    Args:
        loss: its name.
        name: the pass it appeared in, "full" or "random".
        patterns: the sensors the samples of the batch showed.
        value: what it was.
    """

    def __init__(self, loss: str, name: str, patterns: Sequence[str], value: float) -> None:
        super().__init__(
            f"loss {loss} of the {name} pass: expected a finite number, got {value} under the patterns "
            f"{', '.join(patterns)}; lower optimiser.learning_rate, or look for damaged frames in the data"
        )
        self.loss = loss
