"""Values of command lines that several commands read alike; each says what it expected."""

from __future__ import annotations

import argparse

from robust_perception.vocabulary import Pattern


def patterns(text: str) -> list[Pattern]:
    """Read `rgb+thermal,depth`."""
    try:
        return [Pattern.parse(part) for part in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def positive(text: str) -> int:
    """Read a whole number above zero."""
    return _whole(text, 1, "a positive number")


def count(text: str) -> int:
    """Read a whole number from zero on."""
    return _whole(text, 0, "a number from 0 on")


def rate(text: str) -> float:
    """Read frames a second, above 0 and up to 1000."""
    value = float(text)
    if not 0 < value <= 1000:
        msg = f"expected a rate above 0 and up to 1000 frames a second, got {text}"
        raise argparse.ArgumentTypeError(msg)
    return value


def seed(text: str) -> int:
    """Read a seed, a whole number from zero on."""
    return _whole(text, 0, "a seed from 0 on")


def _whole(text: str, least: int, expected: str) -> int:
    value = int(text)
    if value < least:
        msg = f"expected {expected}, got {text}"
        raise argparse.ArgumentTypeError(msg)
    return value
