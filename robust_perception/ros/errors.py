"""What can go wrong in a node or its settings."""

from __future__ import annotations


class RosError(Exception):
    """Base of the errors of this room."""


class ParameterError(RosError, ValueError):
    """A parameter's value is not allowed."""

    def __init__(self, name: str, expected: str, got: object) -> None:
        super().__init__(f"parameter {name}: expected {expected}, got {got!r}")
