"""What can go wrong while measuring; messages say what was expected, what came, and the mend."""

from __future__ import annotations


class BenchmarkError(Exception):
    """Nothing can be measured as asked, or a file of records is none."""
