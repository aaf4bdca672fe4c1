"""The moment at which a fault acts on a frame: its times, and the chance that belongs to it.

Chance comes from the script's seed, the place of the window in the script and the time in the script, so that
the same frame meets the same fault live, from a bag, and at another speed.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

_MICROSECONDS = 1e6


class Moment:
    """A window of a script at a time.

    Args:
        seed: of the script.
        index: place of the window in it.
        t_s: seconds since the start of the script.
        since_s: seconds since the start of the window.
    """

    def __init__(self, seed: int, index: int, t_s: float, since_s: float) -> None:
        self.t_s, self.since_s = t_s, since_s
        self._key = (seed, index)

    @cached_property
    def chance(self) -> np.random.Generator:
        """Of this moment: another one for every frame."""
        return np.random.default_rng([*self._key, max(round(self.t_s * _MICROSECONDS), 0)])

    @cached_property
    def lasting(self) -> np.random.Generator:
        """Of the whole window: what is damaged stays the same from frame to frame."""
        return np.random.default_rng(self._key)
