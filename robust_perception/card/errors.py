"""What can go wrong with a card."""

from __future__ import annotations


class CardError(Exception):
    """A card cannot be made or compared; says what was expected and what came."""
