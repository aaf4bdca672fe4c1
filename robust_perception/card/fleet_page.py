"""Many bags as a page: quality over all of them, a row a bag, every sensor's losses, the recipe.

One HTML file that needs nothing but itself, in the clothes of the robustness card. It is a function of the
report's content and the date, which stands between `<!--volatile-->` and `<!--/volatile-->`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from robust_perception.card.page import environment, number

RECIPE = (
    "model",
    "model_version",
    "model_sha256",
    "backend",
    "precision",
    "bags_from",
    "bags_sha256",
    "faults",
    "seed",
    "rate_hz",
)
"""Heads of the report that say how it was made."""


def render(content: Mapping[str, Any], date: str) -> str:
    """The page.

    Args:
        content: of a report on many bags, as its JSON has it.
        date: when it was made, in words.
    """
    pages = environment()
    sensors = [sensor for sensor in ("rgb", "depth", "thermal", "audio") if _is_in(sensor, content)]
    return pages.get_template("fleet.html").render(
        report=content,
        sensors=sensors,
        words=in_words(content),
        date=date,
        scenes=content["mean"]["scene_map"] is not None,
        recipe=[(name.replace("_", " "), content[name]) for name in RECIPE]
        + [("versions", ", ".join(f"{name} {version}" for name, version in content["versions"].items()))],
    )


def in_words(content: Mapping[str, Any]) -> str:
    """What the page says, in a few sentences."""
    rows, failed = content["bags"], content["failed"]
    seconds = sum(row["seconds"] for row in rows)
    sentences = [
        f"The model {content['model']} {content['model_version']} was measured on {_bags(len(rows))} of "
        f"{seconds:.0f} s in all, {content['frames']} outputs."
    ]
    if failed:
        sentences.append(f"{_bags(len(failed))} could not be measured; see below why.")
    judged = [row for row in rows if row["foreground_miou"] is not None]
    if judged:
        worst = min(judged, key=lambda row: row["foreground_miou"])
        best = max(judged, key=lambda row: row["foreground_miou"])
        sentences.append(
            f"The bag with the lowest quality is {worst['bag']}, {number(worst['foreground_miou'])} % "
            f"foreground mIoU, the one with the highest {best['bag']}, {number(best['foreground_miou'])} %."
        )
    else:
        sentences.append("No bag says what was really there, so there is no quality, only what came when.")
    return " ".join(sentences)


def _bags(count: int) -> str:
    return "1 bag" if count == 1 else f"{count} bags"


def _is_in(sensor: str, content: Mapping[str, Any]) -> bool:
    return any(sensor in pattern.split("+") for pattern in content["patterns"])
