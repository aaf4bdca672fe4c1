"""The study as a picture: what is left of the quality when sensors are lost, a line a pattern, a dot a row.

A dot is the mean over seeds, the bar through it one standard deviation to either side. The picture is SVG
without anything from outside, in light and dark, and a function of the records alone.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from benchmarks.claims import QUALITY, patterns_in

SHOWN = {
    "base": "trained with all sensors; a missing one is zero",
    "dedicated": "a network of its own for every pattern",
    "dropout": "modality dropout",
    "joint-adapters": "one network with the four papers' parts",
    "balanced": "dropout, rare classes oftener",
    "joint-balanced": "three papers' parts, rare classes oftener",
}
"""Row -> what it is, in the order of the legend; the last lies on top."""

WIDTH, LEFT, RIGHT, TOP, LINE, FOOT = 900, 190, 24, 132, 38, 46
STYLE = """
  text { font: 15px system-ui, sans-serif; fill: #1f2937 }
  .soft { fill: #57606a; font-size: 13px }
  .grid { stroke: #d0d7de }
  .track { stroke: #d0d7de; stroke-width: 3; stroke-linecap: round }
  .bar { stroke-width: 2 }
  .base { fill: #8a94a0; stroke: #8a94a0 }
  .dropout { fill: #d97706; stroke: #d97706 }
  .dedicated { fill: none; stroke: #1f2937; stroke-width: 2 }
  .joint-adapters { fill: #0072b2; stroke: #0072b2 }
  .balanced { fill: #92400e; stroke: #92400e }
  .joint-balanced { fill: #0a7f5a; stroke: #0a7f5a }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .soft { fill: #9aa4af }
    .grid, .track { stroke: #30363d }
    .dropout { fill: #f0a33c; stroke: #f0a33c }
    .dedicated { stroke: #e6edf3 }
    .joint-adapters { fill: #4aa8e8; stroke: #4aa8e8 }
    .balanced { fill: #d08a5b; stroke: #d08a5b }
    .joint-balanced { fill: #3fc79a; stroke: #3fc79a }
  }
"""


def figure(records: Sequence[Mapping[str, Any]]) -> str:
    """SVG of one data set, class set, share of labels and budget.

    Args:
        records: of the study, those that follow for `dedicated` included.
    """
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    for record in records:
        if record["metric"] == QUALITY:
            values[record["row"], record["pattern"]].append(float(record["value"]))
    patterns = [*patterns_in(records), "mean"]
    rows = [row for row in SHOWN if any((row, pattern) in values for pattern in patterns)]
    height = TOP + LINE * len(patterns) + FOOT
    parts = [_legend(rows), *_grid(TOP - 12, height - FOOT + 4)]
    for number, pattern in enumerate(patterns):
        y = TOP + LINE * (number + 0.5)
        there = [(row, values[row, pattern]) for row in rows if (row, pattern) in values]
        weight = ' font-weight="600"' if pattern == "mean" else ""
        name = escape(pattern.replace("+", " + "))
        parts.append(f'<text x="{LEFT - 16}" y="{y + 5:.1f}" text-anchor="end"{weight}>{name}</text>')
        means = [statistics.fmean(found) for _, found in there]
        if means:
            ends = f'x1="{_x(min(means)):.1f}" x2="{_x(max(means)):.1f}"'
            parts.append(f'<line class="track" {ends} y1="{y:.1f}" y2="{y:.1f}"/>')
        parts += [_dot(row, found, y) for row, found in there]
    label = "Foreground mIoU under every subset of the sensors, by way of training"
    return svg(WIDTH, height, label, STYLE, parts)


def svg(width: int, height: int, label: str, style: str, parts: Sequence[str]) -> str:
    """A picture of these parts, which says `label` to those who do not see it."""
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{label}">\n<style>{style}</style>\n{body}\n</svg>\n'
    )


def mean_and_spread(row: str, values: Sequence[float]) -> tuple[float, float, str]:
    """Mean and standard deviation (0 of one value), and the words that a dot shows when it is pointed at."""
    mean = statistics.fmean(values)
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return mean, spread, f"<title>{escape(row)}: {mean:.1f}{f' ± {spread:.1f}' if spread else ''} %</title>"


def _x(percent: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * percent / 100.0


def _legend(rows: Sequence[str]) -> str:
    parts = []
    for number, row in enumerate(rows):
        x, y = 24 + (number % 2) * 440, 26 + (number // 2) * 28
        parts.append(f'<circle class="{row}" cx="{x}" cy="{y}" r="6"/>')
        words = f'<tspan font-weight="600">{row}</tspan> <tspan class="soft">{escape(SHOWN[row])}</tspan>'
        parts.append(f'<text x="{x + 14}" y="{y + 5}">{words}</text>')
    return "\n".join(parts)


def _grid(top: float, bottom: float) -> list[str]:
    parts = []
    for percent in range(0, 101, 20):
        x = f"{_x(percent):.1f}"
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{top}" y2="{bottom}"/>')
        parts.append(f'<text class="soft" x="{x}" y="{bottom + 18}" text-anchor="middle">{percent}</text>')
    middle = f"{_x(50):.1f}"
    words = "foreground mIoU on the test split, %"
    return [*parts, f'<text class="soft" x="{middle}" y="{bottom + 36}" text-anchor="middle">{words}</text>']


def _dot(row: str, values: Sequence[float], y: float) -> str:
    mean, spread, title = mean_and_spread(row, values)
    radius = 9 if row == "dedicated" else 6  # a ring, to be seen around a dot in the same place
    dot = f'<circle class="{row}" cx="{_x(mean):.1f}" cy="{y:.1f}" r="{radius}">{title}</circle>'
    if not spread:
        return dot
    ends = f'x1="{_x(mean - spread):.1f}" x2="{_x(mean + spread):.1f}"'
    return f'<line class="bar {row}" {ends} y1="{y:.1f}" y2="{y:.1f}"/>' + dot
