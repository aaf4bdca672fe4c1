"""What the graph promises, measured on what was seen of a run.

For a sensor with timeout T and period P (the slower of its own and the output's), a *loss* is a stretch
(a, b) between two measurements that arrived one after the other with b - a > T. Then

    degraded after  t - a,  t = publication of the first output after a without the sensor    <= T + P   (p99)
    back within     k,      the first output after b that has the sensor uses its k-th frame
                            counted from b                                                     <= 2

Sensors lost together that leave nobody alive give no reduced output; from the end of the last timeout plus P
until b there must be none at all, and `/diagnostics` must say ERROR. p99 is the smallest value seen that at
least 99 % do not exceed: with fewer than 100 losses it is the largest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from robust_perception.demo.record import Evidence
from robust_perception.evaluation import losses as losses_of
from robust_perception.evaluation.losses import Loss
from robust_perception.faults.script import FaultScript
from robust_perception.vocabulary import ALL_PATTERNS, MODALITIES, Modality, Pattern

MS = 1_000_000
FROZEN = ("freeze", "freeze_stamp")


@dataclass(frozen=True)
class Limits:
    """What the node was asked for.

    Attributes:
        timeouts_s: per modality.
        period_s: the output period: of the sensors, or of the node's rate where that is slower.
        frozen_after_s: how long content may stay identical.
        start_s: from the first frames to the first output of all that spoke.
        least: losses of each sensor that must have been seen, or all of a script that has fewer.
    """

    timeouts_s: Mapping[Modality, float]
    period_s: float
    frozen_after_s: float = 1.0
    start_s: float = 1.0
    least: int = 10


@dataclass(frozen=True)
class Promise:
    """A promise and how it went."""

    name: str
    limit: str
    seen: str
    held: bool


def judge(evidence: Evidence, limits: Limits, script: FaultScript) -> list[Promise]:
    """Every promise, in the order of a reader's interest."""
    found = losses(evidence, limits)
    blackouts = sum(script.silent(fault.at) == set(MODALITIES) for fault in script.faults) // len(MODALITIES)
    least = {m: min(limits.least, len(script.losses(m)) - blackouts) for m in MODALITIES}
    promises = [_degraded(m, found, limits, least[m]) for m in MODALITIES if least[m] > 0]
    promises += [_back(m, found, least[m]) for m in MODALITIES if least[m] > 0]
    promises += [_patterns(evidence, limits, script), _right(evidence, found, limits, script)]
    promises += _blackouts(evidence, limits, script)
    promises += _frozen(evidence, limits, script)
    return [*promises, _start(evidence, limits)]


def losses(evidence: Evidence, limits: Limits) -> list[Loss]:
    """Every loss of every sensor, by time."""
    return losses_of.losses(evidence.arrivals, evidence.outputs, limits.timeouts_s)


def p99(values: Sequence[float]) -> float:
    """The 99th percentile as a value that was seen; NaN of nothing."""
    return float(np.percentile(values, 99, method="inverted_cdf")) if values else math.nan


def quiet(evidence: Evidence, limits: Limits) -> list[tuple[int, int]]:
    """The stretches in which no sensor was alive: from the last timeout until the first frame after."""
    return losses_of.quiet(evidence.arrivals, limits.timeouts_s)


def _degraded(modality: Modality, found: Sequence[Loss], limits: Limits, least: int) -> Promise:
    times = [v.degraded_ms for v in found if v.modality is modality and v.degraded_ms is not None]
    allowed = (limits.timeouts_s[modality] + limits.period_s) * 1e3
    return Promise(
        f"{modality} lost: first output without it",
        f"p99 <= {allowed:.0f} ms (timeout + one period), {least} losses or more",
        f"p99 {p99(times):.0f} ms, median {np.median(times) if times else math.nan:.0f} ms, "
        f"{len(times)} losses",
        len(times) >= least and p99(times) <= allowed,
    )


def _back(modality: Modality, found: Sequence[Loss], least: int) -> Promise:
    own = [loss for loss in found if loss.modality is modality]
    frames = [loss.frames_back for loss in own if loss.frames_back is not None]
    times = [loss.back_ms for loss in own if loss.back_ms is not None]
    most = max(frames, default=0)
    return Promise(
        f"{modality} regained: back in the output",
        f"within 2 of its frames, {least} times or more",
        f"{most} frames at most, p99 {p99(times):.0f} ms after the first, {len(frames)} of {len(own)} times",
        len(frames) == len(own) >= least and most <= 2,
    )


def _patterns(evidence: Evidence, limits: Limits, script: FaultScript) -> Promise:
    wanted = visited(script, max(limits.timeouts_s.values()) + 2 * limits.period_s)
    seen = {output.pattern for output in evidence.outputs}
    missing = ", ".join(str(p) for p in ALL_PATTERNS if p in wanted - seen)
    return Promise(
        "every pattern of the script gives output",
        f"{len(wanted)} patterns",
        f"{len(wanted & seen)} patterns" + (f"; not seen: {missing}" if missing else ""),
        not missing,
    )


def visited(script: FaultScript, least_s: float) -> set[Pattern]:
    """The patterns that losses leave for at least `least_s` seconds on end, and that of all sensors."""
    edges = sorted({0.0, *(f.at for f in script.faults), *(f.until for f in script.faults)})
    patterns = {ALL_PATTERNS[0]}
    for start, end in pairwise(edges):
        alive = set(MODALITIES) - {m for m in MODALITIES if any(a <= start < b for a, b in script.losses(m))}
        if alive and end - start >= least_s:
            patterns.add(Pattern.of(alive))
    return patterns


def _right(evidence: Evidence, found: Sequence[Loss], limits: Limits, script: FaultScript) -> Promise:
    """Outputs away from every change must have exactly the pattern of the sensors that speak."""
    period_ns = round(limits.period_s * 1e9)
    changing: dict[Modality, list[tuple[int, int]]] = {m: [] for m in MODALITIES}
    gone: dict[Modality, list[tuple[int, int]]] = {m: [] for m in MODALITIES}
    for loss in found:
        settled_ns = loss.last_ns + round(limits.timeouts_s[loss.modality] * 1e9) + period_ns
        changing[loss.modality] += [
            (loss.last_ns, settled_ns),
            (loss.first_ns, loss.first_ns + 4 * period_ns),
        ]
        gone[loss.modality].append((settled_ns, loss.first_ns))
    for modality, start, end in _freezes(evidence, script):
        changing[modality].append((start, end + 4 * period_ns))
    begun = max((ends[0] for ends in evidence.arrivals.values() if ends), default=0)
    judged = right = 0
    for output in evidence.outputs:
        at = output.published_ns
        if at < begun + limits.start_s * 1e9 or any(_within(at, spans) for spans in changing.values()):
            continue
        judged += 1
        speaking = {m for m in MODALITIES if evidence.arrivals[m] and not _within(at, gone[m])}
        right += set(output.pattern) == speaking
    return Promise(
        "the pattern is that of the sensors that speak, away from changes",
        "all outputs",
        f"{right} of {judged} outputs",
        right == judged > 0,
    )


def _within(at_ns: int, spans: Sequence[tuple[int, int]]) -> bool:
    return any(start <= at_ns <= end for start, end in spans)


def _freezes(evidence: Evidence, script: FaultScript) -> list[tuple[Modality, int, int]]:
    origin = evidence.origin_ns
    if origin is None:
        return []
    return [
        (fault.sensor, origin + round(fault.at * 1e9), origin + round(fault.until * 1e9))
        for fault in script.faults
        if fault.kind in FROZEN and math.isfinite(fault.until)
    ]


def _blackouts(evidence: Evidence, limits: Limits, script: FaultScript) -> list[Promise]:
    period_ns = round(limits.period_s * 1e9)
    spans = [
        (start + period_ns, end) for start, end in quiet(evidence, limits) if end - start > 2 * period_ns
    ]
    wanted = any(script.silent(fault.at) == set(MODALITIES) for fault in script.faults)
    if not wanted and not spans:
        return []
    stray = sum(_within(output.published_ns, spans) for output in evidence.outputs)
    told = [any(r.error and start <= r.at_ns <= end for r in evidence.reports) for start, end in spans]
    after = [next((o for o in evidence.outputs if o.published_ns > end), None) for _, end in spans]
    waits = [(o.published_ns - end) / MS for o, (_, end) in zip(after, spans, strict=True) if o is not None]
    allowed = 2 * limits.period_s * 1e3
    return [
        Promise(
            "all sensors lost: no output",
            "0 outputs",
            f"{stray} in {len(spans)} blackouts",
            bool(spans) and not stray,
        ),
        Promise(
            "all sensors lost: /diagnostics says ERROR",
            "in every blackout",
            f"{sum(told)} of {len(spans)}",
            bool(spans) and all(told),
        ),
        Promise(
            "after that: output again",
            f"within 2 frames and one period, {allowed + limits.period_s * 1e3:.0f} ms",
            f"{max(waits, default=math.nan):.0f} ms, {len(waits)} of {len(spans)} times",
            bool(spans) and len(waits) == len(spans) and max(waits) <= allowed + limits.period_s * 1e3,
        ),
    ]


def _frozen(evidence: Evidence, limits: Limits, script: FaultScript) -> list[Promise]:
    promises = []
    for modality, start, end in _freezes(evidence, script):
        without = [o.published_ns for o in evidence.outputs if modality not in o.pattern]
        seen = next(((at - start) / MS for at in without if start < at <= end), math.inf)
        # Up to a period before the first frozen frame, one until the first beyond the limit, one to say so.
        allowed = (limits.frozen_after_s + 3 * limits.period_s) * 1e3
        promises.append(
            Promise(
                f"{modality} frozen: left out",
                f"<= {allowed:.0f} ms (frozen_after + three periods)",
                f"{seen:.0f} ms",
                seen <= allowed,
            )
        )
    return promises


def _start(evidence: Evidence, limits: Limits) -> Promise:
    # The node may hear a sensor before the recorder does: what went into an output has been there.
    used = [(m, end) for output in evidence.outputs for m, end in output.measured_ns.items()]
    heard = [(m, end) for m, ends in evidence.arrivals.items() for end in ends[:1]]
    spoken: dict[Modality, int] = {}
    for modality, end in used + heard:
        spoken[modality] = min(end, spoken.get(modality, end))
    first = next((o for o in evidence.outputs if set(o.pattern) == set(spoken)), None)
    took = math.inf if first is None or not spoken else (first.published_ns - max(spoken.values())) / 1e9
    return Promise(
        "cold start: output of all sensors after their first frames",
        f"<= {limits.start_s:.1f} s",
        f"{took:.2f} s",
        took <= limits.start_s,
    )
