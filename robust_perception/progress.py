"""How far long work is, and what is left of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TextIO


class Steps:
    """Tells what a command does next, a line a step, with the time passed."""

    def __init__(self, command: str, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._command, self._stream, self._clock = command, stream, clock
        self._start = clock()

    def __call__(self, text: str) -> None:
        """Say what comes next."""
        self._stream.write(f"{self._command}, {self._clock() - self._start:.0f} s: {text}\n")
        self._stream.flush()


class ProgressLine:
    """Work done, time passed and time left, on one line of a terminal or every tenth in a log."""

    def __init__(
        self,
        stream: TextIO,
        clock: Callable[[], float] = time.monotonic,
        unit: str = "frames",
        scale: float = 1.0,
    ) -> None:
        self._stream, self._unit, self._scale = stream, unit, scale
        self._clock = clock
        self._start = clock()
        self._tenth = -1

    def __call__(self, done: int, count: int) -> None:
        """Show that `done` of `count` units are through."""
        passed = self._clock() - self._start
        left = passed / done * (count - done)
        of = f"{done * self._scale:g}/{count * self._scale:g} {self._unit}"
        text = f"{of}, {passed:.0f} s passed, {left:.0f} s left"
        if self._stream.isatty():
            self._stream.write(f"\r{text}\033[K" + ("\n" if done == count else ""))
        elif 10 * done // count > self._tenth:
            self._tenth = 10 * done // count
            self._stream.write(text + "\n")
        self._stream.flush()
