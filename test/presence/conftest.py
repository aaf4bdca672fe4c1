"""A bench for presence: a synchronizer, two clocks that move only when told, and frames on demand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from robust_perception.presence import SensorConfig, SensorStatus, Synchronizer, SynchronizerConfig
from robust_perception.vocabulary import MODALITIES, FrameSet, Modality, SensorFrame

MS = 1_000_000


class Bench:
    """All times in milliseconds; ROS time starts at 100 000 s, steady time at 5 s."""

    def __init__(self, config: SynchronizerConfig) -> None:
        self.sync = Synchronizer(config)
        self.now = 100_000_000
        self.steady = 5_000
        self._content = 0

    def wait(self, ms: int) -> None:
        """Let both clocks run."""
        self.now += ms
        self.steady += ms

    def frame(self, modality: Modality, stamp: int | None = None, content: int | None = None) -> SensorFrame:
        """A tiny frame; without `content` it differs from all before."""
        self._content += 1
        data = np.full(4, self._content if content is None else content, np.float32)
        return SensorFrame(modality, data, (self.now if stamp is None else stamp) * MS)

    def send(self, *modalities: Modality, stamp: int | None = None, content: int | None = None) -> None:
        """One frame of each arrives now."""
        for modality in modalities:
            frame = self.frame(modality, stamp, content)
            self.sync.observe(frame, self.now * MS, self.steady * MS)

    def stream(self, *modalities: Modality, frames: int, period: int = 33, lag: int = 0) -> None:
        """Frames at a steady rate, each followed by the wait for the next, stamped `lag` ago."""
        for _ in range(frames):
            self.send(*modalities, stamp=self.now - lag)
            self.wait(period)

    def ready(self) -> bool:
        return self.sync.ready(self.now * MS, self.steady * MS)

    def take(self) -> FrameSet | None:
        return self.sync.take(self.now * MS, self.steady * MS)

    def pattern(self) -> str | None:
        taken = self.take()
        return None if taken is None else str(taken.pattern)

    def status(self, modality: Modality) -> SensorStatus:
        return self.sync.status(self.now * MS, self.steady * MS)[modality]

    def alive(self) -> set[Modality]:
        return {m for m in MODALITIES if self.status(m).reason is None}


@pytest.fixture
def bench() -> Bench:
    """All four sensors, time-out 500 ms, everything else at its default."""
    return Bench(SynchronizerConfig(tuple(SensorConfig(m, 500 * MS) for m in MODALITIES)))


@pytest.fixture
def make_bench() -> Callable[..., Bench]:
    """Builds a bench: settings of SensorConfig by keyword, those of SynchronizerConfig in `policy`."""

    def build(policy: dict[str, object] | None = None, **sensor: object) -> Bench:
        settings: dict[str, object] = {"timeout_ns": 500 * MS, **sensor}
        sensors = tuple(SensorConfig(m, **settings) for m in MODALITIES)  # type: ignore[arg-type]
        return Bench(SynchronizerConfig(sensors, **(policy or {})))  # type: ignore[arg-type]

    return build
