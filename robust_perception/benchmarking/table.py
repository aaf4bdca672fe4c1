"""The records as text for a terminal: ratios first, milliseconds after them."""

from __future__ import annotations

from collections.abc import Sequence

from robust_perception.benchmarking.records import Record, Report

TITLES = {
    "latency": "one inference, all frames new; ratio to the first variant in the same round",
    "switch": "the frame after a change of the pattern, to the one after it; own: to one as cold",
    "rates": "sensors at 30, 30, 9 and 1 Hz: an average output, to the price of its new frames",
    "memory": "a process of its own that loads the model and runs every pattern",
}

DIGITS = {"1": 3, "ms": 2, "us": 1, "frames/s": 1, "frames": 0, "switches": 0, "MiB": 0}


def text(report: Report) -> str:
    """All tables, one a benchmark."""
    head = report.head
    lines = [
        f"{head.model} on {head.machine['cpu']}, {head.machine['cores']} cores "
        f"({', '.join(head.machine['instruction_sets'])}), {head.threads} threads, {head.rounds} rounds, "
        f"load before {head.load:.1f}"
    ]
    for benchmark, title in TITLES.items():
        records = [r for r in report.records if r.benchmark == benchmark]
        if records:
            lines += ["", f"{benchmark}: {title}", *_rows(records)]
    lines += ["", *(f"left out: {reason}" for reason in head.left_out)] if head.left_out else []
    return "\n".join(lines)


def _rows(records: Sequence[Record]) -> list[str]:
    units = {r.metric: r.unit for r in records}
    rows: dict[tuple[str, str, str], dict[str, str]] = {}
    for r in records:
        cells = rows.setdefault((r.pattern, r.backend, r.precision), {})
        cells[r.metric] = f"{r.value:.{DIGITS[r.unit]}f}"
    heads = [metric if unit in ("1", metric) else f"{metric} {unit}" for metric, unit in units.items()]
    table = [["pattern", "variant", *heads]]
    # Variants of one pattern stand below one another: they are what is compared.
    patterns = list(dict.fromkeys(pattern for pattern, _, _ in rows))
    for key, cells in sorted(rows.items(), key=lambda row: patterns.index(row[0][0])):
        table.append([key[0], f"{key[1]} {key[2]}", *(cells.get(metric, "-") for metric in units)])
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
