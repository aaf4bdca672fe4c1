"""What can be wrong with how presence is used; a bad sensor is never an error, it has a `Reason`."""

from __future__ import annotations

from collections.abc import Iterable

from robust_perception.vocabulary import Modality


class PresenceError(Exception):
    """Base of the errors of this room."""


class ConfigError(PresenceError, ValueError):
    """A setting is outside what it may be."""

    def __init__(self, name: str, expected: str, got: object) -> None:
        super().__init__(f"{name}: expected {expected}, got {got!r}")


class UnknownSensorError(PresenceError, LookupError):
    """A frame or a command names a sensor the synchronizer was not configured with."""

    def __init__(self, modality: Modality, configured: Iterable[Modality]) -> None:
        names = ", ".join(m.value for m in configured)
        super().__init__(
            f"expected one of the configured sensors ({names}), got {modality.value}; add a SensorConfig"
        )
