"""An engine that remembers: the same pictures under the same pattern are perceived once.

What an engine says is a function of its frames' values and the pattern, not of their stamps. Where a few
samples are shown over and over, as under faults that only lose, delay or repeat frames, most of the work has
been done before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from robust_perception.engine.engine import Engine
from robust_perception.vocabulary import Array, FrameSet, Modality, Pattern, Perception, SensorFrame

Key = tuple[Modality, tuple[tuple[Modality, int], ...]]


class RememberingEngine:
    """Perceives with an engine whatever it has not perceived before; `kept` perceptions at most."""

    def __init__(self, engine: Engine, kept: int = 2000) -> None:
        self._engine, self._kept = engine, kept
        self._known: dict[Key, tuple[tuple[Array, ...], Perception]] = {}
        self.asked = self.perceived = 0

    def encode(self, frames: Sequence[SensorFrame], pattern: Pattern | None) -> bool:
        """Nothing is encoded ahead."""
        del frames, pattern
        return False

    def infer(self, frame_set: FrameSet) -> Perception:
        """As the engine's, of frames that have not been seen before; else what it said then."""
        self.asked += 1
        frames = frame_set.frames
        key = frame_set.reference, tuple((m, id(frames[m].data)) for m in frame_set.pattern)
        if key not in self._known:
            if len(self._known) >= self._kept:
                self._known.pop(next(iter(self._known)))
            self.perceived += 1
            # The arrays are held, so that no other can get the identity of one of them.
            held = tuple(frames[m].data for m in frame_set.pattern)
            self._known[key] = held, self._engine.infer(frame_set)
        return replace(self._known[key][1], frame_set=frame_set)
