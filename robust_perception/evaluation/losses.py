"""Losses of sensors, and how long the output took to do without each and to take it in again.

For a sensor with timeout T a *loss* is a stretch (a, b) between two measurements that arrived one after the
other with b - a > T; where the end of the recording is told, also that from the last measurement to it. A
sensor that starts late was not lost. With the outputs by time of publication:

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
        first_ns: end of the first one after; the end of the recording when none came.
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
    open: bool = False
    """Whether the recording ended before the sensor was back."""


def losses(
    arrivals: Arrivals,
    outputs: Sequence[MadeOutput],
    timeouts_s: Mapping[Modality, float],
    end_ns: int | None = None,
) -> list[Loss]:
    """Every loss of every sensor, by time.

    Args:
        arrivals: see there.
        outputs: in the order of their publication.
        timeouts_s: per sensor.
        end_ns: when the recording ends; None = nobody knows, so only sensors that came back were lost.
    """
    found = []
    silent = quiet(arrivals, timeouts_s, end_ns)
    for modality, ends in arrivals.items():
        timeout_ns = round(timeouts_s[modality] * 1e9)
        for last_ns, first_ns in _silences(ends, timeout_ns):
            found.append(_loss(arrivals, outputs, silent, modality, last_ns, first_ns))
        for last_ns, until_ns in _last_silence(ends, timeout_ns, end_ns):
            degraded = _degraded_at_end(outputs, silent, modality, last_ns, last_ns + timeout_ns)
            found.append(Loss(modality, last_ns, until_ns, degraded, None, None, open=True))
    return sorted(found, key=lambda loss: loss.last_ns)


def quiet(
    arrivals: Arrivals, timeouts_s: Mapping[Modality, float], end_ns: int | None = None
) -> list[tuple[int, int]]:
    """The stretches in which no sensor was alive: from the last timeout until the first frame after."""
    spans: list[tuple[int, int]] | None = None
    for modality in MODALITIES:
        ends = arrivals.get(modality, ())
        if not ends:
            continue
        timeout_ns = round(timeouts_s[modality] * 1e9)
        silences = _silences(ends, timeout_ns) + _last_silence(ends, timeout_ns, end_ns)
        own = [(a + timeout_ns, b) for a, b in silences]
        spans = own if spans is None else _overlaps(spans, own)
    return spans or []


def _silences(ends: Sequence[int], timeout_ns: int) -> list[tuple[int, int]]:
    """Where one sensor said nothing for longer than its timeout, and then spoke again."""
    return [(a, b) for a, b in pairwise(ends) if b - a > timeout_ns]


def _last_silence(ends: Sequence[int], timeout_ns: int, end_ns: int | None) -> list[tuple[int, int]]:
    """Where it said nothing for longer than that at the end of the recording: one stretch, or none."""
    if not ends or end_ns is None or end_ns - max(ends) <= timeout_ns:
        return []
    return [(max(ends), end_ns)]


def _overlaps(left: list[tuple[int, int]], right: list[tuple[int, int]]) -> list[tuple[int, int]]:
    both = [(max(a, c), min(b, d)) for a, b in left for c, d in right]
    return [(start, end) for start, end in both if start < end]


def _loss(
    arrivals: Arrivals,
    outputs: Sequence[MadeOutput],
    silent: Sequence[tuple[int, int]],
    modality: Modality,
    last_ns: int,
    first_ns: int,
) -> Loss:
    reduced = next((o for o in outputs if o.published_ns > last_ns and modality not in o.pattern), None)
    degraded: float | None = math.inf
    if reduced is not None and reduced.published_ns < first_ns:
        degraded = (reduced.published_ns - last_ns) / MS
    elif any(start < first_ns and end > last_ns for start, end in silent):
        degraded = None
    back = next((o for o in outputs if o.published_ns >= first_ns and _uses(o, modality, first_ns)), None)
    if back is None:
        return Loss(modality, last_ns, first_ns, degraded, None, None)
    used_ns = back.measured_ns[modality] + SAME_MS * MS
    frames = sum(first_ns <= end <= used_ns for end in arrivals[modality])
    return Loss(modality, last_ns, first_ns, degraded, frames, (back.published_ns - first_ns) / MS)


def _degraded_at_end(
    outputs: Sequence[MadeOutput],
    silent: Sequence[tuple[int, int]],
    modality: Modality,
    last_ns: int,
    expired_ns: int,
) -> float | None:
    """As of any loss, but None too when the recording had no output after the timeout."""
    reduced = next((o for o in outputs if o.published_ns > last_ns and modality not in o.pattern), None)
    if reduced is not None:
        return (reduced.published_ns - last_ns) / MS
    if any(end > last_ns for _, end in silent) or not any(o.published_ns > expired_ns for o in outputs):
        return None
    return math.inf


def _uses(output: MadeOutput, modality: Modality, since_ns: int) -> bool:
    return modality in output.pattern and output.measured_ns[modality] >= since_ns - SAME_MS * MS
