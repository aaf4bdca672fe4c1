"""A report that is made part by part: a part that fails is told in it, and the rest goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LEAST_S = 5.0
"""Seconds without which a part is left out."""


@dataclass
class Report:
    """What was found, part by part.

    Attributes:
        benchmark: its name in the records.
        head: what ran, on what, with which versions.
        path: file that is written after each part; None = none.
        deadline: by `time.perf_counter`.
        records: `{benchmark, device, backend, precision, pattern, metric, value, unit}`.
        parts: `{name, seconds, error}`; the error is null where there was none.
    """

    benchmark: str
    head: dict[str, Any]
    path: Path | None
    deadline: float
    records: list[dict[str, Any]] = field(default_factory=list)
    parts: list[dict[str, Any]] = field(default_factory=list)

    def left(self) -> float:
        """Seconds that are left."""
        return self.deadline - time.perf_counter()

    def part(self, name: str, work: Callable[[], Any], needs: float = LEAST_S) -> Any:
        """Do a part: its value, or None where it failed or less time is left than it needs."""
        start, error, value = time.perf_counter(), None, None
        if self.left() < needs:
            error = "left out: the time was up"
        else:
            print(f"{name} ...", flush=True)
            try:
                value = work()
            except Exception as failed:  # whatever it is, the other parts are still of use
                error = f"{type(failed).__name__}: {failed}"
        if error is not None:
            print(f"{name}: {error}", flush=True)
        self.parts.append({"name": name, "seconds": time.perf_counter() - start, "error": error})
        self.save()
        return value

    def add(
        self, backend: str, precision: str, pattern: str, values: Mapping[str, tuple[float, str]]
    ) -> None:
        """Records of one backend: metric -> value and unit."""
        for metric, (value, unit) in values.items():
            self.records.append(
                {
                    "benchmark": self.benchmark,
                    "device": self.head["device"]["name"],
                    "backend": backend,
                    "precision": precision,
                    "pattern": pattern,
                    "metric": metric,
                    "value": value,
                    "unit": unit,
                }
            )

    def save(self) -> None:
        """Write the file as it is now."""
        if self.path is not None:
            content = {"head": self.head, "parts": self.parts, "records": self.records}
            new = self.path.with_name(f".{self.path.name}.new")
            new.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
            new.replace(self.path)  # whoever ends this while it writes has what was there before


def table(records: Sequence[Mapping[str, Any]]) -> str:
    """The latencies as text, ratios first; rows that do on the CPU what others do on the GPU are marked."""
    on_host = {
        (r["backend"], r["precision"]): r["value"]
        for r in records
        if r["metric"] == "label_map_on_host" and r["value"] > 0
    }
    metrics = ("ratio", "p50", "p95", "p99")
    rows: dict[tuple[str, str, str], dict[str, float]] = {}
    for record in records:
        if record["metric"] in metrics:
            key = (record["backend"], record["precision"], record["pattern"])
            rows.setdefault(key, {})[record["metric"]] = record["value"]
    lines = [f"{'backend':<20}{'precision':<10}{'pattern':<26}" + "".join(f"{m:>9}" for m in metrics)]
    for (backend, precision, pattern), found in rows.items():
        values = "".join(f"{found[m]:9.3f}" if m in found else f"{'':9}" for m in metrics)
        mark = "*" if (backend, precision) in on_host else ""
        lines.append(f"{backend:<20}{precision + mark:<10}{pattern:<26}{values}")
    for (backend, precision), spent in on_host.items():
        lines.append(f"* {backend} {precision} makes the label map on the CPU: {spent:.3f} ms of each frame")
    return "\n".join(lines)
