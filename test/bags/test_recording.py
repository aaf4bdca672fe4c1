"""A recording without ROS: what is queued, what is dropped, what is written when; the clock is the test's."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from robust_perception.bags import definitions, types
from robust_perception.bags.errors import BagError
from robust_perception.bags.reader import BagReader
from robust_perception.bags.recording import FLUSH_S, Limits, Recording
from robust_perception.bags.writer import BagWriter, Split

STRING = "std_msgs/msg/String"
DEFINITION = definitions.known(STRING)


class Clock:
    """Seconds, as the test says."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def message(number: int, size: int = 0) -> bytes:
    return types.serialize(types.message_class(STRING)(data=f"{number}".ljust(size)), STRING)


class AnyOrder(RuleBasedStateMachine):
    """Messages come, the writer writes, in any order: the queue keeps its limit, the rest is in the bag."""

    LIMIT = 400
    folder: Path

    @initialize()
    def begin(self) -> None:
        AnyOrder.runs = getattr(AnyOrder, "runs", 0) + 1
        self.path = AnyOrder.folder / f"bag_{AnyOrder.runs}"
        self.clock = Clock()
        self.recording = Recording(BagWriter(self.path), Limits(self.LIMIT, 0), self.clock)
        self.taken: list[bytes] = []
        self.waiting = self.dropped = self.number = 0
        self.recording.add_topic("/a", STRING, (), DEFINITION)

    @rule(size=st.integers(0, 300))
    def put(self, size: int) -> None:
        data = message(self.number, size)
        fits = self.waiting + len(data) <= self.LIMIT
        assert self.recording.put("/a", STRING, data, self.number, 0) is fits
        self.number += 1
        if fits:
            self.taken.append(data)
            self.waiting += len(data)
        else:
            self.dropped += 1

    @rule(seconds=st.floats(0.0, 2.0))
    def write(self, seconds: float) -> None:
        self.clock.now_s += seconds
        self.recording.write()
        self.waiting = 0

    @invariant()
    def the_books_are_right(self) -> None:
        if hasattr(self, "recording"):
            progress = self.recording.progress()
            assert progress.waiting == self.waiting <= self.LIMIT
            assert progress.messages == len(self.taken)
            assert sum(progress.dropped.values()) == self.dropped

    def teardown(self) -> None:
        if not hasattr(self, "recording"):
            return
        self.recording.close()
        if self.taken:
            with BagReader(self.path) as bag:
                assert [m.data for m in bag.messages()] == self.taken


def test_any_order(tmp_path: Path) -> None:
    AnyOrder.folder = tmp_path
    case = AnyOrder.TestCase
    case.settings = settings(max_examples=15, stateful_step_count=15)
    case().runTest()


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_what_is_older_than_a_second_is_on_the_disk(storage: str, tmp_path: Path) -> None:
    clock = Clock()
    recording = Recording(BagWriter(tmp_path / "bag", storage), Limits(free_bytes=0), clock)
    recording.add_topic("/a", STRING, (), DEFINITION)
    for number in range(30):
        recording.put("/a", STRING, message(number), number, 0)
        recording.write()
        clock.now_s += 0.1
    for file in (tmp_path / "bag").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())  # as if the process were no more
    name = {"mcap": "bag_0.mcap", "sqlite3": "bag_0.db3"}[storage]
    with BagReader(tmp_path / name) as bag:
        assert bag.message_count >= 30 - FLUSH_S / 0.1
    recording.close()


def test_the_line_tells_rates_and_drops(tmp_path: Path) -> None:
    clock = Clock()
    bag = BagWriter(tmp_path / "bag", split=Split(seconds=1e-9))
    recording = Recording(bag, Limits(queue_bytes=2000, free_bytes=0), clock)
    recording.add_topic("/a", STRING, (), DEFINITION)
    for number in range(20):
        recording.put("/a", STRING, message(number, 92), number, 0)
    clock.now_s += 2.0
    assert len(message(0, 92)) == 101
    line = str(recording.progress())
    assert line.startswith("2 s  1 topics  19 messages  0.0 MB  9.5 Hz  0.0 MB/s  1 dropped")
    assert line.endswith("(now: /a 1; the disk is too slow)")
    recording.write()
    clock.now_s += 1.0
    assert str(recording.progress()).endswith("0.0 Hz  0.0 MB/s  1 dropped  19 files")
    recording.close()


def test_a_disk_that_is_nearly_full_ends_the_recording(tmp_path: Path) -> None:
    clock = Clock()
    recording = Recording(BagWriter(tmp_path / "bag"), Limits(free_bytes=1 << 60), clock)
    recording.add_topic("/a", STRING, (), DEFINITION)
    recording.put("/a", STRING, message(1), 1, 0)
    clock.now_s += FLUSH_S
    failed = threading.Event()
    told: list[BagError] = []
    recording.start(lambda error: (told.append(error), failed.set()))  # type: ignore[func-returns-value]
    assert failed.wait(20)
    assert "to be left free on the disk" in str(told[0])
    assert recording.failure is told[0]
    assert not recording.put("/a", STRING, message(2), 2, 0)
    recording.close()
    with BagReader(tmp_path / "bag") as bag:
        assert [m.data for m in bag.messages()] == [message(1)]
        assert not bag.damage


def test_a_thread_writes_all_before_it_ends(tmp_path: Path) -> None:
    recording = Recording(BagWriter(tmp_path / "bag"), Limits(free_bytes=0))
    recording.start()
    recording.add_topic("/a", STRING, (), DEFINITION)
    for number in range(2000):
        assert recording.put("/a", STRING, message(number), number, number)
    recording.close()
    with BagReader(tmp_path / "bag") as bag:
        assert [m.data for m in bag.messages()] == [message(number) for number in range(2000)]


@pytest.mark.parametrize("error", [FileNotFoundError("moved away"), ValueError("not foreseen")])
def test_whatever_ends_the_writing_is_told_and_nothing_is_taken_any_more(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = Recording(BagWriter(tmp_path / "bag"), Limits(1 << 20, 0))
    recording.add_topic("/a", STRING, (), DEFINITION)

    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(BagWriter, "write", fails)
    told: list[BagError] = []
    done = threading.Event()

    def on_failure(failure: BagError) -> None:
        told.append(failure)
        done.set()

    recording.start(on_failure)
    assert recording.put("/a", STRING, message(0), 0, 0)
    assert done.wait(30)
    assert str(error) in str(told[0])
    assert recording.failure is told[0]
    assert not recording.put("/a", STRING, message(1), 1, 0)
    recording.close()
