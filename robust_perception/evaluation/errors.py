"""What can go wrong in an evaluation."""

from __future__ import annotations


class EvaluationError(Exception):
    """Model and data do not fit together; says what each of them has."""
