"""A file of records says what it is about, and what is none is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robust_perception.benchmarking import machine, table
from robust_perception.benchmarking.errors import BenchmarkError
from robust_perception.benchmarking.records import ALL, BENCHMARKS, UNITS, Head, Record, Report
from robust_perception.vocabulary import ALL_PATTERNS

GOOD: dict[str, Any] = {
    "benchmark": "latency", "device": "a processor, 2 cores", "backend": "onnxruntime", "precision": "fp32",
    "pattern": "rgb+depth", "metric": "p50", "value": 1.5, "unit": "ms",
}  # fmt: skip


def head(**changes: Any) -> Head:
    told = {"cpu": "a processor", "cores": 2, "instruction_sets": ["avx2"]}
    values: dict[str, Any] = {
        "date": "2026-01-02", "model": "tiny 1", "model_sha256": "0" * 64, "input_sha256": "f" * 64,
        "rounds": 3, "threads": 2, "load": 0.5, "machine": told, "versions": {"numpy": "2"}, "left_out": [],
    }  # fmt: skip
    return Head(**{**values, **changes})


records = st.builds(
    Record,
    benchmark=st.sampled_from(BENCHMARKS),
    device=st.text(min_size=1),
    backend=st.text(min_size=1),
    precision=st.text(min_size=1),
    pattern=st.sampled_from([ALL, *map(str, ALL_PATTERNS)]),
    metric=st.text(min_size=1),
    value=st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53),
    unit=st.sampled_from(UNITS),
)


@given(found=st.lists(records, max_size=5))
def test_what_is_written_is_read_back(found: list[Record], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("records") / "report.json"
    report = Report(head(), tuple(found))
    path.write_text(report.to_text(), encoding="utf-8")
    again = Report.load(path)
    assert again.records == report.records
    assert again.head.machine == report.head.machine
    assert table.text(again)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("benchmark", "speed"), ("unit", "s"), ("pattern", "radar"), ("pattern", ""), ("metric", ""),
        ("value", float("nan")), ("value", float("inf")), ("value", "1"), ("value", True), ("device", 3),
    ],
)  # fmt: skip
def test_a_record_that_is_none_is_refused(field: str, value: object, tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=f"{field}: "):
        Record(**{**GOOD, field: value})


@pytest.mark.parametrize("change", [{"model_sha256": "abc"}, {"input_sha256": "g" * 64}, {"rounds": 0}])
def test_a_head_that_is_none_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(BenchmarkError, match=next(iter(change))):
        head(**change)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "[" * 100_000, "{}", '{"schema": 1}', '{"schema": 1, "head": {"a": 1}, "records": []}'],
)
def test_a_file_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(BenchmarkError, match=r"report\.json: expected the JSON"):
        Report.load(path)
    path.write_text(json.dumps({"schema": 0, "head": {}, "records": []}))
    with pytest.raises(BenchmarkError, match="expected schema 1, got 0; measure again"):
        Report.load(path)


def test_the_machine_is_told_by_what_matters(tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text(
        "processor\t: 0\nmodel name\t: A Processor\nflags\t\t: fpu avx2 avx512_vnni sse\n\nmodel name\t: B\n"
    )
    found = machine.describe(info)
    assert found["cpu"] == "A Processor"
    assert found["instruction_sets"] == ["avx2", "avx512_vnni"]
    info.write_text("processor\t: 0\nFeatures\t: fp asimd asimddp\n")
    assert machine.describe(info)["instruction_sets"] == ["asimd", "asimddp"]
    assert machine.describe(tmp_path / "none")["cores"] >= 1
    assert {"robust_perception", "python", "numpy", "onnxruntime"} <= machine.versions(
        "no-such-package"
    ).keys()
