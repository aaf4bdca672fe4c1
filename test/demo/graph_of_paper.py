"""Evidence of a graph that keeps every promise, worked out instead of run, to be spoilt by tests."""

from __future__ import annotations

from dataclasses import replace

from robust_perception.demo.promises import Limits
from robust_perception.demo.record import Evidence, Output, Report
from robust_perception.faults.script import FaultScript
from robust_perception.vocabulary import MODALITIES, Modality, Pattern

S = 1_000_000_000
ORIGIN = 1_700_000_000 * S
PERIOD = S // 10
DELAY = 40_000_000
"""From a measurement to the output made of it."""
LIMITS = Limits({m: 0.5 if m is Modality.AUDIO else 0.3 for m in MODALITIES}, period_s=0.1)


def evidence(script: FaultScript, seconds: float) -> Evidence:
    """A run of `seconds` at 10 Hz: an output for every instant, and one when a timeout passes."""
    seen = Evidence(origin_ns=ORIGIN)
    row = dict.fromkeys(MODALITIES, 2)  # good frames in a row: the first ever counts at once
    lost: set[Modality] = set()
    freezes = [f for f in script.faults if f.kind == "freeze"]
    for tick in range(round(seconds * 10)):
        now = ORIGIN + tick * PERIOD
        time_s = tick / 10
        silent = script.silent(time_s)
        for modality in MODALITIES:
            if modality not in silent:
                seen.arrivals[modality].append(now)
                row[modality] += 1
                if row[modality] >= 2:
                    lost.discard(modality)
        frozen = {f.sensor for f in freezes if f.at + 1.05 < time_s < f.until}
        for modality in MODALITIES:
            ends = seen.arrivals[modality]
            timeout = round(LIMITS.timeouts_s[modality] * 1e9)
            if modality not in lost and ends and now - ends[-1] >= timeout:
                lost.add(modality)
                row[modality] = 0
        alive = [m for m in MODALITIES if m not in lost | frozen and seen.arrivals[m]]
        seen.reports.append(Report(now, not alive, "told"))
        if alive:
            seen.outputs.append(output(now + DELAY, {m: seen.arrivals[m][-1] for m in alive}))
    return seen


def output(published_ns: int, measured_ns: dict[Modality, int]) -> Output:
    """An output made of frames that ended at these times."""
    reference = next(m for m in MODALITIES if m in measured_ns)
    return Output(
        published_ns=published_ns,
        stamp_ns=measured_ns[reference],
        turn=0,
        pattern=Pattern.of(measured_ns),
        measured_ns=measured_ns,
        states={m: "alive" if m in measured_ns else "late" for m in MODALITIES},
        rates_hz=dict.fromkeys(MODALITIES, 10.0),
        latency_ms=(published_ns - measured_ns[reference]) / 1e6,
        inference_ms=30.0,
        quality=80.0,
    )


def without(out: Output, modality: Modality) -> Output:
    """The output as if a sensor had not taken part."""
    measured = {m: end for m, end in out.measured_ns.items() if m is not modality}
    return replace(out, pattern=Pattern.of(measured), measured_ns=measured)
