"""The benchmark runs, and its report has every pattern with what the figures depend on."""

from __future__ import annotations

import json
from pathlib import Path

from tiny_model import make_model

from benchmarks import latency
from robust_perception.vocabulary import ALL_PATTERNS


def test_the_report_has_every_pattern(tmp_path: Path) -> None:
    model = make_model(tmp_path / "tiny")
    out = tmp_path / "latency.json"
    assert latency.main(["--model", str(model), "--rounds", "3", "--json", str(out)]) == 0
    report = json.loads(out.read_text())
    assert list(report["patterns"]) == [str(pattern) for pattern in ALL_PATTERNS]
    full = report["patterns"][str(ALL_PATTERNS[0])]
    assert full["ratio"] == 1.0
    assert 0.0 < full["p50"] <= full["p95"] <= full["p99"]
    assert {"cores", "onnxruntime"} <= set(report["device"])


def test_a_model_that_is_not_there_is_said(tmp_path: Path) -> None:
    assert latency.main(["--model", str(tmp_path / "none")]) == 1
