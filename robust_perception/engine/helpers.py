"""Threads that help with an inference, wherever the one who waits for it happens to be.

A fork has none of its parent's threads, but a pool that believes it has; and once the main thread has ended
Python's pools take nothing any more, while other threads still perceive. In both cases the work is done.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from robust_perception.engine.inline import INLINE

Words = ParamSpec("Words")
Given = TypeVar("Given")


class Helpers:
    """A number of threads, begun when there is something to do.

    Args:
        count: of threads.
        name: of them.
    """

    def __init__(self, count: int, name: str) -> None:
        self._count, self._name = count, name
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._pool = ThreadPoolExecutor(self._count, self._name)

    def submit(
        self, fn: Callable[Words, Given], /, *args: Words.args, **kwargs: Words.kwargs
    ) -> Future[Given]:
        """Have something done beside the caller, or at once where no thread takes it any more."""
        if self._process != os.getpid():
            self._begin()
        try:
            return self._pool.submit(fn, *args, **kwargs)
        except RuntimeError:  # the interpreter is ending
            return INLINE.submit(fn, *args, **kwargs)
