"""Inferences side by side, for those who have their frames already: recordings and data sets.

One inference shared out among n cores leaves some of them idle in every operator that is too small or cannot
be divided; n inferences on a core each do not. With one thread an operator sums in the same order, so that
what comes out does not depend on how many run at a time.

A live graph has no use for this: it has one set of frames, and wants its output soon.
"""

from __future__ import annotations

from concurrent.futures import Executor, ThreadPoolExecutor

from robust_perception.engine.choice import runs_abreast
from robust_perception.engine.engine import Coming, Engine
from robust_perception.engine.inline import INLINE
from robust_perception.engine.threads import thread_count
from robust_perception.vocabulary import FrameSet

BEGUN_EACH = 3
"""Perceptions begun and not yet asked for, a thread: enough that none is idle while somebody looks at one."""


class Ahead:
    """Begins to perceive before anybody waits for it. To be used in a `with`.

    Where the engine's backend takes one call at a time, perceptions are made as they are begun.

    Args:
        engine: loaded with `abreast`; nobody else uses it meanwhile.
        threads: at once; None = the cores this process may use.

    Attributes:
        engine: it.
        most: perceptions that should be on their way at a time.

    Raises:
        BackendError: fewer than one thread was asked for.
    """

    def __init__(self, engine: Engine, threads: int | None = None) -> None:
        count = thread_count(threads)
        self.engine = engine
        self._executor: Executor = INLINE
        if runs_abreast(engine.info.backend) and count > 1:
            self._executor = ThreadPoolExecutor(count, "inference")
        self.most = 1 if self._executor is INLINE else BEGUN_EACH * count

    def begin(self, frame_set: FrameSet) -> Coming:
        """Begin; see `Engine.begin`. From one thread only."""
        return self.engine.begin(frame_set, self._executor)

    def __enter__(self) -> Ahead:
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown(cancel_futures=True)
