"""A question to a service that is asked again while no answer comes.

An answer is lost where the service has not found yet who waits for it. The first answer counts, whichever
asking it is of: where the service was merely slow, what came of asking again is of no interest.
"""

from __future__ import annotations

import time
from typing import Any

AGAIN_S = 5.0
"""After that it is asked again."""


class Question:
    """One question; asked as soon as somebody looks whether it has been answered.

    Args:
        client: of the service, which is ready.
        request: what is asked; a service must bear to be asked it twice.
    """

    def __init__(self, client: Any, request: Any) -> None:
        self._client, self._request = client, request
        self._futures: list[Any] = []
        self._again_s = 0.0

    def answered(self) -> bool:
        """Whether there is an answer; asks, when it is time to."""
        if any(future.done() for future in self._futures):
            return True
        if time.monotonic() >= self._again_s:
            self._futures.append(self._client.call_async(self._request))
            self._again_s = time.monotonic() + AGAIN_S
        return False

    @property
    def answer(self) -> Any:
        """The first answer, once there is one."""
        return next(future for future in self._futures if future.done()).result()
