"""How long one inference takes on this machine, by pattern, with all frames new."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from robust_perception.datasets import Sample
from robust_perception.engine.engine import Engine
from robust_perception.engine.threads import usable_cores
from robust_perception.evaluation.protocol import offline_frame_set
from robust_perception.vocabulary import Pattern


def measure(
    engine: Engine, samples: Sequence[Sample], patterns: Sequence[Pattern], rounds: int
) -> dict[str, Any]:
    """Milliseconds by pattern: median and 95th percentile of `rounds` inferences.

    Patterns take turns, so that a machine that slows down slows all of them.
    """
    spent: dict[Pattern, list[float]] = {pattern: [] for pattern in patterns}
    for turn in range(rounds):
        for pattern, times in spent.items():
            able = [s for s in samples if all(m in s.frames for m in pattern)]
            if able:
                engine.reset()
                frame_set = offline_frame_set(able[turn % len(able)], pattern)
                times.append(engine.infer(frame_set).timings_ms["total"])
    engine.reset()
    rows = {str(pattern): _row(times) for pattern, times in spent.items() if times}
    return {"machine": machine(), "rounds": rounds, "patterns": rows}


def machine() -> str:
    """The machine in words."""
    return f"{platform.system()} {platform.machine()}, {usable_cores()} cores"


def _row(times: Sequence[float]) -> Mapping[str, float]:
    return {"p50_ms": float(np.percentile(times, 50)), "p95_ms": float(np.percentile(times, 95))}
