"""A clock that only work moves on, and engines whose work takes what they are told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from robust_perception.benchmarking.variants import Variant
from robust_perception.vocabulary import FrameSet, Modality, Pattern, Perception, SensorFrame


@dataclass
class WorkClock:
    """Seconds of work done so far; `speed` multiplies what comes next."""

    now: float = 0.0
    speed: float = 1.0

    def __call__(self) -> float:
        return self.now

    def work(self, milliseconds: float) -> float:
        took = milliseconds * self.speed
        self.now += took * 1e-3
        return took


@dataclass
class FakeEngine:
    """Encodes what it has not seen, fuses, decodes; after a change of the pattern it takes longer.

    Attributes:
        clock: that its work moves on.
        name: of the backend.
        encoding: milliseconds by sensor.
        switch: milliseconds more after a change of the pattern.
        cold: milliseconds more where other sensors were encoded before.
        reuses: whether it keeps latents.
        leaks: whether a frame after a change of the pattern shows the pattern before.
        calls: stamps of the reference frames, as they came.
    """

    clock: WorkClock
    name: str = "first"
    encoding: Mapping[Modality, float] = field(default_factory=lambda: dict.fromkeys(Modality, 10.0))
    fuse: float = 20.0
    decode: float = 1.0
    switch: float = 0.0
    cold: float = 0.0
    reuses: bool = True
    leaks: bool = False
    calls: list[tuple[str, int]] = field(default_factory=list)
    known: dict[Modality, int] = field(default_factory=dict)
    before: Pattern | None = None
    encoded: Pattern | None = None

    @property
    def info(self) -> Any:
        return SimpleNamespace(backend=self.name, precision="fp32", device="cpu")

    def encode(self, frames: Iterable[SensorFrame], pattern: Pattern | None = None) -> bool:
        for frame in frames:
            self.clock.work(self.encoding[frame.modality])
            self.known[frame.modality] = frame.stamp_ns
        self.encoded = pattern
        return True

    def infer(self, frame_set: FrameSet) -> Perception:
        self.calls.append((self.name, frame_set.stamp_ns))
        timings = {}
        for modality, frame in frame_set.frames.items():
            if not self.reuses or self.known.get(modality) != frame.stamp_ns:
                timings[f"encode/{modality.value}"] = self.clock.work(self.encoding[modality])
                self.known[modality] = frame.stamp_ns
        switched = self.before not in (None, frame_set.pattern)
        cold = self.encoded not in (None, frame_set.pattern)
        more = (self.switch if switched else 0.0) + (self.cold if cold else 0.0)
        timings["fuse"] = self.clock.work(self.fuse + more)
        timings["decode"] = self.clock.work(self.decode)
        left = self.before.bits if self.before is not None and switched and self.leaks else 0
        self.before = self.encoded = frame_set.pattern
        return Perception(
            frame_set=frame_set,
            label_map=np.full((2, 2), left, np.uint8),
            boxes=np.zeros((0, 4), np.float32),
            scores=np.zeros(0, np.float32),
            class_ids=np.zeros(0, np.int64),
            scene=np.zeros(1, np.float32),
            confidence=0.5,
            timings_ms=timings,
        )


class FakeVariant(Variant):
    """A variant of such an engine."""

    def beside(self) -> Any:
        engine: Any = self.engine
        return replace(engine, calls=[], known={}, before=None, encoded=None)


def variant(clock: WorkClock, name: str = "first", **options: Any) -> FakeVariant:
    """A variant with a fresh engine of the same kind on demand."""
    engine: Any = FakeEngine(clock, name, **options)

    def load() -> Any:
        return FakeEngine(clock, name, **options)

    return FakeVariant(engine, load)
