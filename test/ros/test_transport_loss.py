"""What part of a sensor's messages is said to be lost, and when nothing is said."""

from __future__ import annotations

from robust_perception.ros.transport_loss import LEAST_OF_SILENCE, TransportLoss

SECOND = 1_000_000_000


def test_part_lost_of_the_last_seconds() -> None:
    loss = TransportLoss()
    assert loss.part(0) == 0.0
    loss.came, loss.lost = 15, 15
    assert loss.part(SECOND) == 0.0, "too early to tell"
    loss.came, loss.lost = 45, 45
    assert loss.part(3 * SECOND) == 0.5
    for t in range(4, 10):
        loss.came += 30
        part = loss.part(t * SECOND)
    assert part == 0.0, "what was lost long ago is forgotten"
    assert loss.part(30 * SECOND) == 0.0, "nothing sent is nothing lost"


def test_a_slow_sensor_of_which_nothing_comes_is_told() -> None:
    loss = TransportLoss()
    loss.came = 1
    for t in range(LEAST_OF_SILENCE):
        assert loss.part(t * SECOND) == 0.0, "too few to tell"
        loss.lost += 1
    assert loss.part(LEAST_OF_SILENCE * SECOND) == 1.0


def test_a_few_losses_among_few_messages_are_not_told() -> None:
    loss = TransportLoss()
    for t in range(6):
        assert loss.part(t * SECOND) == 0.0
        loss.came += 1
        loss.lost += t % 2
