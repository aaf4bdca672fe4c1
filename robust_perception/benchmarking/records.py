"""What was measured, as a file: a head that says on what, and one flat record a number.

    {"schema": 1,
     "head": {"date", "model", "model_sha256", "input_sha256", "rounds", "threads", "load", "machine",
              "versions", "left_out"},
     "records": [{"benchmark", "device", "backend", "precision", "pattern", "metric", "value", "unit"}, ...]}

`pattern` is `all` where a number is of all patterns together. The unit of a ratio is `1`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from robust_perception.benchmarking.errors import BenchmarkError
from robust_perception.vocabulary import Pattern

SCHEMA = 1
ALL = "all"

BENCHMARKS = ("latency", "switch", "rates", "memory")
UNITS = ("1", "ms", "us", "frames/s", "frames", "switches", "MiB")


@dataclass(frozen=True)
class Record:
    """One number.

    Attributes:
        benchmark: one of `BENCHMARKS`.
        device: what it ran on, in words.
        backend: as it is named everywhere, or `torch`, `torch.compile`.
        precision: one of `precision.PRECISIONS`.
        pattern: as `Pattern` prints it, or `ALL`.
        metric: what was measured; the benchmark's file says what it means.
        value: finite.
        unit: one of `UNITS`.

    Raises:
        BenchmarkError: one of them is something else.
    """

    benchmark: str
    device: str
    backend: str
    precision: str
    pattern: str
    metric: str
    value: float
    unit: str

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name == "value":
                number = isinstance(value, (int, float)) and not isinstance(value, bool)
                _expect(number and math.isfinite(value), "value", "a finite number", value)
            else:
                _expect(isinstance(value, str) and value != "", item.name, "words", value)
        _expect(self.benchmark in BENCHMARKS, "benchmark", f"one of {BENCHMARKS}", self.benchmark)
        _expect(self.unit in UNITS, "unit", f"one of {UNITS}", self.unit)
        if self.pattern != ALL:
            try:
                Pattern.parse(self.pattern)
            except ValueError as error:
                raise BenchmarkError(f"pattern: {error}") from None


@dataclass(frozen=True)
class Head:
    """On what it was measured.

    Attributes:
        date: of the run, ISO 8601.
        model: its name and version.
        model_sha256: of its manifest, which holds those of its files.
        input_sha256: of the frames' bytes.
        rounds: in which all variants took turns.
        threads: of one operator on a CPU.
        load: processes that wanted a core in the minute before the run; above the number of cores the
            milliseconds are those of a busy machine, and only the ratios mean something.
        machine: see `machine.describe`.
        versions: of what the numbers depend on.
        left_out: variants that could not be measured, each with its reason.
    """

    date: str
    model: str
    model_sha256: str
    input_sha256: str
    rounds: int
    threads: int
    load: float
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    left_out: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name in ("model_sha256", "input_sha256"):
            digits = getattr(self, name)
            good = len(digits) == 64 and set(digits) <= set("0123456789abcdef")
            _expect(good, name, "64 hexadecimal digits", digits)
        _expect(
            self.rounds > 0 and self.threads > 0, "rounds, threads", "positive", (self.rounds, self.threads)
        )


@dataclass(frozen=True)
class Report:
    """A run of the benchmark: head and records."""

    head: Head
    records: tuple[Record, ...]

    def to_text(self) -> str:
        """As JSON, one record a line."""
        head = json.dumps(asdict(self.head), indent=1, ensure_ascii=False)
        lines = ",\n".join(json.dumps(asdict(record), allow_nan=False) for record in self.records)
        return f'{{"schema": {SCHEMA},\n"head": {head},\n"records": [\n{lines}\n]}}\n'

    @classmethod
    def load(cls, path: Path) -> Report:
        """Read a file of records; BenchmarkError when it is none."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["schema"] != SCHEMA:
                msg = f"{path}: expected schema {SCHEMA}, got {content['schema']!r}; measure again"
                raise BenchmarkError(msg)
            return cls(Head(**content["head"]), tuple(Record(**record) for record in content["records"]))
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            msg = f"{path}: expected the JSON that `robust-perception bench --json` writes, got {error!r}"
            raise BenchmarkError(msg) from None

    def values(self, benchmark: str, metric: str) -> dict[tuple[str, str, str], float]:
        """One metric by backend, precision and pattern, in the order of the file."""
        return {
            (r.backend, r.precision, r.pattern): r.value
            for r in self.records
            if r.benchmark == benchmark and r.metric == metric
        }


def _expect(condition: bool, what: str, expected: str, got: object) -> None:
    if not condition:
        msg = f"{what}: expected {expected}, got {got!r}"
        raise BenchmarkError(msg)
