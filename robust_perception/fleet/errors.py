"""What can go wrong with many bags at once."""

from __future__ import annotations


class FleetError(Exception):
    """Not one bag can be measured as asked; says what was expected, what came and what to do."""


class ResultError(FleetError):
    """A stored result is not one; it is made anew."""
