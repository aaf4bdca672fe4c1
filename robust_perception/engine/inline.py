"""The executor of those who wait for every result anyway."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import ParamSpec, TypeVar

Words = ParamSpec("Words")
Given = TypeVar("Given")


class Inline(Executor):
    """Does at once, in the caller's thread, what it is given."""

    def submit(
        self, fn: Callable[Words, Given], /, *args: Words.args, **kwargs: Words.kwargs
    ) -> Future[Given]:
        """Call it; what it raises comes out of the future."""
        done: Future[Given] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except Exception as error:
            done.set_exception(error)
        return done


INLINE = Inline()
