"""A question is asked again while no answer comes, and the first answer counts."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import pytest

from robust_perception.ros import question
from robust_perception.ros.question import AGAIN_S, Question


class Service:
    def __init__(self) -> None:
        self.asked: list[Future[str]] = []

    def call_async(self, request: Any) -> Future[str]:
        assert request == "state"
        self.asked.append(Future())
        return self.asked[-1]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(question.time, "monotonic", lambda: now[0])
    return now


def test_it_is_asked_again_only_after_a_while(clock: list[float]) -> None:
    service = Service()
    asking = Question(service, "state")
    for passed, times in ((0.0, 1), (AGAIN_S - 0.1, 1), (0.1, 2), (0.1, 2), (AGAIN_S, 3)):
        clock[0] += passed
        assert not asking.answered()
        assert len(service.asked) == times


def test_a_late_answer_to_the_first_asking_counts_before_one_to_the_second(clock: list[float]) -> None:
    service = Service()
    asking = Question(service, "state")
    assert not asking.answered()
    clock[0] += AGAIN_S
    assert not asking.answered()
    service.asked[1].set_result("no such transition")
    service.asked[0].set_result("done")
    assert asking.answered()
    assert asking.answer == "done"
    assert len(service.asked) == 2
