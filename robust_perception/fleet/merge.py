"""Results of many bags as one report, with a row a bag.

Quality over all bags comes from counts that were added up before they were divided (see `evaluation.tally`):
it is what one bag of all their outputs would have given. The row of a bag holds the same of that bag alone,
over all its outputs whatever they were made from.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from robust_perception.evaluation.course import degraded, recovered
from robust_perception.evaluation.report import PatternResult, Report, to_text, without_nan
from robust_perception.evaluation.tally import Tally
from robust_perception.fleet.errors import ResultError
from robust_perception.fleet.result import BagResult
from robust_perception.vocabulary import ALL_PATTERNS, Pattern


class Failed(NamedTuple):
    """A bag that could not be measured, and why, in one line."""

    name: str
    error: str


class FleetReport(NamedTuple):
    """What many bags gave.

    Attributes:
        report: over all bags together.
        rows: one a bag that was measured, plain values.
        failed: the others.
    """

    report: Report
    rows: Sequence[Mapping[str, Any]]
    failed: Sequence[Failed]

    def to_json(self) -> dict[str, Any]:
        """Plain values without NaN."""
        plain: dict[str, Any] = without_nan(
            {
                **self.report.to_json(),
                "losses": losses_by_sensor(self.rows),
                "bags": self.rows,
                "failed": [failed._asdict() for failed in self.failed],
            }
        )
        return plain

    def to_text(self) -> str:
        """The JSON file's content."""
        return to_text(self.to_json())

    def table(self) -> str:
        """For people: the table over all bags, a line a bag, and what failed."""
        width = max((len(row["bag"]) for row in self.rows), default=0)
        lines = [self.report.table(), "", f"{'bag':<{width}}  outputs    mIoU   mAP50  losses"]
        for row in self.rows:
            quality = "  ".join(f"{_cell(row[name]):>6}" for name in ("foreground_miou", "map50"))
            lines.append(f"{row['bag']:<{width}}  {row['outputs']:>7}  {quality}  {len(row['losses']):>6}")
        lines += [f"not measured: {failed.name}: {failed.error}" for failed in self.failed]
        return "\n".join(lines)


def merge(
    results: Iterable[tuple[str, BagResult]],
    failed: Sequence[Failed],
    class_names: Sequence[str],
    scene_names: Sequence[str],
    head: Mapping[str, Any],
    damage: Mapping[str, str] | None = None,
) -> FleetReport:
    """Join results.

    Args:
        results: name of the bag and what it gave, in the order of the rows.
        failed: bags without one.
        class_names: the model's.
        scene_names: the model's.
        head: what the report begins with.
        damage: name of a bag that was measured as far as it goes -> what is wrong with it.

    Raises:
        ResultError: a result is of other classes.
    """
    whole: dict[Pattern, Tally] = {}
    rows = []
    frames, seconds = 0, 0.0
    for name, result in results:
        own = Tally.of(len(class_names), scene_names)
        try:
            for pattern, arrays in result.tallies.items():
                whole.setdefault(pattern, Tally.of(len(class_names), scene_names)).join(arrays)
                own.join(arrays)
        except (KeyError, ValueError) as error:
            msg = f"{name}: expected the result of a bag with {len(class_names)} classes, got {error!r}"
            raise ResultError(msg) from None
        overall = own.result(ALL_PATTERNS[0], class_names)
        rows.append(_row(name, result, overall, (damage or {}).get(name, "")))
        frames += result.report["frames"]
        seconds += result.report["seconds"]
    values = [whole[pattern].result(pattern, class_names) for pattern in ALL_PATTERNS if pattern in whole]
    shas = "\n".join(row["bag_sha256"] for row in rows)
    facts = {
        "bags_sha256": hashlib.sha256(shas.encode()).hexdigest(),
        "measured": len(rows),
        "not_measured": len(failed),
    }
    return FleetReport(Report({**head, **facts}, frames, values, seconds), rows, failed)


def losses_by_sensor(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How often each sensor was lost in all bags, and the slowest change of the output, ms."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for loss in (loss for row in rows for loss in row["losses"]):
        found.setdefault(loss["sensor"], []).append(loss)
    return {
        sensor: {
            "count": len(losses),
            **_changes(losses),
        }
        for sensor, losses in sorted(found.items())
    }


def _row(name: str, result: BagResult, overall: PatternResult, damage: str) -> dict[str, Any]:
    report = result.report
    passes = list(report["passes"].values())
    losses = [loss for course in passes for loss in course["losses"]]
    return {
        "bag": name,
        "bag_sha256": report["bag_sha256"],
        "seconds": report["bag_seconds"],
        "outputs": report["frames"],
        "has_truth": report["has_truth"],
        "foreground_miou": overall.foreground_miou,
        "map50": overall.map50,
        "map50_95": overall.map50_95,
        "scene_map": math.nan if overall.scene is None else overall.scene.mean_average_precision,
        "patterns": {
            pattern: {name: row[name] for name in ("frames", "foreground_miou", "map50")}
            for pattern, row in report["patterns"].items()
        },
        "losses": losses,
        **_changes(losses),
        "refused": sum(sum(course["refused"].values()) for course in passes),
        "failures": [text for course in passes for text in course["failures"]],
        "damage": damage,
        "said": report["said"],
    }


def _changes(losses: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The slowest changes of the output, and how many never came."""
    without, again = degraded(losses), recovered(losses)
    return {
        "degrade_ms": without.slowest_ms,
        "recover_ms": again.slowest_ms,
        "never_degraded": without.never,
        "never_recovered": again.never,
    }


def _cell(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.1f}"
