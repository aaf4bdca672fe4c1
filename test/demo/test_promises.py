"""Every promise holds for a graph that keeps it, and breaks for one that does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import graph_of_paper as paper
import pytest
from graph_of_paper import LIMITS, ORIGIN, S

from robust_perception.demo.promises import Promise, judge, losses, p99, visited
from robust_perception.demo.record import Evidence
from robust_perception.faults.file import parse
from robust_perception.faults.script import FaultScript
from robust_perception.vocabulary import ALL_PATTERNS, MODALITIES, Modality, Pattern

SCRIPT = """
faults:
  - {at: 2.0, until: 3.2, sensor: rgb, fault: loss}
  - {at: 5.0, until: 6.2, sensor: [depth, audio], fault: loss}
  - {at: 8.0, until: 9.2, sensor: thermal, fault: loss}
  - {at: 11.0, until: 13.0, sensor: all, fault: loss}
  - {at: 15.0, until: 18.0, sensor: depth, fault: freeze}
"""
SECONDS = 20.0


@pytest.fixture
def script() -> FaultScript:
    faults, seed = parse(SCRIPT, "script")
    return FaultScript(faults, seed)


@pytest.fixture
def good(script: FaultScript) -> Evidence:
    return paper.evidence(script, SECONDS)


def broken(promises: Sequence[Promise]) -> list[str]:
    return [promise.name for promise in promises if not promise.held]


def believe_all(evidence: Evidence, start_s: float, end_s: float) -> None:
    """Between two times, outputs as if every sensor had gone on."""
    start, end = ORIGIN + start_s * S, ORIGIN + end_s * S
    evidence.outputs = [
        replace(o, pattern=ALL_PATTERNS[0], measured_ns=dict.fromkeys(MODALITIES, o.stamp_ns))
        if start < o.published_ns < end
        else o
        for o in evidence.outputs
    ]


def test_a_good_graph_keeps_them_all(good: Evidence, script: FaultScript) -> None:
    promises = judge(good, LIMITS, script)
    assert broken(promises) == []
    names = " / ".join(promise.name for promise in promises)
    for words in ("rgb lost", "audio regained", "no output", "ERROR", "depth frozen", "cold start"):
        assert words in names


def test_figures_of_one_loss(good: Evidence) -> None:
    (loss,) = [v for v in losses(good, LIMITS) if v.modality is Modality.RGB and v.last_ns < ORIGIN + 4 * S]
    assert (loss.last_ns - ORIGIN, loss.first_ns - ORIGIN) == (1.9 * S, 3.2 * S)
    assert loss.degraded_ms == pytest.approx(340.0)
    assert (loss.frames_back, loss.back_ms) == (2, pytest.approx(140.0))


def test_an_output_too_late_after_a_loss(good: Evidence, script: FaultScript) -> None:
    start, end = ORIGIN + 2.15 * S, ORIGIN + 2.5 * S
    good.outputs = [o for o in good.outputs if not start < o.published_ns < end]
    assert broken(judge(good, LIMITS, script)) == ["rgb lost: first output without it"]


def test_a_loss_that_is_never_noticed(good: Evidence, script: FaultScript) -> None:
    believe_all(good, 7.9, 9.3)
    names = broken(judge(good, LIMITS, script))
    assert "thermal lost: first output without it" in names
    assert "the pattern is that of the sensors that speak, away from changes" in names
    assert "every pattern of the script gives output" in names


def test_a_sensor_that_takes_three_frames_to_come_back(good: Evidence, script: FaultScript) -> None:
    good.outputs = [
        paper.without(o, Modality.RGB) if ORIGIN + 3.2 * S < o.published_ns < ORIGIN + 3.4 * S else o
        for o in good.outputs
    ]
    assert broken(judge(good, LIMITS, script)) == ["rgb regained: back in the output"]


def test_a_stray_output_while_nobody_speaks(good: Evidence, script: FaultScript) -> None:
    at = ORIGIN + 12 * S
    good.outputs.append(paper.output(at, {Modality.RGB: at - S}))
    good.outputs.sort(key=lambda o: o.published_ns)
    assert "all sensors lost: no output" in broken(judge(good, LIMITS, script))


def test_diagnostics_that_keep_quiet(good: Evidence, script: FaultScript) -> None:
    good.reports = [report._replace(error=False) for report in good.reports]
    assert broken(judge(good, LIMITS, script)) == ["all sensors lost: /diagnostics says ERROR"]


def test_a_frozen_picture_that_is_believed(good: Evidence, script: FaultScript) -> None:
    believe_all(good, 15, 18)
    assert broken(judge(good, LIMITS, script)) == ["depth frozen: left out"]


def test_a_slow_start(good: Evidence, script: FaultScript) -> None:
    good.outputs = [o for o in good.outputs if o.published_ns > ORIGIN + 1.2 * S]
    promises = judge(good, LIMITS, script)
    assert "cold start: output of all sensors after their first frames" in broken(promises)


def test_no_output_at_all(good: Evidence, script: FaultScript) -> None:
    good.outputs = []
    names = broken(judge(good, LIMITS, script))
    assert {"rgb lost: first output without it", "every pattern of the script gives output"} <= set(names)


def test_too_few_losses_prove_nothing(good: Evidence) -> None:
    unseen = [f"  - {{at: {at}, until: {at + 1}, sensor: rgb, fault: loss}}\n" for at in (30, 33)]
    faults, _ = parse(SCRIPT + "".join(unseen), "script")
    promises = judge(good, LIMITS, FaultScript(faults))
    assert "rgb lost: first output without it" in broken(promises)


def test_percentile_is_a_value_that_was_seen() -> None:
    assert p99([1.0, 2.0, 3.0]) == 3.0
    assert p99([*range(1, 101)]) == 99.0, "99 % do not exceed it"
    assert p99([*range(1, 201)]) == 198.0
    assert p99([1.0, float("inf")]) == float("inf")
    assert p99([]) != p99([])


def test_patterns_of_the_shipped_script_are_all_fifteen() -> None:
    from robust_perception.ros.fault_scripts import load_script

    script = load_script("demo")
    assert visited(script, 1.0) == set(ALL_PATTERNS)
    for modality in MODALITIES:
        assert len(script.losses(modality)) >= 11, "ten losses and the blackout"


def test_short_windows_visit_no_pattern() -> None:
    faults, _ = parse("faults: [{at: 1.0, until: 1.3, sensor: rgb, fault: loss}]", "script")
    assert visited(FaultScript(faults), 0.5) == {Pattern(15)}
