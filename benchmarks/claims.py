"""What the study is held to, and whether its records do: differences of two rows over the seeds both have.

    difference(seed) = value of a row - value of another, same pattern and seed
    a claim holds where mean(difference) >= goal; where it has no goal, where mean > standard deviation
    recovered(seed) = 100 mean_p(adapters - base) / mean_p(dedicated - base), p a pattern that lacks a sensor

`base` and `dropout` are the two ends that every row is compared with: one knows all sensors and loses any
badly, the other has given up the best case for the worst. `passes` has what of `joint` is in no paper.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

QUALITY = "foreground_miou"
FULL = "full"
"""Stands for the pattern with the most sensors of a data set."""
SEEING = "worst with an image"
"""Sound alone draws no map: where it is among the patterns, the worst of all says nothing."""
OVERALL = ("mean", "worst", SEEING)


@dataclass(frozen=True)
class Claim:
    """A row's value, or how much it is above another row's, is to be `goal` points or beyond a deviation."""

    row: str
    pattern: str
    goal: float | None = None
    above: str = ""

    def holds(self, values: Sequence[float]) -> bool | None:
        """Whether it does; None where one seed cannot tell."""
        mean = statistics.fmean(values)
        if self.goal is not None:
            return mean >= self.goal
        return mean > statistics.stdev(values) if len(values) > 1 else None


CLAIMS = (
    Claim("base", FULL, 84.0),
    Claim("joint-adapters", "mean", 8.0, above="dropout"),
    Claim("joint-adapters", "worst", 6.0, above="dropout"),
    Claim("joint-adapters", FULL, 12.0, above="dropout"),
    *(Claim(row, "mean", above="dropout") for row in ("cyin", "dmrnet", "robult", "mmanet", "joint")),
    Claim("joint", "mean", above="passes"),
    # What it is worth that frames with rare classes come oftener, and what the papers' parts are worth then.
    Claim("balanced", "mean", above="dropout"),
    Claim("robult-balanced", "mean", above="balanced"),
    Claim("joint-balanced", "mean", above="joint"),
    Claim("joint-balanced", "mean", above="balanced"),
    Claim("joint-balanced", "mean", above="dedicated"),
    # The shipped model's recipe against the first version's, and that with as many epochs.
    Claim("joint-settled", "mean", 0.0, above="passes"),
    Claim("joint-settled", SEEING, 0.0, above="passes"),
    Claim("joint-settled", "mean", 0.0, above="passes-settled"),
    Claim("joint-settled", SEEING, 0.0, above="passes-settled"),
    # Hoped for at four budgets.
    Claim("joint-adapters", FULL, -0.5, above="base"),
    Claim("joint-adapters", "mean", -1.0, above="dedicated"),
)


def patterns_in(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """The patterns that records are about, the one with the most sensors first."""
    found = dict.fromkeys(r["pattern"] for r in records if r["metric"] == QUALITY)
    return sorted((p for p in found if p not in OVERALL), key=lambda p: -p.count("+"))


def difference(claim: Claim, records: Sequence[Mapping[str, Any]]) -> list[float]:
    """By seed what the claim is about; empty where a row is not there yet."""
    quality = [r for r in records if r["metric"] == QUALITY]
    wanted = next(iter(patterns_in(quality)), "") if claim.pattern == FULL else claim.pattern

    def by_seed(row: str) -> dict[int, float]:
        return {r["seed"]: float(r["value"]) for r in quality if (r["row"], r["pattern"]) == (row, wanted)}

    mine = by_seed(claim.row)
    other = by_seed(claim.above) if claim.above else dict.fromkeys(mine, 0.0)
    return [mine[seed] - other[seed] for seed in sorted(mine.keys() & other.keys())]


def seeing(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Records of the worst pattern with an image, of every run that has been measured with sound alone."""
    runs: dict[tuple[Any, ...], list[Mapping[str, Any]]] = defaultdict(list)
    for record in records:
        if record["metric"] == QUALITY and record["pattern"] not in OVERALL:
            names = ("data", "classes", "labels", "budget", "row", "seed", "commit", "split")
            runs[tuple(record[name] for name in names)].append(record)
    found = []
    for run in runs.values():
        images = [record for record in run if record["pattern"] != "audio"]
        if 0 < len(images) < len(run):
            worst = min(images, key=lambda record: float(record["value"]))
            found.append({**worst, "pattern": SEEING})
    return found


def recovered(row: str, records: Sequence[Mapping[str, Any]]) -> list[float]:
    """By seed how much of the gap between `base` and the dedicated networks a row closes, in percent."""
    values = {
        (r["row"], r["seed"], r["pattern"]): float(r["value"]) for r in records if r["metric"] == QUALITY
    }
    alone = {(seed, pattern) for name, seed, pattern in values if name == "dedicated"}
    poorer = patterns_in([r for r in records if r["row"] == "base"])[1:]
    found = []
    for seed in sorted({seed for name, seed, _ in values if name == row}):
        if not poorer or not all((seed, p) in alone and ("base", seed, p) in values for p in poorer):
            continue
        gained, gap = (
            sum(values[name, seed, p] - values["base", seed, p] for p in poorer)
            for name in (row, "dedicated")
        )
        found.append(100.0 * gained / gap)
    return found


def table(records: Sequence[Mapping[str, Any]], goals: bool = True) -> list[str]:
    """Lines of a table of the claims whose rows are there; none where no row is.

    Args:
        records: of one setting.
        goals: whether claims with a goal in points are about this setting too.
    """
    told = [
        (claim, f"{claim.row}, {claim.pattern}" + (f", above {claim.above}" if claim.above else ""), values)
        for claim in CLAIMS
        if (goals or claim.goal is None) and (values := difference(claim, records))
    ]
    told += [
        (Claim(row, "", 50.0), f"{row}, gap from base to dedicated that is closed, %", values)
        for row in ("adapters-ssf", "adapters-lora", "adapters-bitfit")
        if goals and (values := recovered(row, records))
    ]
    rows = []
    for claim, what, values in told:
        goal = "one deviation" if claim.goal is None else f"{claim.goal:g}"
        spread = statistics.stdev(values) if len(values) > 1 else math.nan
        found = f"{statistics.fmean(values):.1f}" + ("" if math.isnan(spread) else f" ± {spread:.1f}")
        verdict = {True: "yes", False: "no", None: "one seed cannot tell"}[claim.holds(values)]
        rows.append(f"| {what} | {goal} | {found} | {len(values)} | {verdict} |")
    if not rows:
        return []
    return ["", "| claim | at least | found | seeds | holds |", "|" + "---|" * 5, *rows]
