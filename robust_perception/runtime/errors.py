"""What can go wrong between a message and a frame."""

from __future__ import annotations

from robust_perception.vocabulary import Modality, Reason


class DecodingError(Exception):
    """Base of the errors of this room."""


class MessageError(DecodingError):
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


class EncodingError(DecodingError, ValueError):
    """An image or sound is declared as something that is not understood here."""


class DataError(DecodingError, ValueError):
    """The bytes of an image or sound do not hold what was declared, or hold no measurement."""
