"""The report of a run: one self-contained HTML page, and its numbers as JSON."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from robust_perception.demo import timeline
from robust_perception.demo.promises import Limits, Promise, losses
from robust_perception.demo.record import Evidence, Output
from robust_perception.faults.script import FaultScript
from robust_perception.vocabulary import ALL_PATTERNS, Pattern

NOTHING = "-"


class Still(NamedTuple):
    """A picture at a change of pattern."""

    time: str
    words: str
    data: str
    """JPEG in base64."""


class Row(NamedTuple):
    """The outputs of one pattern in numbers, as text."""

    pattern: str
    outputs: int
    agreement: str
    scene: str
    latency: str
    p95: str
    inference: str


@dataclass(frozen=True)
class Run:
    """What the report is about."""

    evidence: Evidence
    script: FaultScript
    limits: Limits
    promises: Sequence[Promise]
    facts: Mapping[str, str]
    """What ran: name and value."""


def write(path: Path, run: Run, stills: Mapping[tuple[int, int], bytes], video: str | None) -> None:
    """Write the page.

    Args:
        path: of the page.
        run: what it is about.
        stills: JPEG of an output by its stamp and turn, for every change of pattern.
        video: the film's name beside the page; None without one.
    """
    here = Path(__file__).parent
    pages = Environment(loader=FileSystemLoader(here), autoescape=True, undefined=StrictUndefined)
    longest = max(run.limits.timeouts_s.values()) * 1e3
    text = pages.get_template("report.html").render(
        held=sum(promise.held for promise in run.promises),
        promises=run.promises,
        about=" · ".join(f"{name} {value}" for name, value in run.facts.items()),
        timeline=timeline.draw(run.evidence, run.script, longest),
        rows=rows(run.evidence),
        stills=_stills(run.evidence, stills),
        video=video,
        facts=list(run.facts.items()),
    )
    path.write_text(text, encoding="utf-8")


def write_numbers(path: Path, run: Run) -> None:
    """Write promises, figures by pattern and every loss as JSON; times in ms, of the script in s.

    `degraded_ms` is null where all sensors were lost together, for then no reduced output is possible.
    """
    origin = run.evidence.origin_ns or 0
    content = {
        "facts": dict(run.facts),
        "promises": [asdict(promise) for promise in run.promises],
        "patterns": [row._asdict() for row in rows(run.evidence)],
        "losses": [
            {
                "sensor": str(loss.modality),
                "last_s": (loss.last_ns - origin) / 1e9,
                "first_s": (loss.first_ns - origin) / 1e9,
                "degraded_ms": "never" if loss.degraded_ms == math.inf else loss.degraded_ms,
                "frames_back": loss.frames_back,
                "back_ms": loss.back_ms,
            }
            for loss in losses(run.evidence, run.limits)
        ],
    }
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")


def rows(evidence: Evidence) -> list[Row]:
    """The numbers of every pattern that had output, richest first."""
    by_pattern: dict[Pattern, list[Output]] = {}
    for output in evidence.outputs:
        by_pattern.setdefault(output.pattern, []).append(output)
    return [_row(evidence, p, by_pattern[p]) for p in ALL_PATTERNS if p in by_pattern]


def _row(evidence: Evidence, pattern: Pattern, outputs: Sequence[Output]) -> Row:
    latencies = [output.latency_ms for output in outputs]
    scenes = [output.scene_right for output in outputs if output.scene_right is not None]
    matrix = evidence.by_pattern.get(pattern)
    return Row(
        pattern=str(pattern),
        outputs=len(outputs),
        agreement=NOTHING if matrix is None else f"{matrix.foreground_miou():.1f}",
        scene=f"{100 * np.mean(scenes):.0f}" if scenes else NOTHING,
        latency=f"{np.median(latencies):.0f}",
        p95=f"{np.percentile(latencies, 95):.0f}",
        inference=f"{np.median([output.inference_ms for output in outputs]):.0f}",
    )


def _stills(evidence: Evidence, pictures: Mapping[tuple[int, int], bytes]) -> list[Still]:
    found = []
    origin = evidence.origin_ns or 0
    for before, output in timeline.changes(evidence.outputs):
        data = pictures.get((output.stamp_ns, output.turn))
        if data is None:
            continue
        time = f"{(output.published_ns - origin) / 1e9:.1f}"
        found.append(Still(time, _words(before, output.pattern), base64.b64encode(data).decode()))
    return found


def _words(before: Pattern | None, after: Pattern) -> str:
    if before is None:
        return f"first output: {after}"
    lost = [str(m) for m in before if m not in after]
    back = [str(m) for m in after if m not in before]
    words = [f"{' and '.join(lost)} lost"] if lost else []
    words += [f"{' and '.join(back)} back"] if back else []
    return f"{', '.join(words)}: {after}"
