"""Puts the figures of a run of `robust-perception bench` into its section of docs/performance.md.

    robust-perception bench --json docs/results/bench_cpu.json
    python benchmarks/performance_page.py docs/results/bench_cpu.json docs/performance.md

Replaced is what stands between `<!-- figures of NAME.json -->` and `<!-- end of figures -->`, where NAME.json
is the name of the file with the records; nothing else of the page is touched and no figure of it is typed.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from robust_perception.benchmarking.records import ALL, Report

END = "<!-- end of figures -->"

Variant = tuple[str, str]


def begin(name: str) -> str:
    """The line before the figures of a file."""
    return f"<!-- figures of {name} -->"


def figures(report: Report) -> str:
    """What it was measured on, a table of latencies by pattern and a table of all else by variant."""
    ratios, medians, shares = (
        report.values("latency", metric) for metric in ("ratio", "p50", "ratio_to_full")
    )
    variants = list(dict.fromkeys((backend, precision) for backend, precision, _ in ratios))
    return "\n".join(
        [*_machine(report), "", *_latency(ratios, medians, shares, variants), "", *_rest(report, variants)]
    )


def _machine(report: Report) -> list[str]:
    head, told = report.head, report.head.machine
    versions = ", ".join(f"{name} {version}" for name, version in head.versions.items())
    sets = ", ".join(told["instruction_sets"]) or "no instruction set that matters"
    lines = [
        f"{told['cpu']}, {told['cores']} cores, {told['architecture']} with {sets}; {head.threads} threads; "
        f"model {head.model} ({head.model_sha256[:12]}), input {head.input_sha256[:12]}; "
        f"{head.rounds} rounds; load before {head.load:.1f}; {head.date}; {versions}."
    ]
    return lines + [f"Left out: {reason}." for reason in head.left_out]


def _latency(
    ratios: dict[tuple[str, str, str], float],
    medians: dict[tuple[str, str, str], float],
    shares: dict[tuple[str, str, str], float],
    variants: Sequence[Variant],
) -> list[str]:
    heads = [
        "all frames new",
        *(f"{backend} {precision}" for backend, precision in variants),
        "to the first row",
    ]
    lines = [_row(heads), "|" + "---|" * len(heads)]
    for pattern in dict.fromkeys(pattern for _, _, pattern in ratios):
        keys = [(*variant, pattern) for variant in variants]
        cells = [f"{ratios[k]:.2f} ({medians[k]:.1f} ms)" for k in keys]
        lines.append(_row([pattern, *cells, f"{shares[keys[0]]:.2f}"]))
    return lines


def _rest(report: Report, variants: Sequence[Variant]) -> list[str]:
    heads = [
        "variant", "frame after a switch", "switch, µs", "frames lost", "frames that differ",
        "average output to its price", "memory, MiB",
    ]  # fmt: skip
    columns = (
        ("switch", "ratio", 3), ("switch", "cost", 0), ("switch", "lost_frames", 0),
        ("switch", "differing_frames", 0), ("rates", "ratio", 3), ("memory", "growth", 0),
    )  # fmt: skip
    lines = [_row(heads), "|" + "---|" * len(heads)]
    for backend, precision in variants:
        cells = [f"{backend} {precision}"]
        for benchmark, metric, digits in columns:
            found = [
                value
                for key, value in report.values(benchmark, metric).items()
                if key[:2] == (backend, precision) and (benchmark == "rates" or key[2] == ALL)
            ]
            cells.append(f"{found[0]:.{digits}f}" if found else "-")
        lines.append(_row(cells))
    return lines


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def page(text: str, name: str, report: Report) -> str:
    """The page with the figures of the file of this name.

    Raises:
        ValueError: the page has no place for them.
    """
    place = re.compile(re.escape(begin(name)) + r"\n.*?" + re.escape(END), re.S)
    if not place.search(text):
        msg = f"expected a page with the lines {begin(name)!r} and {END!r}, got none"
        raise ValueError(msg)
    return place.sub(lambda _: f"{begin(name)}\n{figures(report)}\n{END}", text)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Put the figures of a run of bench into the page.")
    parser.add_argument("records", type=Path, help="JSON of `robust-perception bench --json`")
    parser.add_argument("page", type=Path, help="docs/performance.md")
    given = parser.parse_args(argv)
    text = given.page.read_text(encoding="utf-8")
    given.page.write_text(page(text, given.records.name, Report.load(given.records)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
