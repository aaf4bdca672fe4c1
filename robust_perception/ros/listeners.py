"""Whether those who want to hear a node's topics are there, so that its first messages are not lost."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

SETTLED_S = 1.5
"""No new listener for so long means that those who are there have found everything.

Of two who listened already the second was found 0.8 s after the first at worst, of 60 times, with the shipped
profile; 2.5 s without its announcements.
"""


class Listeners:
    """The listeners of some publishers. They find the topics one by one: their number must come to rest."""

    def __init__(self, publishers: Iterable[Any]) -> None:
        self._publishers = list(publishers)
        self._count, self._since = 0, time.monotonic()

    def settled(self) -> bool:
        """Whether there are any, and none has come or gone for `SETTLED_S`."""
        count = sum(publisher.get_subscription_count() for publisher in self._publishers)
        now = time.monotonic()
        if count != self._count:
            self._count, self._since = count, now
        return count > 0 and now - self._since > SETTLED_S
