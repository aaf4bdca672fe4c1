"""Two cards side by side, and what has become worse: a gate for a robot's continuous integration.

A regression is a pattern, or a fault at a severity, whose foreground mIoU (of a pattern also the mAP50) is
lower than before by more than a tolerance in points, or that was measured before and no longer is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from robust_perception.card.errors import CardError
from robust_perception.card.measure import SCHEMA
from robust_perception.vocabulary import MODALITIES, Modality

SAME = (
    "data_sha256",
    "split",
    "seed",
    "slides",
    "bag_sha256",
    "seconds",
    "topics",
    "depth_scale",
    "thermal_scale",
    "thermal_offset",
    "audio",
    "header_age",
)
"""What two recipes must agree in to be compared."""
SAME_CONTENT = ("frames", "classes")
"""And what the cards themselves must."""


class Change(NamedTuple):
    """One figure of both cards, percent; None = not known there."""

    name: str
    metric: str
    before: float | None
    now: float | None

    @property
    def delta(self) -> float | None:
        """Points gained; None when one of the two is not known."""
        return None if self.before is None or self.now is None else self.now - self.before


@dataclass(frozen=True)
class Comparison:
    """A card against another.

    Attributes:
        other: recipe of the other one.
        tolerance: points that may be lost.
        changes: every figure that one of them has.
    """

    other: Mapping[str, Any]
    tolerance: float
    changes: Sequence[Change]

    @property
    def regressions(self) -> list[Change]:
        """What has become worse beyond the tolerance, the worst first; what is missing before all."""
        lost = [c for c in self.changes if c.before is not None and c.now is None]
        worse = [c for c in self.changes if c.delta is not None and c.delta < -self.tolerance]
        return lost + sorted(worse, key=lambda c: c.delta or 0.0)

    def to_text(self) -> str:
        """For people: one line a regression, or that there is none."""
        found = self.regressions
        if not found:
            return f"no regression beyond {self.tolerance:g} points in {len(self.changes)} figures"
        lines = [f"{len(found)} of {len(self.changes)} figures worse by more than {self.tolerance:g} points:"]
        for change in found:
            before = f"{change.before:.1f}" if change.before is not None else "-"
            now = "not measured" if change.now is None else f"{change.now:.1f}"
            delta = "" if change.delta is None else f" ({change.delta:+.1f})"
            lines.append(f"  {change.name}: {change.metric} {before} -> {now}{delta}")
        return "\n".join(lines)


def read_card(path: Path) -> dict[str, Any]:
    """The content of a card's JSON file; CardError when it is none, or of another version."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        msg = f"{path}: expected the JSON of a card, got {error}"
        raise CardError(msg) from None
    parts = ("schema", "recipe", "patterns", "faults")
    if not isinstance(content, dict) or any(part not in content for part in parts):
        msg = f"{path}: expected the JSON of a card with {', '.join(parts)}, got something else"
        raise CardError(msg)
    if content["schema"] != SCHEMA:
        msg = f"{path}: expected a card of version {SCHEMA}, got {content['schema']!r}; measure it again"
        raise CardError(msg)
    return content


def sensor_of(card: Mapping[str, Any]) -> Modality | None:
    """The sensor that faults of link and clock hit in a card; None where it does not say."""
    told = card["faults"].get("sensor") if isinstance(card["faults"], Mapping) else None
    return next((m for m in MODALITIES if m == told), None)


def compare(now: Mapping[str, Any], before: Mapping[str, Any], tolerance: float) -> Comparison:
    """Hold a card against an older one.

    Raises:
        CardError: they were not measured on the same data in the same way, or the older one is damaged.
    """
    try:
        ours, theirs = now["recipe"], before["recipe"]
        differing = [key for key in SAME if ours.get(key) != theirs.get(key)]
        differing += [key for key in SAME_CONTENT if now[key] != before[key]]
        if differing:
            msg = f"expected a card of the same data, measured alike, got another {', '.join(differing)}"
            raise CardError(msg)
        figures = {key: _figures(card) for key, card in (("now", now), ("before", before))}
    except (KeyError, TypeError, AttributeError) as error:
        msg = f"expected a whole card to compare with, got one without {error}"
        raise CardError(msg) from None
    names = dict.fromkeys([*figures["now"], *figures["before"]])
    changes = [Change(*name, figures["before"].get(name), figures["now"].get(name)) for name in names]
    return Comparison(theirs, tolerance, [c for c in changes if (c.before, c.now) != (None, None)])


def _figures(card: Mapping[str, Any]) -> dict[tuple[str, str], float | None]:
    return dict(_listed(card))


def _listed(card: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], float | None]]:
    for pattern, row in card["patterns"].items():
        yield (pattern, "mIoU"), row["foreground_miou"]
        yield (pattern, "mAP50"), row["map50"]
    for row in card["faults"]["rows"]:
        for severity, figures in row["severities"].items():
            name = f"{severity} {row['kind']} on {'+'.join(row['sensors'])}"
            yield (name, "mIoU"), figures["foreground_miou"]
