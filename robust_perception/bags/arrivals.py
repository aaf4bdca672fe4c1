"""Recorded messages in the order in which they arrive, after faults that lose, change or delay them."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from itertools import count
from typing import NamedTuple

from robust_perception.bags.reader import RawMessage

SECOND = 1_000_000_000

Alter = Callable[[RawMessage, float], list[tuple[bytes, float]]]
"""Message and its time in the script to what arrives of it: bytes and seconds of delay."""


class Due(NamedTuple):
    """A message and the time, ns since the start of the recording, at which it arrives."""

    offset_ns: int
    topic: str
    msgtype: str
    data: bytes


def arrivals(messages: Iterator[RawMessage], begin_ns: int, alter: Alter) -> Iterator[Due]:
    """What arrives, in order of arrival.

    Args:
        messages: by time of reception.
        begin_ns: time of reception of the bag's first message.
        alter: applies faults.
    """
    order = count()
    late: list[tuple[int, int, Due]] = []
    for message in messages:
        offset_ns = message.stamp_ns - begin_ns
        while late and late[0][0] <= offset_ns:
            yield heapq.heappop(late)[2]
        for data, delay_s in alter(message, offset_ns / SECOND):
            due = Due(offset_ns + round(delay_s * SECOND), message.topic, message.msgtype, data)
            if delay_s > 0:
                heapq.heappush(late, (due.offset_ns, next(order), due))
            else:
                yield due
    while late:
        yield heapq.heappop(late)[2]
