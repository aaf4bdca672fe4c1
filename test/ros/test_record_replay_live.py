"""Recorded, replayed and recorded again: the same bytes, the same stamps, the same course of time."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from live_graph import Graph, Process

from robust_perception.bags.reader import BagReader, RawMessage
from robust_perception.bags.stamps import stamp_in

pytestmark = pytest.mark.ros

TALKER = str(Path(__file__).with_name("talker.py"))
TOPICS = ("/rgb/image:rgb:best_effort", "/depth/image:depth:reliable", "/audio:audio:reliable")
FRAMES = 15


def by_topic(path: Path) -> dict[str, list[RawMessage]]:
    found: dict[str, list[RawMessage]] = {}
    with BagReader(path) as bag:
        assert not bag.damage
        for message in bag.messages():
            found.setdefault(message.topic, []).append(message)
    return found


def finish(recorder: Process, live: Graph) -> None:
    text = f"  {FRAMES * len(TOPICS)} messages  "
    live.wait_until("all to be recorded", lambda: text in recorder.text())
    recorder.signal(signal.SIGINT)
    assert recorder.wait(30) == 0


def record(live: Graph, path: Path, storage: str) -> Process:
    names = ", ".join(f"'{topic.split(':')[0]}'" for topic in TOPICS)
    return live.start(
        "recorder_node", f"bag:={path}", f"topics:=[{names}]", f"storage:={storage}", "progress:=0.3"
    )


@pytest.mark.parametrize(("first", "second"), [("mcap", "sqlite3"), ("sqlite3", "mcap")])
def test_bytes_and_stamps_are_the_same(first: str, second: str, live: Graph, tmp_path: Path) -> None:
    recorder = record(live, tmp_path / "first", first)
    talker = live.run([sys.executable, TALKER, str(FRAMES), "15", *TOPICS], "talker")
    finish(recorder, live)
    talker.signal(signal.SIGINT)
    assert talker.wait() == 0
    again = record(live, tmp_path / "second", second)
    player = live.start("replay_node", f"bag:={tmp_path / 'first'}", "stamps:=recorded")
    assert player.wait(60) == 0
    finish(again, live)
    before, after = by_topic(tmp_path / "first"), by_topic(tmp_path / "second")
    assert before.keys() == after.keys()
    for topic, messages in before.items():
        assert [m.data for m in after[topic]] == [m.data for m in messages]
        assert [stamp_in(m.data) for m in after[topic]] == [stamp_in(m.data) for m in messages]
        assert [m.msgtype for m in after[topic]] == [m.msgtype for m in messages]
        # Times of reception are those of this time, and how quick the machine is: only their order is sure.
        assert np.all(np.diff([m.stamp_ns for m in after[topic]]) >= 0)
