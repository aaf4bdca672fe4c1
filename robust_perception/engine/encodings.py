"""The latents of the last frames of each sensor, made once, by whoever needs them first.

Of several inferences that begin together, each makes the latents that nobody is at yet, and then waits for
the others': a frame that many of them need is encoded once, and different sensors side by side.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, wait

from robust_perception.engine.pipeline import Latents, Pipeline
from robust_perception.vocabulary import Modality, Pattern, SensorFrame

KEPT = 2
"""Frames of a sensor whose latents are kept."""


class Encoding:
    """A frame's latents, made or to be made.

    Args:
        frame: the frame.
        pattern: the only one the latents are for; None = all.
        encode: makes them, on the pipeline it is given.
        spent_ms: milliseconds that were spent on the frame before.

    Attributes:
        spent_ms: in all.
    """

    def __init__(
        self,
        frame: SensorFrame,
        pattern: Pattern | None,
        encode: Callable[[Pipeline], Latents],
        spent_ms: float,
    ) -> None:
        self.frame, self.pattern, self.spent_ms = frame, pattern, spent_ms
        self._encode: Callable[[Pipeline], Latents] | None = encode
        self._made: Future[Latents] = Future()
        self._lock = threading.Lock()
        self._counted = False

    @property
    def begun(self) -> bool:
        """Whether somebody has made them, or is at it."""
        return self._encode is None

    def make(self, pipeline: Pipeline) -> None:
        """Make the latents, unless somebody has begun to. What goes wrong comes out of `latents`."""
        with self._lock:
            encode, self._encode = self._encode, None
        if encode is None:
            return
        start = time.perf_counter()
        try:
            latents = encode(pipeline)
        except BaseException as error:  # an interruption, too: whoever waits must be told
            self._made.set_exception(error)
            if not isinstance(error, Exception):
                raise
        else:
            self.spent_ms += (time.perf_counter() - start) * 1e3
            self._made.set_result(latents)

    def latents(self) -> Latents:
        """The latents, once somebody has made them; what they failed with is raised."""
        return self._made.result()

    def wait(self) -> None:
        """Until somebody has made them, or failed to."""
        wait([self._made])

    @property
    def failed(self) -> bool:
        """Whether they could not be made."""
        return self._made.done() and self._made.exception() is not None

    def uncounted(self) -> bool:
        """True for the first who asks, and counts the time."""
        with self._lock:
            counted, self._counted = self._counted, True
        return not counted


class Encodings:
    """Those of the last `KEPT` frames of each sensor. To be used from one thread."""

    def __init__(self) -> None:
        self._kept: dict[Modality, deque[Encoding]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._kept.values()))

    def of(self, frame: SensorFrame, pattern: Pattern) -> Encoding | None:
        """What is kept of a frame that is to be used under a pattern."""
        # By identity of the array, not by stamp alone: a bag that starts over repeats its stamps. The array
        # is held here, so its identity cannot be given to another one.
        for known in self._kept.get(frame.modality, ()):
            same = known.frame.stamp_ns == frame.stamp_ns and known.frame.data is frame.data
            if same and known.pattern in (None, pattern) and not known.failed:
                return known
        return None

    def add(self, encoding: Encoding) -> Encoding:
        """Keep one; the oldest of its sensor goes."""
        self._kept.setdefault(encoding.frame.modality, deque(maxlen=KEPT)).append(encoding)
        return encoding

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()
