"""What can go wrong with a fault script."""

from __future__ import annotations


class FaultError(ValueError):
    """A fault script is not valid; names file, line, key, what was expected and what came."""


class ScriptNotFoundError(FaultError):
    """There is no such script; says which there are."""
