"""`robust-perception bench` on a tiny model: real backends, real processes, records of every benchmark."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from tiny_model import make_model

from robust_perception import bench
from robust_perception.benchmarking import memory
from robust_perception.benchmarking.records import BENCHMARKS, Report
from robust_perception.engine import choice
from robust_perception.engine.engine import Engine
from robust_perception.engine.manifest import Manifest
from robust_perception.engine.precision import INT8_SYMMETRIC
from robust_perception.vocabulary import Modality

PATTERNS = "rgb+depth+thermal+audio,rgb,audio"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "tiny")


def _reader_has_gone(*words: object, **options: object) -> None:
    raise BrokenPipeError


def test_it_writes_what_it_prints(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / "report.json"
    words = ["--model", str(folder), "--rounds", "5", "--threads", "1", "--patterns", PATTERNS]
    assert bench.main([*words, "--json", str(out)]) == 0
    report = Report.load(out)
    assert report.head.model_sha256 == Manifest.load(folder).sha256
    assert (report.head.rounds, report.head.threads, list(report.head.left_out)) == (5, 1, [])
    assert {r.benchmark for r in report.records} == set(BENCHMARKS)
    usable = [name for name in choice.BACKENDS if choice.probe(name) is None]
    backends = list(dict.fromkeys(r.backend for r in report.records))
    assert backends[0] == choice.EVERYWHERE
    assert set(backends) == set(usable)
    ratios = report.values("latency", "ratio")
    assert list(dict.fromkeys(pattern for _, _, pattern in ratios)) == PATTERNS.split(",")
    assert all(value == 1.0 for (backend, _, _), value in ratios.items() if backend == choice.EVERYWHERE)
    for key, p50 in report.values("latency", "p50").items():
        assert 0 < p50 <= report.values("latency", "p95")[key] <= report.values("latency", "p99")[key]
    assert set(report.values("switch", "lost_frames").values()) == {0}
    assert set(report.values("switch", "differing_frames").values()) == {0}
    assert all(value > 1 for value in report.values("memory", "growth").values())
    printed = capsys.readouterr().out
    for name in (*BENCHMARKS, *usable, *PATTERNS.split(",")):
        assert name in printed
    monkeypatch.setattr(bench, "run", lambda given: report)
    assert bench.main(["--json", "/dev/full"]) == 1
    told = capsys.readouterr()
    assert told.out == printed, "what was measured is not lost"
    assert told.err.startswith("bench: [Errno 28]")
    again = tmp_path / "again.json"
    with monkeypatch.context() as patched:
        patched.setattr("builtins.print", _reader_has_gone)
        with pytest.raises(BrokenPipeError):
            bench.main(["--json", str(again)])
    assert again.read_bytes() == out.read_bytes(), "nor is the file"


def test_what_cannot_run_is_left_out_with_its_reason(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        memory, "measure", lambda variants, threads, cache: ([], ["memory of all: not today"])
    )
    out = tmp_path / "report.json"
    words = [
        "--model",
        str(folder),
        "--backend",
        "onnxruntime",
        "--precision",
        "fp32",
        "int8",
        "--rounds",
        "1",
    ]
    assert bench.main([*words, "--patterns", "rgb", "--json", str(out)]) == 0
    left_out = json.loads(out.read_text())["head"]["left_out"]
    assert "model tiny has no int8 graphs" in left_out[0]
    assert left_out[1:] == ["memory of all: not today"]
    assert "left out: onnxruntime int8" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--backend", "onnxruntime", "--precision", "int8"],
            "expected a backend that runs the model, got none",
        ),
        (
            ["--backend", "onnxruntime", "--patterns", "audio"],
            "--patterns: expected some of depth, got audio",
        ),
    ],
)
def test_nothing_to_measure_is_said(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_model(tmp_path / "depth", (Modality.DEPTH,))
    assert bench.main(["--model", str(folder), *words]) == 1
    assert said in capsys.readouterr().err


def test_where_no_backend_can_be_used_every_reason_is_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(choice, "probe", lambda name: f"{name}: not installed; pip install {name}")
    assert bench.main(["--model", str(folder)]) == 1
    error = capsys.readouterr().err
    for name in choice.BACKENDS:
        assert f"{name}: not installed; pip install {name}" in error


def test_torch_that_is_missing_is_told_with_its_extra(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "robust_perception.benchmarking.torch_network", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert bench.main(["--model", str(folder), "--backend", "onnxruntime", "--torch"]) == 1
    error = capsys.readouterr().err
    assert "--torch: expected the packages of training, got no 'torch'" in error
    assert "pip install '.[train]'" in error


def test_a_model_that_is_not_there_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--model", str(tmp_path)]) == 1
    assert str(tmp_path) in capsys.readouterr().err


def test_a_folder_in_the_place_of_the_file_is_refused_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "run", lambda given: pytest.fail("measured in vain"))
    assert bench.main(["--json", str(tmp_path)]) == 1
    assert f"bench: {tmp_path}: expected a file to write, got a folder" in capsys.readouterr().err


def test_a_child_that_fails_says_why(folder: Path) -> None:
    variants, _ = bench.load_variants(folder, [("onnxruntime", "fp32")], 1)
    found, failed = memory.measure(variants, threads=0)
    assert found == []
    assert "threads: expected a positive number" in failed[0]


def test_a_child_that_does_not_end_is_left_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variants, _ = bench.load_variants(folder, [("onnxruntime", "fp32")], 1)
    monkeypatch.setattr(memory, "LIMIT_S", 0.01)
    found, failed = memory.measure(variants, threads=1)
    assert found == []
    assert failed[0].startswith(
        "memory of onnxruntime fp32: expected a process that loads and runs it within 0.01 s"
    )


def test_a_child_is_told_a_precision_as_users_name_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def note(command: list[str], **options: object) -> SimpleNamespace:
        commands.append(command)
        return SimpleNamespace(returncode=0, stdout='{"growth": 1, "peak": 2}')

    monkeypatch.setattr(subprocess, "run", note)
    info = SimpleNamespace(backend="tensorrt", precision=INT8_SYMMETRIC)
    engine = SimpleNamespace(folder=folder, info=info)
    assert memory.in_process(engine, 1) == (1, 2)  # type: ignore[arg-type]
    assert memory.in_process(engine, 1, Path("plans")) == (1, 2)  # type: ignore[arg-type]
    words = [str(folder), "tensorrt", "int8", "1"]
    assert [command[3:] for command in commands] == [words, [*words, "--cache", "plans"]]


def test_plans_of_a_named_folder_are_what_is_measured(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Path | None] = []
    really = Engine.load
    monkeypatch.setattr(
        Engine, "load", lambda *given, **named: told.append(given[4]) or really(*given, **named)
    )
    monkeypatch.setattr(memory, "measure", lambda variants, threads, cache: told.append(cache) or ([], []))
    words = ["--backend", "onnxruntime", "--precision", "fp32", "--patterns", "rgb,audio", "--rounds", "1"]
    assert bench.main(["--model", str(folder), *words, "--cache", "plans"]) == 0
    assert told == [Path("plans")] * 4, "at the start, twice for fresh sessions, and in the child"
