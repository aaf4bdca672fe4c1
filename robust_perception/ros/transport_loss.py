"""Which part of a sensor's messages the transport lost lately.

A best-effort image that does not fit into the sender's shared memory is lost without an error on either side;
some get through, so that the topic looks alive. The middleware knows, from the sequence numbers of those that
came, how many did not.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

SECOND = 1_000_000_000

WINDOW_NS = 5 * SECOND
"""How far back is looked."""

LEAST_NS = 2 * SECOND
"""How much of it must have passed before anything is said."""

LEAST_MESSAGES = 20
"""Messages, come or lost, that make a part worth a word."""

LEAST_OF_SILENCE = 3
"""Messages lost that are worth one where none has come: a sensor of 1 Hz sends no more in the window."""


class Counts(NamedTuple):
    """What was counted up to a time."""

    steady_ns: int
    came: int
    lost: int


class TransportLoss:
    """Of one sensor; `came` and `lost` only grow."""

    def __init__(self) -> None:
        self.came = 0
        """Messages that arrived."""
        self.lost = 0
        """Messages the middleware reported lost."""
        self._row: deque[Counts] = deque()

    def part(self, steady_ns: int) -> float:
        """The part of the messages of the last seconds that is lost, 0 to 1; 0 while too little is known."""
        row = self._row
        row.append(Counts(steady_ns, self.came, self.lost))
        while steady_ns - row[0].steady_ns > WINDOW_NS:
            row.popleft()
        came, lost = self.came - row[0].came, self.lost - row[0].lost
        least = LEAST_MESSAGES if came else LEAST_OF_SILENCE
        if steady_ns - row[0].steady_ns < LEAST_NS or came + lost < least:
            return 0.0
        return lost / (came + lost)
