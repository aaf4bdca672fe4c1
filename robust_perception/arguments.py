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
    value = int(text)
    if value < 1:
        msg = f"expected a positive number, got {text}"
        raise argparse.ArgumentTypeError(msg)
    return value


def rate(text: str) -> float:
    """Read frames a second, above 0 and up to 1000."""
    value = float(text)
    if not 0 < value <= 1000:
        msg = f"expected a rate above 0 and up to 1000 frames a second, got {text}"
        raise argparse.ArgumentTypeError(msg)
    return value
