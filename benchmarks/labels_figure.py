"""What few labels leave of the quality: a line a row, a dot a share of the labels, a bar one deviation.

Shares stand side by side, not to scale. SVG like `results_figure`, a function of the records alone.
"""

from __future__ import annotations

import itertools
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from benchmarks import results_figure
from benchmarks.claims import QUALITY

SHOWN = {
    "dropout": "modality dropout, which learns of the labelled frames alone",
    "robult": "Robult's parts, which learn of the others too",
}
"""Row -> what it is; the last lies on top."""

WIDTH, HEIGHT, LEFT, RIGHT, TOP, FOOT = 900, 400, 76, 40, 96, 64
HIGHEST = 80.0
APART = 16.0
"""Between the dots of two rows at one share, so that neither bar hides the other."""
STYLE = (
    results_figure.STYLE
    + """
  .line { fill: none !important; stroke-width: 2 }
  .robult { fill: #0a7f5a; stroke: #0a7f5a }
  @media (prefers-color-scheme: dark) { .robult { fill: #3fc79a; stroke: #3fc79a } }
"""
)


def figure(records: Sequence[Mapping[str, Any]]) -> str:
    """SVG of the mean over patterns, in percent.

    Args:
        records: of the study, of one data set, class set and budget, with all shares of the labels.
    """
    values: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        if record["metric"] == QUALITY and record["pattern"] == "mean" and record["row"] in SHOWN:
            values[record["row"]][float(record["labels"])].append(float(record["value"]))
    rows = [row for row in SHOWN if row in values]
    shares = sorted({share for row in rows for share in values[row]})
    parts = [_legend(rows), *_grid(shares)]
    for number, row in enumerate(rows):
        aside = APART * (number - (len(rows) - 1) / 2)
        middle = {share: _x(shares, share) + aside for share in shares}
        means = {share: statistics.fmean(values[row][share]) for share in shares if share in values[row]}
        for one, other in itertools.pairwise(means):
            ends = f"{middle[one]:.1f},{_y(means[one]):.1f} {middle[other]:.1f},{_y(means[other]):.1f}"
            parts.append(f'<polyline class="line {row}" points="{ends}"/>')
        parts += [_dot(row, middle[share], values[row][share]) for share in means]
    label = "Mean foreground mIoU over all subsets of the sensors, by share of the labels"
    return results_figure.svg(WIDTH, HEIGHT, label, STYLE, parts)


def _x(shares: Sequence[float], share: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (shares.index(share) + 0.5) / len(shares)


def _y(percent: float) -> float:
    return HEIGHT - FOOT - (HEIGHT - TOP - FOOT) * percent / HIGHEST


def _legend(rows: Sequence[str]) -> str:
    parts = []
    for number, row in enumerate(rows):
        y = 26 + number * 28
        parts.append(f'<circle class="{row}" cx="24" cy="{y}" r="6"/>')
        words = f'<tspan font-weight="600">{row}</tspan> <tspan class="soft">{escape(SHOWN[row])}</tspan>'
        parts.append(f'<text x="38" y="{y + 5}">{words}</text>')
    return "\n".join(parts)


def _grid(shares: Sequence[float]) -> list[str]:
    parts = []
    for percent in range(0, int(HIGHEST) + 1, 20):
        y = f"{_y(percent):.1f}"
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class="soft" x="{LEFT - 10}" y="{y}" dy="5" text-anchor="end">{percent}</text>')
    bottom = HEIGHT - FOOT + 24
    for share in shares:
        x = f"{_x(shares, share):.1f}"
        parts.append(f'<text x="{x}" y="{bottom}" text-anchor="middle">{share:.0%} of the labels</text>')
    words = "foreground mIoU on the test split, %, mean over all subsets of the sensors"
    return [*parts, f'<text class="soft" x="{LEFT}" y="{HEIGHT - 12}">{words}</text>']


def _dot(row: str, x: float, values: Sequence[float]) -> str:
    mean, spread, title = results_figure.mean_and_spread(row, values)
    dot = f'<circle class="{row}" cx="{x:.1f}" cy="{_y(mean):.1f}" r="6">{title}</circle>'
    if not spread:
        return dot
    ends = f'y1="{_y(mean - spread):.1f}" y2="{_y(mean + spread):.1f}"'
    return f'<line class="bar {row}" {ends} x1="{x:.1f}" x2="{x:.1f}"/>' + dot
