"""What can go wrong between a message and a frame, or in a node's settings."""

from __future__ import annotations

from robust_perception.vocabulary import Modality, Reason


class RosError(Exception):
    """Base of the errors of this room."""


class MessageError(RosError):
    """A message cannot become a frame; the message names the sensor, what was expected and what came.

    Attributes:
        modality: the sensor.
        reason: `WRONG_ENCODING` for what the message says about itself, `BAD_DATA` for what is in it.
        detail: expected and got, without the sensor's name.
    """

    def __init__(self, modality: Modality, reason: Reason, detail: str) -> None:
        super().__init__(f"{modality}: {reason}: {detail}")
        self.modality = modality
        self.reason = reason
        self.detail = detail


class EncodingError(RosError, ValueError):
    """An image or sound is declared as something that is not understood here."""


class DataError(RosError, ValueError):
    """The bytes of an image or sound do not hold what was declared, or hold no measurement."""


class ParameterError(RosError, ValueError):
    """A parameter's value is not allowed."""

    def __init__(self, name: str, expected: str, got: object) -> None:
        super().__init__(f"parameter {name}: expected {expected}, got {got!r}")
