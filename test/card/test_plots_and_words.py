"""What a page draws and says of figures."""

from __future__ import annotations

import re
from typing import Any

import pytest

from robust_perception.card import plots
from robust_perception.card.page import _changes, _hardest, number, slowest
from robust_perception.evaluation.course import degraded, recovered


@pytest.mark.parametrize(
    ("value", "digits", "said"),
    [(-0.04, 2, "-0.04"), (-0.04, 1, "0.0"), (-0.4, 0, "0"), (-10.04, 1, "-10.0"), (None, 1, "\u2013")],
)
def test_a_figure_keeps_its_sign_unless_it_is_nothing(value: float | None, digits: int, said: str) -> None:
    assert number(value, digits) == said


def loss(degrade: float | str | None, recover: float | None, first_s: float | None = 3.0) -> dict[str, Any]:
    return {"degrade_ms": degrade, "recover_ms": recover, "first_s": first_s}


@pytest.mark.parametrize(
    ("losses", "without", "again"),
    [
        ([loss(300.0, 100.0), loss(None, 90.0)], "300 ms", "100 ms"),
        ([loss("never", None), loss(300.0, 100.0)], "1 of 2 never", "1 of 2 never"),
        ([loss("never", None), loss(None, None, None)], "never", "never"),
        ([loss(300.0, None, None)], "300 ms", "\u2013"),
        ([], "\u2013", "\u2013"),
    ],
)
def test_a_change_that_never_came_is_not_left_out(
    losses: list[dict[str, Any]], without: str, again: str
) -> None:
    assert (slowest(degraded(losses)), slowest(recovered(losses))) == (without, again)


def test_the_sentence_on_changes_tells_of_those_that_never_came() -> None:
    words = ("within {} ms", "{} times never")
    assert _changes(degraded([loss(300.0, None)]), *words) == ["within 300 ms"]
    told = _changes(degraded([loss(300.0, None), loss("never", None)]), *words)
    assert told == ["1 of 2 times never; else it took up to 300 ms."]
    assert _changes(degraded([]), *words) == []


def test_a_fault_that_leaves_no_output_costs_most_and_one_that_never_acted_nothing() -> None:
    def row(kind: str, points: float | None, outputs: int, **more: str) -> dict[str, Any]:
        severe = {"points_lost": points, "outputs": outputs, **more}
        return {"kind": kind, "sensors": ["rgb"], "severities": {"severe": severe}}

    rows = [row("noise", 9.0, 5), row("smoke", None, 0, reason="rgb: the fault met no frame")]
    assert "is noise on rgb: 9.0 points" in str(_hardest(rows))
    assert "is silent on rgb: no output is left" in str(_hardest([*rows, row("loss", None, 0)]))


@pytest.mark.parametrize(("period_s", "least_s"), [(0.1, 1.2), (0.5, 2.0)])
def test_outputs_of_a_slow_bag_are_one_line_and_one_bar(period_s: float, least_s: float) -> None:
    points = [
        {"time_s": i * period_s, "pattern": "rgb", "foreground_miou": 50.0, "confidence": 1.0}
        for i in range(13 if period_s < 0.5 else 4)
    ]
    content = {"points": points, "without_losses": points, "seconds": 2.0, "faults": []}
    drawn = plots.course(content, ["rgb"])
    assert drawn.count("<polyline") == 2
    (width,) = re.findall(r'class="s-rgb".*?width="([0-9.]+)"', drawn)
    assert float(width) >= least_s / 2.0 * (plots.WIDTH - plots.LEFT - plots.RIGHT) - 0.1
