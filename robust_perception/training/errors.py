"""What can go wrong in training; messages name the file or the value, what was expected and what came."""

from __future__ import annotations


class TrainingError(Exception):
    """Training cannot go on; the other errors of this room derive from it."""


class ConfigError(TrainingError):
    """A configuration has an unknown key or a value that is not allowed."""


class CheckpointError(TrainingError):
    """A checkpoint is missing, damaged, or of another run."""


class NonFiniteLossError(TrainingError):
    """A loss became NaN or infinite; names the loss, the step and the patterns of the batch."""
