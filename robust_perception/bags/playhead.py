"""Where a replay stands in its recording, as the machine's time goes by; it can be paused and taken in steps.

While it plays with speed v, a segment that began at machine time t0 and offset o0 stands at time t at

    offset(t) = o0 + (t - t0) v        and a message of offset o is due at   t0 + (o - o0) / v

Every pause, step and resumption begins a new segment. With speed 0, as fast as possible, everything is due at
once and the playhead stands at the message that was played last. Reads no clock: time is an argument, in ns.
"""

from __future__ import annotations


class Playhead:
    """Not thread-safe: whoever shares it between threads has a lock.

    Args:
        speed: times as fast as it was recorded; 0 = as fast as possible.
        paused: begins paused.
    """

    def __init__(self, speed: float, paused: bool = False) -> None:
        self._speed = speed
        self._now_ns, self._offset_ns = 0, 0
        self._paused = paused
        self._messages = 0
        self._window_ns: int | None = None
        self._until_ns: int | None = None

    @property
    def paused(self) -> bool:
        """Whether it stands still."""
        return self._paused

    def begin(self, offset_ns: int, now_ns: int) -> None:
        """Go to an offset."""
        self._offset_ns, self._now_ns = offset_ns, now_ns

    def position(self, now_ns: int) -> int:
        """The offset at which it stands."""
        if self._paused or not self._speed:
            return self._offset_ns
        return self._offset_ns + round((now_ns - self._now_ns) * self._speed)

    def due(self, offset_ns: int) -> int:
        """Machine time at which a message of this offset belongs into the present segment."""
        return self._now_ns + round((offset_ns - self._offset_ns) / (self._speed or 1.0))

    def pause(self, now_ns: int) -> None:
        """Stand still."""
        if not self._paused:
            self.begin(self.position(now_ns), now_ns)
            self._paused = True

    def resume(self, now_ns: int) -> None:
        """Go on from where it stands; steps that were asked for are forgotten."""
        if self._paused:
            self.begin(self._offset_ns, now_ns)
            self._messages, self._window_ns, self._until_ns = 0, None, None
            self._paused = False

    def step(self, messages: int = 1) -> bool:
        """While it is paused, let so many messages pass; False when it is not."""
        self._messages += messages if self._paused else 0
        return self._paused

    def step_set(self, window_ns: int) -> bool:
        """While it is paused, let the next message and all within a window after it pass; False otherwise."""
        if self._paused and self._until_ns is None:
            self._window_ns = window_ns
        return self._paused

    def left(self, offset_ns: int, now_ns: int) -> int | None:
        """Time until the next message may be played: ns, <= 0 = now, None = not before a step.

        Args:
            offset_ns: of the message.
            now_ns: machine time.
        """
        if not self._paused:
            return self.due(offset_ns) - now_ns if self._speed else 0
        if self._window_ns is not None:
            self._until_ns, self._window_ns = offset_ns + self._window_ns, None
        if self._until_ns is not None:
            if offset_ns <= self._until_ns:
                return 0
            self._until_ns = None
        return 0 if self._messages else None

    def arrive(self, offset_ns: int, now_ns: int) -> None:
        """A message of this offset is played now."""
        if self._paused:
            if self._until_ns is None and self._messages:
                self._messages -= 1
            self._offset_ns, self._now_ns = max(offset_ns, self._offset_ns), now_ns
        elif not self._speed:
            self._offset_ns, self._now_ns = offset_ns, now_ns
