"""Pages hold the figures of their files of records, and no others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks import performance_page
from robust_perception.benchmarking.records import Report

NAMES = (
    *("bench_cpu.json", "bench_cpu_epyc.json", "bench_cpu_avx2.json"),
    *("bench_torch.json", "bench_torch_epyc.json"),
)
PAGES = {
    **dict.fromkeys(NAMES, "performance.md"),
    "arithmetic.json": "performance.md",
    "adapter_costs.json": "training.md",
    "blindness.json": "faults.md",
    "blindness_before.json": "training.md",
}


@pytest.mark.parametrize(("name", "page"), list(PAGES.items()))
def test_the_page_holds_the_figures_of_the_file(name: str, page: str, repository: Path) -> None:
    text = (repository / "docs" / page).read_text(encoding="utf-8")
    shown = performance_page.figures_of(repository / "docs" / "results" / name)
    assert performance_page.page(text, name, shown) == text, (
        f"write them anew: python benchmarks/performance_page.py docs/results/{name} docs/{page}"
    )


def test_only_its_own_figures_are_replaced(repository: Path, tmp_path: Path) -> None:
    records = repository / "docs" / "results" / NAMES[0]
    text = f"before\n{performance_page.begin(NAMES[0])}\nold\n{performance_page.END}\nafter\n"
    other = f"{performance_page.begin('other.json')}\nkept\n{performance_page.END}\n"
    page = tmp_path / "page.md"
    page.write_text(other + text)
    assert performance_page.main([str(records), str(page)]) == 0
    made = page.read_text()
    assert made.startswith(f"{other}before\n")
    assert made.endswith("\nafter\n")
    assert "old" not in made
    page.write_text("nothing")
    with pytest.raises(ValueError, match="expected a page with the lines"):
        performance_page.main([str(records), str(page)])


@pytest.mark.parametrize("name", NAMES)
def test_its_ratios_are_those_of_the_records(name: str, repository: Path) -> None:
    report = Report.load(repository / "docs" / "results" / name)
    rows = re.findall(r"^\| ([\w+]+) \|(.*)\|$", performance_page.figures(report), re.M)
    ratios = report.values("latency", "ratio")
    patterns = {pattern for _, _, pattern in ratios}
    found = {pattern: cells for pattern, cells in rows if pattern in patterns}
    assert set(found) == patterns
    for (_, _, pattern), value in ratios.items():
        assert f"{value:.2f} (" in found[pattern]
    backend, precision, _ = next(iter(ratios))
    shares = [report.values("latency", metric) for metric in ("ratio_to_full", "cost_to_full")]
    for pattern, cells in found.items():
        expected = [f" | {known[backend, precision, pattern]:.2f}" for known in shares if known]
        assert expected and cells.endswith("".join(expected) + " ")
