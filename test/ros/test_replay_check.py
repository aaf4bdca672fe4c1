"""What several replays of one pattern are put together to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from robust_perception.ros.replay_check import ATTEMPTS, LiveGraph
from robust_perception.vocabulary import Modality, Pattern

RGB = Pattern.parse("rgb")
FIRST, SECOND, OTHER = (np.full((2, 2), value, np.uint8) for value in (1, 2, 9))


def graph_that_gives(
    plays: list[dict[int, np.ndarray]], speeds: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> LiveGraph:
    """A graph whose replays have these outputs, and that notes how fast each was asked to be."""
    graph = LiveGraph("model", [Modality.RGB], 0, tmp_path)

    def play(bag: Path, pattern: Pattern, stamps: list[int], speed: float) -> dict[int, np.ndarray]:
        speeds.append(speed)
        return plays.pop(0)

    monkeypatch.setattr(graph, "_play", play)
    return graph


def test_a_later_replay_adds_what_is_missing_and_covers_up_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speeds: list[float] = []
    plays = [{10: FIRST}, {10: OTHER, 20: SECOND}]
    graph = graph_that_gives(plays, speeds, tmp_path, monkeypatch)
    replayed = graph.replay(tmp_path / "bag", RGB, [10, 20])
    assert replayed.label_maps[10] is FIRST, "a difference must not vanish because another frame was missing"
    assert replayed.label_maps[20] is SECOND
    assert replayed.replays == 2
    assert speeds == [1.0, 0.5]


def test_a_complete_replay_is_not_repeated_and_an_incomplete_one_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speeds: list[float] = []
    graph = graph_that_gives([{10: FIRST}], speeds, tmp_path, monkeypatch)
    assert graph.replay(tmp_path / "bag", RGB, [10]).replays == 1
    graph = graph_that_gives([{} for _ in range(ATTEMPTS)], speeds, tmp_path, monkeypatch)
    replayed = graph.replay(tmp_path / "bag", RGB, [10])
    assert (replayed.label_maps, replayed.replays) == ({}, ATTEMPTS)
