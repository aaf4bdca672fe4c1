"""What can go wrong with a command on bags beyond the bag itself."""

from __future__ import annotations


class CommandError(Exception):
    """What was asked for cannot be done here; says what was expected, what came and what to do."""
