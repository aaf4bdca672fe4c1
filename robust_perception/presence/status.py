"""What presence says about one sensor at one instant."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from robust_perception.vocabulary import Modality, Reason


class SensorState(str, enum.Enum):
    """Where a sensor stands; `health` gives the rules between the states."""

    NEVER_SEEN = "never seen"
    ALIVE = "alive"
    LATE = "late"
    FROZEN = "frozen"
    BLIND = "blind"
    BAD = "bad"
    RECOVERING = "recovering"
    DISABLED = "disabled"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class SensorStatus:
    """A snapshot of one sensor.

    Attributes:
        modality: which sensor.
        state: where it stands.
        reason: why it is absent; None exactly when `state` is alive.
        detail: the reason in words with its numbers, and what to do about it; empty when alive.
        advice: what to set when the settings cannot suit this sensor; else empty.
        header_age_ns: ROS time since the newest good frame was measured (for audio: since its last sample);
            None before the first.
        arrival_age_ns: steady time since the newest good frame arrived; None before the first.
        rate_hz: messages a second, good and refused, from the median of the last intervals; 0 when silent.
        gaps: frames that should have come, by the sensor's own period, and did not.
        frames: good frames since the last reset.
        refused: messages refused since the last reset.
        losses: how often an alive sensor was lost.
        last_good_ns: steady time of the last good frame before the last loss.
        last_loss_ns: steady time at which that loss was noticed.
        last_recovery_frames: good frames the last recovery took.
    """

    modality: Modality
    state: SensorState
    reason: Reason | None
    detail: str = ""
    advice: str = ""
    header_age_ns: int | None = None
    arrival_age_ns: int | None = None
    rate_hz: float = 0.0
    gaps: int = 0
    frames: int = 0
    refused: int = 0
    losses: int = 0
    last_good_ns: int | None = None
    last_loss_ns: int | None = None
    last_recovery_frames: int | None = None

    @property
    def time_to_degrade_ns(self) -> int | None:
        """From the last good frame to the notice of the last loss, ns; None without a loss."""
        if self.last_loss_ns is None or self.last_good_ns is None:
            return None
        return self.last_loss_ns - self.last_good_ns
