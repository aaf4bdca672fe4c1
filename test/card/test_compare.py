"""What counts as worse."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from robust_perception.card.compare import compare, read_card, sensor_of
from robust_perception.card.errors import CardError
from robust_perception.vocabulary import Modality


def card() -> dict[str, Any]:
    figures = {"foreground_miou": 60.0}
    return {
        "schema": 1,
        "frames": 5,
        "classes": ["background", "cup"],
        "recipe": {"data_sha256": "d", "split": "test", "seed": 0, "slides": 8, "model_sha256": "m"},
        "patterns": {
            "rgb+depth": {"foreground_miou": 80.0, "map50": 90.0},
            "rgb": {"foreground_miou": 70.0, "map50": None},
        },
        "faults": {
            "rows": [{"kind": "smoke", "sensors": ["rgb", "depth"], "severities": {"severe": figures}}]
        },
    }


def test_the_same_card_has_no_regression() -> None:
    found = compare(card(), card(), 0.0)
    assert found.regressions == []
    assert len(found.changes) == 4, "a figure that neither knows is none"
    assert found.to_text() == "no regression beyond 0 points in 4 figures"


def test_what_is_worse_beyond_the_tolerance_is_named() -> None:
    now = card()
    now["patterns"]["rgb"]["foreground_miou"] = 68.5
    now["faults"]["rows"][0]["severities"]["severe"]["foreground_miou"] = 50.0
    now["patterns"]["rgb+depth"]["map50"] = 99.0
    names = [change.name for change in compare(now, card(), 1.0).regressions]
    assert names == ["severe smoke on rgb+depth", "rgb"]
    assert [c.name for c in compare(now, card(), 2.0).regressions] == ["severe smoke on rgb+depth"]
    text = compare(now, card(), 1.0).to_text()
    assert "severe smoke on rgb+depth: mIoU 60.0 -> 50.0 (-10.0)" in text
    assert text.startswith("2 of 4 figures worse by more than 1 points")


def test_boxes_are_held_against_boxes_and_what_is_missing_comes_first() -> None:
    now = card()
    now["patterns"]["rgb+depth"] = {"foreground_miou": 77.0, "map50": 80.0}
    now["patterns"]["rgb"]["foreground_miou"] = None
    found = compare(now, card(), 3.0)
    told = [(change.name, change.metric, change.delta) for change in found.regressions]
    assert told == [("rgb", "mIoU", None), ("rgb+depth", "mAP50", -10.0)], "3 points are within 3 points"
    assert found.to_text().splitlines()[1:] == [
        "  rgb: mIoU 70.0 -> not measured",
        "  rgb+depth: mAP50 90.0 -> 80.0 (-10.0)",
    ]


def test_what_is_no_longer_measured_is_a_regression_and_what_is_new_is_none() -> None:
    now, before = card(), card()
    del now["patterns"]["rgb"]
    (found,) = compare(now, before, 100.0).regressions
    assert (found.name, found.metric, found.before, found.now) == ("rgb", "mIoU", 70.0, None)
    assert compare(before, now, 0.0).regressions == []


@pytest.mark.parametrize("key", ["data_sha256", "split", "seed", "slides", "bag_sha256", "seconds"])
def test_only_cards_of_the_same_data_are_compared(key: str) -> None:
    other = copy.deepcopy(card())
    other["recipe"][key] = "another"
    with pytest.raises(CardError, match=f"got another {key}"):
        compare(card(), other, 1.0)


@pytest.mark.parametrize("other", [{"frames": 6}, {"classes": ["background", "cup", "box"]}])
def test_other_frames_or_classes_are_another_measurement(other: dict[str, Any]) -> None:
    with pytest.raises(CardError, match=f"got another {next(iter(other))}"):
        compare(card(), card() | other, 1.0)


@pytest.mark.parametrize(
    "key", ["topics", "depth_scale", "thermal_scale", "thermal_offset", "audio", "header_age"]
)
def test_a_bag_that_is_read_otherwise_is_another_measurement(key: str) -> None:
    now = card()
    now["recipe"][key] = "another"
    with pytest.raises(CardError, match=f"got another {key}"):
        compare(now, card(), 1.0)


def test_the_sensor_of_a_card_is_that_of_its_faults() -> None:
    told = card()
    assert sensor_of(told) is None
    told["faults"]["sensor"] = "depth"
    assert sensor_of(told) is Modality.DEPTH


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "expected the JSON of a card"),
        ("[" * 100_000, "expected the JSON of a card"),
        ("[]", "expected the JSON of a card with schema"),
        ("5", "expected the JSON of a card with schema"),
        ('{"schema": 1}', "expected the JSON of a card with schema"),
        (json.dumps(card() | {"schema": 99}), "expected a card of version 1, got 99"),
    ],
)
def test_what_is_no_card_is_named(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    path.write_text(text)
    with pytest.raises(CardError, match=said):
        read_card(path)


def test_a_damaged_card_is_named() -> None:
    broken = card()
    del broken["patterns"]["rgb"]["map50"]
    with pytest.raises(CardError, match="got one without 'map50'"):
        compare(card(), broken, 1.0)
