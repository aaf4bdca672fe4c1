"""Makes docs/results.md and its pictures of docs/results.json: mean and deviation over seeds, no value typed.

    python benchmarks/results_page.py docs/results.json docs/results docs/results.md

One table a data set, class set, share of labels and budget; a cell is `mean +- deviation`, without the
deviation where there is one seed; no seed may have been run twice. `dedicated` has a network a
pattern: its `full` is that of `base`, which is the network dedicated to all sensors, its mean and worst are
over those networks, and its parameters and minutes are those of all of them. The bench of vectors has a table
a share of labels, with the difference to `dropout` of the same seed, and whether its mean is beyond its
deviation. What the study is held to is about coarse classes, all labels and one budget; in other settings
only what has no goal of its own is told. The page ends with the words of `not_held.md`.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import claims, labels_figure, results_figure
from benchmarks.claims import OVERALL, QUALITY, patterns_in
from benchmarks.study_plan import read_plan

SHARES_SHOWN_AT = ("coarse", 0.05, 1.0)
"""Classes, share of the labels and budget of the table that the picture of all shares stands above."""

PLANS = Path(__file__).resolve().parents[1] / "config" / "study"
Records = Sequence[Mapping[str, Any]]


def require_one_run(records: Records) -> None:
    """Raise where a seed of a row was run at two commits: they may be of two kinds of processor.

    The last bits of a sum differ between those, and a whole training makes much of that.

    Raises:
        ValueError: it names the run and the commits.
    """
    commits: dict[tuple[Any, ...], set[str]] = defaultdict(set)
    for record in records:
        names = ("data", "classes", "labels", "budget", "row", "seed", "pattern", "metric")
        commits[tuple(record[name] for name in names)].add(record["commit"])
    for run, known in commits.items():
        if len(known) > 1:
            msg = f"{run}: expected one run of a seed, got those of {sorted(known)}; take one of them out"
            raise ValueError(msg)


def dedicated(records: Records) -> list[dict[str, Any]]:
    """The records of row `dedicated` that follow from the networks of single patterns and `base`.

    What they cost together is theirs and that of `base`.
    """
    made: list[dict[str, Any]] = []
    groups: dict[tuple[Any, ...], dict[str, Mapping[str, Any]]] = defaultdict(dict)
    costs: dict[tuple[Any, ...], list[Mapping[str, Any]]] = defaultdict(list)
    for record in records:
        key = tuple(record[name] for name in ("data", "classes", "labels", "budget", "seed"))
        if record["metric"] == QUALITY and record["row"] in ("dedicated", "base"):
            groups[key][f"{record['row']}/{record['pattern']}"] = record
        elif record["row"] == "base":
            costs[key].append(record)
    for key, group in groups.items():
        alone = {name.split("/")[1]: r for name, r in group.items() if name.startswith("dedicated/")}
        patterns = [n.split("/")[1] for n in group if n.startswith("base/") and n[5:] not in OVERALL]
        richest = max(patterns, key=lambda p: p.count("+"), default="")
        if set(alone) | {richest} != set(patterns):
            continue  # not all of them are trained yet
        full = group[f"base/{richest}"]
        values = [float(r["value"]) for r in (*alone.values(), full)]
        for pattern, value in (
            (richest, full["value"]),
            ("mean", statistics.fmean(values)),
            ("worst", min(values)),
        ):
            made.append({**full, "row": "dedicated", "pattern": pattern, "value": value})
        made += [{**record, "row": "dedicated"} for record in costs[key]]
    return made


def everything(records: Records) -> list[Mapping[str, Any]]:
    """What page and picture show: the records, and what follows from those of several patterns.

    Raises:
        ValueError: see `require_one_run`.
    """
    require_one_run(records)
    single = [*records, *claims.seeing(records)]
    return [*single, *dedicated(single)]


def cell(values: Iterable[float], digits: int) -> str:
    """Mean and sample deviation."""
    known = list(values)
    if not known:
        return ""
    mean = f"{statistics.fmean(known):.{digits}f}"
    return mean if len(known) < 2 else f"{mean} ± {statistics.stdev(known):.{digits}f}"


def plan_of(data: str) -> tuple[str, dict[str, Any]] | None:
    """Name and content of the study's configuration of a data set, where there is one."""
    for path in sorted(PLANS.glob("*.yaml")):
        plan = read_plan(path)
        if plan["name"] == data:
            return path.name, plan
    return None


def table(records: Records, order: Sequence[str] = ()) -> list[str]:
    """Lines of one table: rows of the study, in this order, by patterns."""
    patterns = patterns_in(records)
    there = dict.fromkeys(r["row"] for r in records)
    rows = [row for row in dict.fromkeys((*order, *there)) if row in there]
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    costs: dict[tuple[str, str], dict[int, float]] = defaultdict(lambda: defaultdict(float))
    for r in records:
        if r["metric"] == QUALITY:
            values[r["row"], r["pattern"]].append(float(r["value"]))
        else:
            costs[r["row"], r["metric"]][r["seed"]] += float(r["value"])
    seeds = {row: len({r["seed"] for r in records if r["row"] == row}) for row in rows}
    overall = [name for name in OVERALL if any(r["pattern"] == name for r in records)]
    head = ["row", "seeds", *patterns, *overall, "parameters, million", "minutes"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        cells = [cell(values[row, pattern], 1) for pattern in (*patterns, *overall)]
        for metric, unit, digits in (("parameters", 1e6, 2), ("training_seconds", 60, 0)):
            found = costs[row, metric].values()
            cells.append(f"{statistics.median(found) / unit:.{digits}f}" if found else "")
        lines.append(f"| {row} | {seeds[row]} | " + " | ".join(cells) + " |")
    return lines


def recipe(name: str, plan: Mapping[str, Any]) -> list[str]:
    """What a budget is."""
    common = plan["common"]
    height, width = common["augmentation"]["crop"]
    optimiser = common["optimiser"]
    return [
        f"One budget is {optimiser['epochs']} epochs of crops of {height} x {width} pixels, "
        f"{optimiser['batch']} a step (`config/study/{name}`).",
        "",
    ]


def vectors(bench: Mapping[str, Any]) -> list[str]:
    """Lines about the bench of vectors (`benchmarks/vectors.py`)."""
    records: Records = bench["records"]
    plain = {(r["labels"], r["seed"]): float(r["mean"]) for r in records if r["row"] == "dropout"}
    lines: list[str] = []
    for share in dict.fromkeys(r["labels"] for r in records):
        some = [r for r in records if r["labels"] == share]
        lines += ["", f"## Digits in six views, {share:.0%} of the labels", ""]
        head = ["row", "seeds", "mean", "worst", "full", "mean less dropout's", "helps", "seconds of a core"]
        lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        for row in dict.fromkeys(r["row"] for r in some):
            mine = [r for r in some if r["row"] == row]
            gains = [float(r["mean"]) - plain[share, r["seed"]] for r in mine if (share, r["seed"]) in plain]
            cells = [cell((float(r[key]) for r in mine), 1) for key in ("mean", "worst", "full")]
            spread = statistics.stdev(gains) if len(gains) > 1 else math.inf
            cells += [
                *(
                    ("", "")
                    if row == "dropout"
                    else (cell(gains, 1), verdict(statistics.fmean(gains), spread))
                ),
                cell((float(r["seconds"]) for r in mine), 0),
            ]
            lines.append(f"| {row} | {len(mine)} | " + " | ".join(cells) + " |")
    return lines


def relation_weights(found: Mapping[str, Any]) -> list[str]:
    """Lines about the weight of MMANet's distillation (`benchmarks/relation_weight.py`)."""
    by_weight: dict[float, list[float]] = defaultdict(list)
    for record in found["records"]:
        by_weight[record["weight"]].append(record["mean_above_dropout"])
    weights = sorted(by_weight)
    return [
        "",
        "## Digits in six views, weights of MMANet's distillation",
        "",
        f"On the validation split, mean over subsets less dropout's, {len(by_weight[weights[0]])} seeds.",
        "",
        "| weight | " + " | ".join(f"{weight:g}" for weight in weights) + " |",
        "|" + "---|" * (1 + len(weights)),
        "| mean less dropout's | " + " | ".join(cell(by_weight[weight], 2) for weight in weights) + " |",
    ]


def verdict(gain: float, spread: float) -> str:
    """Whether a gain, or a loss, is beyond one standard deviation."""
    if abs(gain) <= spread:
        return "cannot be told"
    return "yes" if gain > 0 else "no, it harms"


def page(
    records: Records,
    bench: Mapping[str, Any] | None = None,
    relation: Mapping[str, Any] | None = None,
    remarks: str = "",
) -> str:
    """The whole page.

    Args:
        records: of the study.
        bench: content of vectors.json.
        relation: content of relation_weight.json.
        remarks: what ends it.
    """
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = defaultdict(list)
    for record in everything(records):
        groups[tuple(record[name] for name in ("data", "classes", "labels", "budget"))].append(record)
    lines = [
        "# Results of the study",
        "",
        "Foreground mIoU in percent on the test split, mean ± standard deviation over seeds, made by",
        "`benchmarks/results_page.py` of `results.json`. Weights are chosen on the validation split.",
        "`config/study/` has the rows. A missing sensor's features are zero in `base`, not its raw input:",
        "nothing is comparable to tables where that is zeroed. Minutes are the median over runs, each on one",
        "thread of a machine that may have had other work to do beside it; a row that goes on from another",
        "one counts its own part.",
    ]
    for (data, classes, labels, budget), members in sorted(groups.items(), key=str):
        lines += ["", f"## {data}, {classes} classes, {labels:.0%} of the labels, budget {budget:g}", ""]
        known = plan_of(data)
        if known is not None:
            lines += recipe(*known)
        if data == "mm5" and is_main(data, classes, labels, budget):
            lines += ["![A line a subset of the sensors, a dot a way of training](results.svg)", ""]
        if data == "mm5" and (classes, labels, budget) == SHARES_SHOWN_AT:
            lines += ["![A line a way of training, a dot a share of the labels](results_labels.svg)", ""]
        lines += table(members, list(known[1]["rows"]) if known is not None else ())
        lines += claims.table(members, goals=is_main(data, classes, labels, budget))
    if bench is not None:
        lines += vectors(bench)
    if relation is not None:
        lines += relation_weights(relation)
    return "\n".join(lines) + "\n" + (f"\n{remarks}" if remarks else "")


def shipped_page(records: Records, folder: Path) -> str:
    """The page of these records and of what lies beside them.

    Args:
        records: of the study.
        folder: with vectors.json, relation_weight.json and not_held.md.
    """
    bench, relation = (
        json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("vectors", "relation_weight")
    )
    return page(records, bench, relation, (folder / "not_held.md").read_text(encoding="utf-8"))


def is_main(data: str, classes: str, labels: float, budget: float) -> bool:
    """Whether this is a setting that the claims are about."""
    return (classes, labels, budget) == ("fine" if data == "simulator" else "coarse", 1.0, 1.0)


def picture(records: Records) -> str:
    """The picture that the page shows, as SVG."""
    return results_figure.figure(
        [
            r
            for r in everything(records)
            if r["data"] == "mm5" and is_main(r["data"], r["classes"], r["labels"], r["budget"])
        ]
    )


def picture_of_labels(records: Records) -> str:
    """The second picture, as SVG: rows that were trained with few labels, at one budget."""
    mine = [r for r in records if (r["data"], r["classes"], r["budget"]) == ("mm5", "coarse", 1.0)]
    few = {(r["row"], r["seed"]) for r in mine if r["labels"] < 1.0}
    return labels_figure.figure([r for r in mine if (r["row"], r["seed"]) in few])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Make the page of the study's records.")
    parser.add_argument("records", type=Path, help="of the study")
    parser.add_argument("folder", type=Path, help="with what the benches of vectors wrote, and not_held.md")
    parser.add_argument("page", type=Path, help="to write; the pictures go beside it as .svg")
    given = parser.parse_args(argv)
    records = json.loads(given.records.read_text(encoding="utf-8"))
    try:
        require_one_run(records)
    except ValueError as error:
        print(f"results_page: {given.records}: {error}", file=sys.stderr)
        return 1
    given.page.write_text(shipped_page(records, given.folder), encoding="utf-8")
    given.page.with_suffix(".svg").write_text(picture(records), encoding="utf-8")
    beside = given.page.with_name(f"{given.page.stem}_labels.svg")
    beside.write_text(picture_of_labels(records), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
