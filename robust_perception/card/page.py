"""A card as a page: one HTML file that needs nothing but itself.

The page is a function of the card's content and the date. The date and the latency, which are of one machine
and one day, stand between `<!--volatile-->` and `<!--/volatile-->`; all else is the same for the same inputs.
"""

from __future__ import annotations

import base64
import datetime
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from robust_perception.card import plots
from robust_perception.card.compare import Comparison
from robust_perception.card.examples import Example
from robust_perception.card.measure import Measured
from robust_perception.evaluation.course import Changes, degraded, recovered

NOTHING = "–"
DEEP = 40.0
"""Points at which a cell of a table has its full colour."""

NAMES = {
    "loss": "silent",
    "flap": "loose connector",
    "drop": "frames dropped",
    "delay": "late",
    "jitter": "jitter",
    "reorder": "out of order",
    "freeze": "frozen picture",
    "freeze_stamp": "frozen stamp",
    "clock": "clock behind",
    "noise": "noise",
    "darkness": "darkness",
    "overexposure": "over-exposure",
    "smoke": "smoke",
    "dead_rows": "dead rows",
    "holes": "holes",
    "shutter": "shutter",
    "drift": "drift",
    "clipping": "clipping",
    "gaps": "gaps",
}
"""Fault kind -> what people call it."""

UNITS = {
    "sigma": {"rgb": "counts", "depth": "m", "thermal": "K", "audio": "of full scale"},
    "seconds": "s",
    "period": "s",
    "kelvin": "K",
    "density": "per m",
}


def render(measured: Measured, comparison: Comparison | None, date: str) -> str:
    """The page.

    Args:
        measured: the card.
        comparison: with another card; None = none.
        date: when it was made, in words.
    """
    pages = environment()
    content = measured.content
    sensors = content["sensors"]
    pages.filters |= {"lost": lost_style, "share": share_style, "strength": strength}
    pages.globals |= {"fault_name": NAMES.get}
    return pages.get_template("card.html").render(
        card=content,
        sensors=sensors,
        first=most_important(content),
        words=in_words(content),
        date=date,
        course=plots.course(content["course"], sensors),
        calibration=[
            (
                pattern,
                plots.reliability(row["boxes"], "score", "boxes that are right"),
                plots.reliability(row["frames"], "confidence", "pixels that are right"),
                row,
            )
            for pattern, row in content["calibration"].items()
        ],
        best=_pictures(measured.examples.best),
        worst=_pictures(measured.examples.worst),
        groups=_groups(content["faults"]["rows"]),
        recipe=_recipe(content["recipe"]),
        comparison=comparison,
        slowest=max((row["p50_ms"] for row in content["latency"]["patterns"].values()), default=1.0),
    )


def environment() -> Environment:
    """How the templates of this room are read: everything escaped, nothing undefined, figures for people."""
    pages = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters |= {
        "number": number,
        "degraded": lambda losses: slowest(degraded(losses)),
        "recovered": lambda losses: slowest(recovered(losses)),
    }
    return pages


def today() -> str:
    """The date and time as pages say it."""
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def in_words(content: Mapping[str, Any]) -> str:
    """What the card says, in a few sentences."""
    summary, recipe = content["summary"], content["recipe"]
    full, mean, worst = summary["full"], summary["mean"], summary["worst"]
    hardest = _hardest(content["faults"]["rows"])
    sentences = [
        f"The model {recipe['model']} {recipe['model_version']} was measured on {content['frames']} frames "
        f"of {recipe['data']} ({recipe['split']}) with every subset of {len(content['sensors'])} sensors.",
        f"With all of them ({full['pattern']}) it reaches {number(full['foreground_miou'])} % foreground "
        f"mIoU, on average over all subsets {number(mean['foreground_miou'])} %, and "
        f"{number(worst['foreground_miou'])} % with the worst, {worst['pattern']}.",
        f"The sensor that matters most is {most_important(content)}.",
    ]
    losses = content["course"]["losses"]
    sentences += _changes(
        degraded(losses),
        "When a sensor falls silent, an output without it follows within {} ms of its last frame.",
        "{} times that a sensor fell silent, no output without it followed",
    )
    sentences += _changes(
        recovered(losses),
        "When it returns, it takes part again within {} ms of its first.",
        "{} times that a sensor returned, it did not take part again",
    )
    if hardest is not None:
        sentences.append(hardest)
    return " ".join(sentences)


def most_important(content: Mapping[str, Any]) -> str:
    """The sensor with the largest Shapley value."""
    shares: Mapping[str, float] = content["importance"]["foreground"]
    return max(shares, key=lambda name: shares[name])


def number(value: float | None, digits: int = 1) -> str:
    """A figure for people; a dash for what is not known."""
    if value is None:
        return NOTHING
    said = f"{value:.{digits}f}"
    return said.lstrip("-") if float(said) == 0.0 else said  # no minus before nothing


def slowest(changes: Changes) -> str:
    """The slowest change of the output, or how many never came."""
    if changes.never:
        return "never" if changes.never == changes.of else f"{changes.never} of {changes.of} never"
    return NOTHING if changes.slowest_ms is None else f"{number(changes.slowest_ms, 0)} ms"


def _changes(changes: Changes, within: str, never: str) -> list[str]:
    """A sentence on changes of the output; none where there was nothing to change for."""
    slowest_ms = None if changes.slowest_ms is None else number(changes.slowest_ms, 0)
    if changes.never:
        rest = "" if slowest_ms is None else f"; else it took up to {slowest_ms} ms"
        return [f"{never.format(f'{changes.never} of {changes.of}')}{rest}."]
    return [] if slowest_ms is None else [within.format(slowest_ms)]


def listed(names: Sequence[str]) -> str:
    """Names in a row, as in a sentence."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def lost_style(points: float | None) -> str:
    """Background of a cell by the points that are lost in it."""
    return "" if points is None else f"--deep: {min(max(points / DEEP, 0.0), 1.0):.2f}"


def share_style(points: float | None) -> str:
    """Background of a cell by what a sensor adds: one colour above zero, another below."""
    if points is None:
        return ""
    return f"--deep: {min(abs(points) / DEEP, 1.0):.2f}; --hue: var(--{'adds' if points >= 0 else 'lost'})"


def strength(keys: Mapping[str, float], sensors: Sequence[str]) -> str:
    """How strong a fault was, in words with units; seconds and kelvin speak for themselves."""
    said = []
    for key, value in keys.items():
        if key == "time":
            said.append("always" if value == 1.0 else f"{100 * value:g} % of the time")
            continue
        unit = UNITS.get(key, "")
        if isinstance(unit, Mapping):
            unit = unit.get(sensors[0], "")
        part = key in ("part", "duty")
        figure = f"{100 * value:g} %" if part else f"{value:g} {unit}".strip()
        said.append(figure if key in ("seconds", "kelvin") else f"{key} {figure}")
    return ", ".join(said)


def _hardest(rows: Sequence[Mapping[str, Any]]) -> str | None:
    known = [(_cost(row["severities"]["severe"]), row) for row in rows if "severe" in row["severities"]]
    costs = [(points, row) for points, row in known if points is not None]
    if not costs:
        return None
    points, row = max(costs, key=lambda pair: pair[0])
    name = f"{NAMES[row['kind']]} on {listed(row['sensors'])}"
    cost = "no output is left" if points == math.inf else f"{number(points)} points"
    return f"Of {len(rows)} faults, the one that costs most when severe is {name}: {cost}."


def _cost(figures: Mapping[str, Any]) -> float | None:
    """Points that a fault cost; infinite where it left no output, None where nobody knows."""
    if "reason" not in figures and figures["outputs"] == 0:
        return math.inf
    points: float | None = figures["points_lost"]
    return points


def _groups(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, list[Mapping[str, Any]]]]:
    """Faults by nature: heading, which of the clean figures belongs to them, rows."""
    timed = [row for row in rows if row["timed"]]
    content = [row for row in rows if not row["timed"]]
    groups = [
        ("Link and clock, over time", "timed", timed),
        ("Light, noise and damage, frame by frame", "still", content),
    ]
    return [group for group in groups if group[2]]


def _pictures(examples: Sequence[Example]) -> list[dict[str, Any]]:
    return [
        {**e.facts, "said": base64.b64encode(e.said).decode(), "true": base64.b64encode(e.true).decode()}
        for e in examples
    ]


def _recipe(recipe: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = []
    for name, value in recipe.items():
        if isinstance(value, Mapping):
            value = ", ".join(f"{key} {version}" for key, version in value.items())
        rows.append((name.replace("_", " "), f"{value:g}" if isinstance(value, float) else str(value)))
    return rows
