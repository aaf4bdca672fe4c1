"""Losses of sensors, and how long the output took to do without each and to take it in again.

For a sensor with timeout T a *loss* is a stretch (a, b) between two measurements that arrived one after the
other with b - a > T. With the outputs by time of publication:

    degraded   t - a   t = first output after a that does without the sensor
    back       t - b   t = first output after b made of one of its frames from b on; also counted in frames

Sensors lost together that leave nobody alive give no reduced output.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple, Protocol

from robust_perception.vocabulary import MODALITIES, Modality, Pattern

MS = 1_000_000
SAME_MS = 1.0
"""Two times of one measurement may differ by so much through rounding."""

Arrivals = Mapping[Modality, Sequence[int]]
"""Per modality, end of the measurement of every message that arrived, ns, in order."""


class MadeOutput(Protocol):
    """The part of an output that is looked at."""

    @property
    def published_ns(self) -> int:
        """When it was published."""

    @property
    def pattern(self) -> Pattern:
        """What it was made from."""

    @property
    def measured_ns(self) -> Mapping[Modality, int]:
        """Per modality of the pattern, end of the measurement that was used."""


class Loss(NamedTuple):
    """One loss of one sensor.

    Attributes:
        modality: the sensor.
        last_ns: end of the last measurement before.
        first_ns: end of the first one after.
        degraded_ms: to the first output without it; infinite when none came, None when nobody was left.
        frames_back: frames until it took part again; None when it never did.
        back_ms: from `first_ns` to the first output with it.
    """

    modality: Modality
    last_ns: int
    first_ns: int
    degraded_ms: float | None
    frames_back: int | None
    back_ms: float | None


def losses(
    arrivals: Arrivals, outputs: Sequence[MadeOutput], timeouts_s: Mapping[Modality, float]
) -> list[Loss]:
    """Every loss of every sensor, by time; outputs in the order of their publication."""
    found = []
    for modality, ends in arrivals.items():
        timeout_ns = round(timeouts_s[modality] * 1e9)
        for last_ns, first_ns in pairwise(ends):
            if first_ns - last_ns > timeout_ns:
                found.append(_loss(arrivals, outputs, timeouts_s, modality, last_ns, first_ns))
    return sorted(found, key=lambda loss: loss.last_ns)


def quiet(arrivals: Arrivals, timeouts_s: Mapping[Modality, float]) -> list[tuple[int, int]]:
    """The stretches in which no sensor was alive: from the last timeout until the first frame after."""
    spans: list[tuple[int, int]] | None = None
    for modality in MODALITIES:
        ends = arrivals.get(modality, ())
        if not ends:
            continue
        timeout_ns = round(timeouts_s[modality] * 1e9)
        own = [(a + timeout_ns, b) for a, b in pairwise(ends) if b - a > timeout_ns]
        spans = own if spans is None else _overlaps(spans, own)
    return spans or []


def _overlaps(left: list[tuple[int, int]], right: list[tuple[int, int]]) -> list[tuple[int, int]]:
    both = [(max(a, c), min(b, d)) for a, b in left for c, d in right]
    return [(start, end) for start, end in both if start < end]


def _loss(
    arrivals: Arrivals,
    outputs: Sequence[MadeOutput],
    timeouts_s: Mapping[Modality, float],
    modality: Modality,
    last_ns: int,
    first_ns: int,
) -> Loss:
    reduced = next((o for o in outputs if o.published_ns > last_ns and modality not in o.pattern), None)
    degraded: float | None = math.inf
    if reduced is not None and reduced.published_ns < first_ns:
        degraded = (reduced.published_ns - last_ns) / MS
    elif any(start < first_ns and end > last_ns for start, end in quiet(arrivals, timeouts_s)):
        degraded = None
    back = next((o for o in outputs if o.published_ns >= first_ns and _uses(o, modality, first_ns)), None)
    if back is None:
        return Loss(modality, last_ns, first_ns, degraded, None, None)
    used_ns = back.measured_ns[modality] + SAME_MS * MS
    frames = sum(first_ns <= end <= used_ns for end in arrivals[modality])
    return Loss(modality, last_ns, first_ns, degraded, frames, (back.published_ns - first_ns) / MS)


def _uses(output: MadeOutput, modality: Modality, since_ns: int) -> bool:
    return modality in output.pattern and output.measured_ns[modality] >= since_ns - SAME_MS * MS
