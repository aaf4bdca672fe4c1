"""Where a replay stands, whatever is done to it in whatever order; the clock is the test's."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from robust_perception.bags.playhead import Playhead

S = 1_000_000_000
PERIOD_NS = S // 10


class AnyOrder(RuleBasedStateMachine):
    """A player of messages every 0.1 s, told to pause, go on and step: each message comes once, in time."""

    @initialize(speed=st.sampled_from([0.5, 1.0, 4.0]), paused=st.booleans())
    def begin(self, speed: float, paused: bool) -> None:
        self.speed, self.now_ns = speed, 17 * S
        self.head = Playhead(speed, paused)
        self.head.begin(0, self.now_ns)
        self.paused, self.owed = paused, 0
        self.next = 0
        self.ran_ns = 0
        """Of the recording: what has passed while it played."""

    @rule(nanoseconds=st.integers(0, S))
    def wait(self, nanoseconds: int) -> None:
        self.now_ns += nanoseconds
        if not self.paused:
            self.ran_ns += round(nanoseconds * self.speed)
        self.play()

    @rule()
    def pause(self) -> None:
        self.play()
        self.head.pause(self.now_ns)
        self.paused = True

    @rule()
    def resume(self) -> None:
        self.head.resume(self.now_ns)
        self.paused = False
        self.play()

    @rule()
    def step(self) -> None:
        assert self.head.step() is self.paused
        before = self.next
        self.play()
        if self.paused:
            assert self.next == before + 1
            self.ran_ns = max(self.ran_ns, before * PERIOD_NS)

    @rule(messages=st.integers(1, 4))
    def step_set(self, messages: int) -> None:
        assert self.head.step_set((messages - 1) * PERIOD_NS) is self.paused
        before = self.next
        self.play()
        if self.paused:
            assert self.next == before + messages
            self.ran_ns = max(self.ran_ns, (self.next - 1) * PERIOD_NS)

    def play(self) -> None:
        """Play what may be played, as the player does."""
        while True:
            offset_ns = self.next * PERIOD_NS
            left = self.head.left(offset_ns, self.now_ns)
            if left is None or left > 0:
                return
            self.head.arrive(offset_ns, self.now_ns)
            self.next += 1

    @invariant()
    def it_stands_where_the_time_it_ran_has_led(self) -> None:
        if hasattr(self, "head"):
            assert self.head.paused is self.paused
            assert self.head.position(self.now_ns) == pytest.approx(self.ran_ns, abs=50)
            if not self.paused:
                assert (self.next - 1) * PERIOD_NS <= self.ran_ns + 50 < (self.next + 1) * PERIOD_NS


def test_any_order() -> None:
    case = AnyOrder.TestCase
    case.settings = settings(max_examples=60)
    case().runTest()


def test_as_fast_as_possible_all_is_due_and_it_can_be_paused() -> None:
    head = Playhead(0.0)
    head.begin(0, 5 * S)
    assert head.left(100 * S, 5 * S) == 0
    head.arrive(100 * S, 5 * S)
    assert head.position(9 * S) == 100 * S
    head.pause(9 * S)
    assert head.left(101 * S, 9 * S) is None
    assert head.step()
    assert head.left(101 * S, 9 * S) == 0


def test_stamps_move_on_by_the_length_of_a_pause() -> None:
    head = Playhead(2.0)
    head.begin(0, 0)
    assert head.due(4 * S) == 2 * S
    head.pause(1 * S)
    head.resume(11 * S)
    assert head.due(4 * S) == 12 * S
