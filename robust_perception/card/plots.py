"""The pictures of a card as SVG text; their colours are CSS classes of the page, in light and dark."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import pairwise
from statistics import median
from typing import Any

WIDTH, LEFT, RIGHT = 1080, 74, 14
LANE, GAP = 18, 8
PLOT = 150
SIDE, MARGIN = 118, 30
HELD_S, HELD_PERIODS = 0.35, 1.5
"""An output stands for the time until the next one, but for no longer than the longer of the two."""


def course(content: Mapping[str, Any], sensors: Sequence[str]) -> str:
    """Quality over time: a lane a sensor, when it took part and when it was lost; mIoU of every output."""
    points, end_s = content["points"], max(float(content["seconds"]), 0.1)
    held_s = _held_s(content["without_losses"])

    def x(time_s: float) -> float:
        return LEFT + min(max(time_s, 0.0), end_s) / end_s * (WIDTH - LEFT - RIGHT)

    parts: list[str] = []
    y: float = 6.0
    for sensor in sensors:
        parts.append(_text("name", LEFT - 10, y + LANE * 0.72, sensor, "end"))
        parts.append(_rect("none", x(0), x(end_s), y, LANE))
        for start, stop in _together(points, sensor, held_s):
            parts.append(_rect(f"s-{sensor}", x(start), x(stop), y, LANE))
        for fault in content["faults"]:
            if fault["sensor"] == sensor:
                left, right = x(fault["at"]), x(fault["until"])
                parts.append(_rect("gone", left, right, y, LANE))
                parts.append(_text("silent", (left + right) / 2, y + LANE * 0.72, "silent", "middle"))
        y += LANE + GAP
    top = y + 14

    def height(value: float) -> float:
        return top + PLOT * (1.0 - value / 100.0)

    for percent in (0, 25, 50, 75, 100):
        level = height(percent)
        parts.append(_line("grid", x(0), x(end_s), level, level))
        parts.append(_text("tick", LEFT - 8, level + 4, str(percent), "end"))
    parts.append(_upright(16, top + PLOT / 2, "foreground mIoU, %"))
    step = 1 if end_s <= 12 else 2 if end_s <= 30 else 5 if end_s <= 80 else 20
    for second in range(0, math.floor(end_s) + 1, step):
        parts.append(_line("grid", x(second), x(second), top, top + PLOT + 4))
        parts.append(_text("tick", x(second), top + PLOT + 18, str(second), "middle"))
    parts.append(_text("tick", x(end_s / 2), top + PLOT + 36, "time, s", "middle"))
    for segment in _segments(content["without_losses"], held_s):
        path = " ".join(f"{x(t):.1f},{height(v):.1f}" for t, v in segment)
        parts.append(f'<polyline class="whole" points="{path}"/>')
    for segment in _segments(points, held_s):
        path = " ".join(f"{x(t):.1f},{height(v):.1f}" for t, v in segment)
        parts.append(f'<polyline class="line" points="{path}"/>')
    for point in points:
        if point["foreground_miou"] is not None:
            at, value = x(point["time_s"]), height(point["foreground_miou"])
            words = f"{point['time_s']:.1f} s: {point['foreground_miou']:.1f} % from {point['pattern']}"
            parts.append(_circle("dot", at, value, 2.0, words))
    return _svg("course", WIDTH, top + PLOT + 44, "sensors and foreground mIoU over time", parts)


def reliability(content: Mapping[str, Any] | None, what: str, truth: str) -> str:
    """A reliability diagram: confidence across, truth up; area of a dot = how many."""
    parts = []

    def x(value: float) -> float:
        return MARGIN + value * SIDE

    def y(value: float) -> float:
        return 6 + (1.0 - value) * SIDE

    parts.append(_rect("field", x(0), x(1), y(1), SIDE))
    for value in (0.0, 0.5, 1.0):
        parts.append(_text("tick", x(value), y(0) + 13, f"{value:g}", "middle"))
        parts.append(_text("tick", x(0) - 4, y(value) + 4, f"{value:g}", "end"))
    parts.append(_line("grid", x(0.5), x(0.5), y(0), y(1)))
    parts.append(_line("grid", x(0), x(1), y(0.5), y(0.5)))
    parts.append(f'<line class="ideal" x1="{x(0)}" y1="{y(0)}" x2="{x(1)}" y2="{y(1)}"/>')
    parts.append(_text("tick", x(0.5), y(0) + 26, what, "middle"))
    parts.append(_upright(9, y(0.5), truth))
    if content is None:
        parts.append(_text("tick", x(0.5), y(0.5) - 4, "not known", "middle"))
    else:
        for said, right in content.get("points", ()):
            parts.append(_circle("sample", x(said), y(right), 2.2))
        if "points" not in content:
            path = " ".join(f"{x(b['confidence']):.1f},{y(b['truth']):.1f}" for b in content["bins"])
            parts.append(f'<polyline class="line" points="{path}"/>')
            most = max(b["count"] for b in content["bins"])
            for each in content["bins"]:
                radius = 1.6 + 4.4 * math.sqrt(each["count"] / most)
                words = f"{each['count']}: said {each['confidence']:.2f}, true {each['truth']:.2f}"
                parts.append(_circle("bin", x(each["confidence"]), y(each["truth"]), radius, words))
    return _svg("reliability", MARGIN + SIDE + 8, SIDE + 38, f"{truth} against {what}", parts)


def _held_s(points: Sequence[Mapping[str, Any]]) -> float:
    """How long an output stands at most, by how often there is one."""
    times = [point["time_s"] for point in points]
    periods = [b - a for a, b in pairwise(times)]
    return max(HELD_S, HELD_PERIODS * median(periods)) if periods else HELD_S


def _together(
    points: Sequence[Mapping[str, Any]], sensor: str, held_s: float
) -> Iterator[tuple[float, float]]:
    """Stretches in which a sensor took part in the output, seconds."""
    start: float | None = None
    until = 0.0
    for point in points:
        at, part = point["time_s"], sensor in point["pattern"].split("+")
        if start is not None and (not part or at > until):
            yield start, min(at, until)
            start = None
        if part:
            start, until = at if start is None else start, at + held_s
    if start is not None:
        yield start, until


def _segments(points: Sequence[Mapping[str, Any]], held_s: float) -> Iterator[list[tuple[float, float]]]:
    """The line through the outputs, interrupted where there is none for `held_s`."""
    segment: list[tuple[float, float]] = []
    for point in points:
        if point["foreground_miou"] is None:
            continue
        if segment and point["time_s"] - segment[-1][0] > held_s:
            yield segment
            segment = []
        segment.append((point["time_s"], point["foreground_miou"]))
    if segment:
        yield segment


def _svg(kind: str, width: float, height: float, label: str, parts: Sequence[str]) -> str:
    body = "\n".join(parts)
    return (
        f'<svg class="{kind}" viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape(label)}">'
        f"\n{body}\n</svg>"
    )


def _rect(kind: str, left: float, right: float, y: float, height: float) -> str:
    width = max(0.5, right - left)
    return f'<rect class="{kind}" x="{left:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"/>'


def _circle(kind: str, x: float, y: float, radius: float, words: str = "") -> str:
    title = f"<title>{escape(words)}</title>" if words else ""
    return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}">{title}</circle>'


def _line(kind: str, x1: float, x2: float, y1: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" x2="{x2:.1f}" y1="{y1:.1f}" y2="{y2:.1f}"/>'


def _text(kind: str, x: float, y: float, words: str, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _upright(x: float, y: float, words: str) -> str:
    place = f'transform="translate({x:.1f} {y:.1f}) rotate(-90)"'
    return f'<text class="tick" {place} text-anchor="middle">{escape(words)}</text>'
