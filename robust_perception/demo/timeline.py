"""The run as one picture: who spoke, what the output was made from, how good it was, how long it took.

From top to bottom, over the seconds of the run: a lane for every sensor (one colour where it took part in the
output, another where it did not, what the fault script did to it above), the agreement with the truth and the
latency (a dot for every output, a line for the mean over one second).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from html import escape
from itertools import pairwise

import numpy as np

from robust_perception.demo.record import Evidence, Output
from robust_perception.faults.script import FaultScript
from robust_perception.vocabulary import MODALITIES, Modality, Pattern

WIDTH, LEFT, RIGHT = 1200, 92, 16
LANE, GAP = 24, 18
PLOT = 120
SMOOTH_S = 1.0
HELD_S = 0.5
"""An output stands for the time until the next one, but for no longer than this."""


def draw(evidence: Evidence, script: FaultScript, latency_limit_ms: float) -> str:
    """The timeline as SVG text, `WIDTH` units wide; its colours are CSS classes of the report's page.

    Args:
        evidence: of the run.
        script: what happened to the sensors.
        latency_limit_ms: top of the latency plot, unless an output took longer.
    """
    outputs = evidence.outputs
    origin = evidence.origin_ns or (outputs[0].published_ns if outputs else 0)
    end_s = max([script_end(script), *((o.published_ns - origin) / 1e9 for o in outputs[-1:]), 1.0])

    def x(time_s: float) -> float:
        return LEFT + min(max(time_s, 0.0), end_s) / end_s * (WIDTH - LEFT - RIGHT)

    parts: list[str] = []
    y = 8.0
    for modality in MODALITIES:
        parts += _lane(evidence, script, modality, origin, x, y + GAP - 4)
        y += LANE + GAP
    top = y + GAP
    parts += _axis(x, end_s, 8.0, top + 2 * (PLOT + 2 * GAP))
    parts += _plot(_qualities(outputs, origin), x, top, 100.0, "agreement", "% mIoU")
    top += PLOT + 2 * GAP
    latencies = [((o.published_ns - origin) / 1e9, o.latency_ms) for o in outputs]
    highest = max([latency_limit_ms, *(value for _, value in latencies)])
    parts += _plot(latencies, x, top, float(np.ceil(highest / 50.0) * 50.0), "latency", "ms")
    height = top + PLOT + 2 * GAP + 24
    body = "\n".join(parts)
    label = "timeline of sensors, agreement with the truth and latency"
    return (
        f'<svg class="timeline" viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{label}" '
        f'xmlns="http://www.w3.org/2000/svg">\n{body}\n</svg>'
    )


def script_end(script: FaultScript) -> float:
    """When the script's last window is over, or has begun where it has no end, seconds."""
    return max((f.until if np.isfinite(f.until) else f.at for f in script.faults), default=0.0)


def stretches(
    outputs: Sequence[Output], modality: Modality, origin_ns: int
) -> Iterator[tuple[float, float, bool]]:
    """Start, end in seconds and whether the sensor took part, joined over outputs that say the same."""
    start: float | None = None
    part = False
    until = 0.0
    for output in outputs:
        at = (output.published_ns - origin_ns) / 1e9
        now = modality in output.pattern
        if start is not None and (now != part or at > until):
            yield start, min(at, until), part
            start = None
        if start is None:
            start, part = at, now
        until = at + HELD_S
    if start is not None:
        yield start, until, part


def _lane(
    evidence: Evidence,
    script: FaultScript,
    modality: Modality,
    origin: int,
    x: Callable[[float], float],
    y: float,
) -> Iterator[str]:
    yield f'<text class="name" x="{LEFT - 10}" y="{y + LANE * 0.7:.1f}" text-anchor="end">{modality}</text>'
    yield f'<rect class="none" x="{x(0):.1f}" y="{y:.1f}" width="{WIDTH - LEFT - RIGHT}" height="{LANE}"/>'
    for start, end, part in stretches(evidence.outputs, modality, origin):
        words = "takes part" if part else "left out"
        yield (
            f'<rect class="{"in" if part else "out"}" x="{x(start):.1f}" y="{y:.1f}" '
            f'width="{max(0.5, x(end) - x(start)):.1f}" height="{LANE}">'
            f"<title>{modality} {words}, {start:.1f} to {end:.1f} s</title></rect>"
        )
    for fault in script.faults:
        if fault.sensor is not modality:
            continue
        left, right = x(fault.at), x(fault.until)
        until = f"to {fault.until:.1f} s" if np.isfinite(fault.until) else "s on"
        yield (
            f'<rect class="fault" x="{left:.1f}" y="{y - 5:.1f}" width="{right - left:.1f}" height="3">'
            f"<title>{escape(fault.kind)}, {fault.at:.1f} {until}</title></rect>"
        )
        if fault.kind != "loss":
            yield f'<text class="kind" x="{left:.1f}" y="{y - 8:.1f}">{escape(fault.kind)}</text>'


def _qualities(outputs: Sequence[Output], origin: int) -> list[tuple[float, float]]:
    return [((o.published_ns - origin) / 1e9, o.quality) for o in outputs if o.quality is not None]


def _axis(x: Callable[[float], float], end_s: float, top: float, bottom: float) -> Iterator[str]:
    for second in range(0, int(end_s) + 1, 10):
        yield _line(x(second), x(second), top, bottom + 4)
        yield _text("tick", x(second), bottom + 16, f"{second} s", "middle")


def _plot(
    points: Sequence[tuple[float, float]],
    x: Callable[[float], float],
    top: float,
    highest: float,
    name: str,
    unit: str,
) -> Iterator[str]:
    def y(value: float) -> float:
        return top + PLOT * (1.0 - value / highest)

    yield _text("name", LEFT - 10, top + 4, name, "end")
    yield _text("tick", LEFT - 10, top + 18, unit, "end")
    for value in (0.0, highest / 2, highest):
        yield _line(x(0), WIDTH - RIGHT, y(value), y(value))
        if value < highest:
            yield _text("tick", LEFT - 10, y(value) + 4, f"{value:.0f}", "end")
        else:
            yield _text("tick", LEFT + 4, y(value) - 3, f"{value:.0f}")
    for time_s, value in points:
        yield f'<circle class="dot" cx="{x(time_s):.1f}" cy="{y(value):.1f}" r="1.2"/>'
    for segment in _smooth(points):
        path = " ".join(f"{x(time_s):.1f},{y(value):.1f}" for time_s, value in segment)
        yield f'<polyline class="line" points="{path}"/>'


def _line(x1: float, x2: float, y1: float, y2: float) -> str:
    return f'<line class="grid" x1="{x1:.1f}" x2="{x2:.1f}" y1="{y1:.1f}" y2="{y2:.1f}"/>'


def _text(kind: str, x: float, y: float, words: str, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _smooth(points: Sequence[tuple[float, float]]) -> Iterator[list[tuple[float, float]]]:
    """Means over `SMOOTH_S`, in segments that end where nothing was published for `HELD_S`."""
    times = np.array([time_s for time_s, _ in points])
    values = np.array([value for _, value in points])
    segment: list[tuple[float, float]] = []
    for index, time_s in enumerate(times):
        if index and time_s - times[index - 1] > HELD_S and segment:
            yield segment
            segment = []
        near = np.abs(times - time_s) <= SMOOTH_S / 2
        segment.append((float(time_s), float(values[near].mean())))
    if segment:
        yield segment


def changes(outputs: Sequence[Output]) -> list[tuple[Pattern | None, Output]]:
    """The first output, and every output whose pattern differs from the one before: (before, output)."""
    found: list[tuple[Pattern | None, Output]] = [(None, outputs[0])] if outputs else []
    found += [(a.pattern, b) for a, b in pairwise(outputs) if a.pattern != b.pattern]
    return found
