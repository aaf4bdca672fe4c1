"""The last line of a run: how many promises held, and what may have kept them from it."""

from __future__ import annotations

import re

import pytest

from robust_perception.demo.promises import Promise
from robust_perception.engine.threads import usable_cores

pytest.importorskip("rclpy", reason="rclpy is not installed")

from robust_perception.demo.command import outcome

KEPT, BROKEN = (Promise("rgb degraded", "at most 500 ms", "seen", held) for held in (True, False))


def test_a_broken_promise_comes_with_load_and_cores() -> None:
    text = outcome([KEPT, BROKEN, KEPT], (0.25, 7.5))
    assert text.startswith("2 of 3 promises held; ")
    numbers = [float(number) for number in re.findall(r"[\d.]+(?= before| at|\s+cores)", text)]
    assert numbers == [0.2, 7.5, usable_cores()]


def test_kept_promises_need_no_hint() -> None:
    assert outcome([KEPT, KEPT], (9.0, 9.0)) == "2 of 2 promises held"
