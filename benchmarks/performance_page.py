"""Puts the figures of a measurement into its section of a page.

    robust-perception bench --json docs/results/bench_cpu.json
    python benchmarks/performance_page.py docs/results/bench_cpu.json docs/performance.md
    python benchmarks/adapter_costs.py --joint --latency --json docs/results/adapter_costs.json
    python benchmarks/performance_page.py docs/results/adapter_costs.json docs/training.md
    python benchmarks/blindness.py --data DATA --json docs/results/blindness.json
    python benchmarks/performance_page.py docs/results/blindness.json docs/faults.md
    python benchmarks/arithmetic.py --json docs/results/arithmetic.json
    python benchmarks/performance_page.py docs/results/arithmetic.json docs/performance.md

Replaced is what stands between `<!-- figures of NAME.json -->` and `<!-- end of figures -->`, where NAME.json
is the name of the file with the records; nothing else of the page is touched and no figure of it is typed.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import blindness
from robust_perception.benchmarking.records import ALL, Report

NOISE = "noise beside "
"""What `adapter_costs.py` calls the second run of a folded graph."""

END = "<!-- end of figures -->"

Variant = tuple[str, str]


def begin(name: str) -> str:
    """The line before the figures of a file."""
    return f"<!-- figures of {name} -->"


def figures(report: Report) -> str:
    """What it was measured on, a table of latencies by pattern and a table of all else by variant."""
    variants = list(
        dict.fromkeys((backend, precision) for backend, precision, _ in report.values("latency", "ratio"))
    )
    return "\n".join([*_machine(report), "", *_latency(report, variants), "", *_rest(report, variants)])


def bank_figures(measured: Mapping[str, Any]) -> str:
    """A table of what `adapter_costs.py` found: a bank's time as a multiple of that of folded adapters."""
    ratios: Mapping[str, Mapping[str, float]] = measured["ratios"]
    graphs = list(next(iter(ratios.values())))
    rows = [
        _row([case, *(f"{found[graph]:.2f}" for graph in graphs)])
        for case, found in ratios.items()
        if not case.startswith(NOISE)
    ]
    noise = [value for case, found in ratios.items() if case.startswith(NOISE) for value in found.values()]
    device = _device(measured["device"], measured["versions"], measured["threads"])
    clock = {"cpu": "time of the processor", "wall": "time on the wall"}[measured["clock"]]
    return "\n".join(
        [
            f"{device}; {clock}, {measured['rounds']} rounds; two runs of the same graph gave "
            f"{min(noise):.2f} to {max(noise):.2f}.",
            "",
            _row(["adapters", *graphs]),
            "|" + "---|" * (1 + len(graphs)),
            *rows,
        ]
    )


def arithmetic_figures(measured: Mapping[str, Any]) -> str:
    """A table of what `arithmetic.py` found: multiply-adds a second of a frame and of a matrix product."""
    rates, seconds = measured["giga_multiply_adds_a_second"], measured["seconds"]
    names = list(rates["frame"])
    rows = []
    for kind, by_name in rates.items():
        work = by_name[names[0]] * seconds[kind][names[0]]
        cells = [f"{by_name[name]:.0f} G/s ({seconds[kind][name] * 1e3:.1f} ms)" for name in names]
        rows.append(_row([kind, f"{work:.2f} G", *cells]))
    return "\n".join(
        [
            f"{_device(measured['device'], measured['versions'], measured['threads'])}; model "
            f"{measured['model']['name']} ({measured['model']['sha256'][:12]}); {measured['rounds']} rounds.",
            "",
            _row(["", "multiply-adds", *names]),
            "|" + "---|" * (2 + len(names)),
            *rows,
            "",
            f"Torch takes {measured['times_as_long']:.2f} times as long for a frame. Were each multiply-add "
            "of ONNX Runtime's frame as quick as those of its product, and all else free, it would be "
            f"{measured['times_as_long_at_most']:.2f}.",
        ]
    )


def _device(told: Mapping[str, Any], versions: Mapping[str, str], threads: int) -> str:
    known = ", ".join(f"{name} {version}" for name, version in versions.items())
    sets = ", ".join(told["instruction_sets"]) or "no instruction set that matters"
    cores = f"{told['cores']} core" + ("" if told["cores"] == 1 else "s")
    return f"{told['cpu']}, {cores}, {told['architecture']} with {sets}; {threads} threads; {known}"


def _machine(report: Report) -> list[str]:
    head = report.head
    device = _device(head.machine, head.versions, head.threads)
    lines = [
        f"{device}; model {head.model} ({head.model_sha256[:12]}), input {head.input_sha256[:12]}; "
        f"{head.rounds} rounds; load before {head.load:.1f}; {head.date}."
    ]
    return lines + [f"Left out: {reason}." for reason in head.left_out]


def _latency(report: Report, variants: Sequence[Variant]) -> list[str]:
    ratios, medians = (report.values("latency", metric) for metric in ("ratio", "p50"))
    # Files from before processors' time was measured have no `cost_to_full`.
    columns = {"to the first row": "ratio_to_full", "cost to the first row": "cost_to_full"}
    shares = {head: found for head, name in columns.items() if (found := report.values("latency", name))}
    heads = ["all frames new", *(f"{backend} {precision}" for backend, precision in variants), *shares]
    lines = [_row(heads), "|" + "---|" * len(heads)]
    for pattern in dict.fromkeys(pattern for _, _, pattern in ratios):
        keys = [(*variant, pattern) for variant in variants]
        cells = [f"{ratios[k]:.2f} ({medians[k]:.1f} ms)" for k in keys]
        lines.append(_row([pattern, *cells, *(f"{found[keys[0]]:.2f}" for found in shares.values())]))
    return lines


def _rest(report: Report, variants: Sequence[Variant]) -> list[str]:
    heads = [
        "variant", "frame after a switch", "the switch's own", "own, µs", "frames lost", "frames that differ",
        "average output to its price", "memory, MiB",
    ]  # fmt: skip
    columns = (
        ("switch", "ratio", 3), ("switch", "own_ratio", 3), ("switch", "own_cost", 0),
        ("switch", "lost_frames", 0), ("switch", "differing_frames", 0), ("rates", "ratio", 3),
        ("memory", "growth", 0),
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


def figures_of(path: Path) -> str:
    """The figures of a file, whichever measurement made it."""
    measured = json.loads(path.read_text(encoding="utf-8"))
    if "sensors" in measured:
        return blindness.table(measured)
    if "multiply_adds" in measured:
        return arithmetic_figures(measured)
    return bank_figures(measured) if "ratios" in measured else figures(Report.load(path))


def page(text: str, name: str, shown: str) -> str:
    """The page with other figures at the place of the file of this name.

    Raises:
        ValueError: the page has no place for them.
    """
    place = re.compile(re.escape(begin(name)) + r"\n.*?" + re.escape(END), re.S)
    if not place.search(text):
        msg = f"expected a page with the lines {begin(name)!r} and {END!r}, got none"
        raise ValueError(msg)
    return place.sub(lambda _: f"{begin(name)}\n{shown}\n{END}", text)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Put the figures of a measurement into its page.")
    parser.add_argument("records", type=Path, help="JSON of `robust-perception bench`, adapter_costs.py, ..")
    parser.add_argument("page", type=Path, help="the page with a place for them")
    given = parser.parse_args(argv)
    text = given.page.read_text(encoding="utf-8")
    given.page.write_text(page(text, given.records.name, figures_of(given.records)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
