"""From single sensors to frame sets: any subset, no master, nothing waits for the dead.

With A the sensors alive now and N the ones of A that have a frame not yet taken:
    something is due    N is not empty, or A differs from the pattern last taken
    wait for m in A-N   while steady time is before d = first arrival of N + gather and m's next message, at
                        e = last arrival + period, is expected before d. An unknown period is waited for; a
                        sensor overdue by more than max(gather, period / 2) has missed its turn and is not
    ready               the policy allows A, something is due, and A differs from the last pattern or there is
                        nobody to wait for
A loss or a return is thus out at once, an ordinary set at most `gather_ns` after its first frame, and the
same frames never come out twice under the same pattern. After a loss, `reduced` gives the last set without
the lost: whoever keeps what was made of its frames has the least to do.

Threads: every method may be called from any thread. One lock guards the state and is held for microseconds;
fingerprint and blindness, the only work that grows with the frame, are computed before it is taken. Times are
arguments: read both clocks as close to the call as possible.
"""

from __future__ import annotations

import threading

from robust_perception.presence.blindness import shown
from robust_perception.presence.config import SynchronizerConfig
from robust_perception.presence.errors import UnknownSensorError
from robust_perception.presence.fingerprint import fingerprint
from robust_perception.presence.health import Held, SensorHealth
from robust_perception.presence.status import SensorState, SensorStatus
from robust_perception.presence.timeline import Instant, Timeline
from robust_perception.vocabulary import MODALITIES, FrameSet, Modality, Pattern, Reason, SensorFrame


class Synchronizer:
    """Keeps the newest good frame of every sensor and hands them on as frame sets. Thread-safe."""

    def __init__(self, config: SynchronizerConfig) -> None:
        self.config = config
        self._lock = threading.Lock()
        self._sensors = {sensor.modality: SensorHealth(sensor) for sensor in config.sensors}
        rest = [m for m in MODALITIES if m not in config.reference_order]
        self._reference_order = (*config.reference_order, *rest)
        self._taken: dict[Modality, Held] = {}  # the last set
        self._blocked: str | None = None
        self._start()

    @property
    def blocked_reason(self) -> str | None:
        """Why the last `ready` or `take` could give no output (no sensor alive, policy); None if it could."""
        return self._blocked

    def observe(self, frame: SensorFrame, now_ns: int, steady_ns: int) -> None:
        """Take in a frame that has just arrived.

        Args:
            frame: the frame; its data must not be written to afterwards.
            now_ns: ROS time of the arrival.
            steady_ns: monotonic time of the arrival.

        Raises:
            UnknownSensorError: no such sensor is configured.
        """
        sensor = self._sensor(frame.modality)
        wanted = sensor.enabled and sensor.config.frozen_after_ns > 0
        content = fingerprint(frame.data) if wanted else None
        seen = shown(frame) if sensor.enabled and sensor.config.least_shown > 0.0 else None
        with self._lock:
            sensor.observe(frame, content, self._timeline.at(now_ns, steady_ns), seen)

    def reject(self, modality: Modality, reason: Reason, detail: str, steady_ns: int) -> None:
        """Note a message that could not become a frame; the last good frame lives on until its timeout.

        Args:
            modality: the sensor it came from.
            reason: what was wrong, usually `WRONG_ENCODING` or `BAD_DATA`.
            detail: what was expected and what came; shown in the sensor's status.
            steady_ns: monotonic time of the arrival.

        Raises:
            UnknownSensorError: no such sensor is configured.
        """
        sensor = self._sensor(modality)
        with self._lock:
            sensor.reject(reason, detail, steady_ns)

    def set_enabled(self, modality: Modality, enabled: bool) -> None:
        """Switch a sensor off, or on again, whereupon it starts as never seen.

        Raises:
            UnknownSensorError: no such sensor is configured.
        """
        sensor = self._sensor(modality)
        with self._lock:
            sensor.set_enabled(enabled)

    def ready(self, now_ns: int, steady_ns: int) -> bool:
        """Whether now is the time to `take`; if so, `take` with the same times gives a frame set."""
        with self._lock:
            at = self._timeline.at(now_ns, steady_ns)
            alive = self._alive(at)
            self._blocked = self._forbidden(alive)
            if self._blocked is not None or not self._due(alive):
                return False
            return set(alive) != set(self._taken) or not self._waiting(alive, at)

    def take(self, now_ns: int, steady_ns: int) -> FrameSet | None:
        """The newest good frame of every sensor alive, without waiting for frames about to come.

        Returns:
            The frame set, or None: when `blocked_reason` is set no output is possible; when it is None there
            is nothing new since the last set.
        """
        with self._lock:
            at = self._timeline.at(now_ns, steady_ns)
            alive = self._alive(at)
            self._blocked = self._forbidden(alive)
            if self._blocked is not None or not self._due(alive):
                return None
            for modality in alive:
                self._sensors[modality].new_since_ns = None
            return self._frame_set(alive, at)

    def reduced(self, now_ns: int, steady_ns: int) -> FrameSet | None:
        """The last set without the sensors that were lost since; newer frames stay for the next `take`.

        Returns:
            None unless sensors were lost and none came back, or when what is left is too old or forbidden.
        """
        with self._lock:
            at = self._timeline.at(now_ns, steady_ns)
            alive = self._alive(at)
            self._blocked = self._forbidden(alive)
            if self._blocked is not None or not set(alive) < set(self._taken):
                return None
            kept = {m: self._taken[m] for m in alive}
            if any(self._sensors[m].expired(held, at) for m, held in kept.items()):
                return None
            return self._frame_set(kept, at)

    def newest(self, now_ns: int, steady_ns: int) -> list[SensorFrame]:
        """Frames of sensors alive that no set has had yet: what the next `take` would give that is new."""
        with self._lock:
            alive = self._alive(self._timeline.at(now_ns, steady_ns))
            return [held.frame for m, held in alive.items() if self._sensors[m].new_since_ns is not None]

    def status(self, now_ns: int, steady_ns: int) -> dict[Modality, SensorStatus]:
        """The state of all four modalities, in their order; one without configuration is disabled."""
        with self._lock:
            return self._statuses(self._timeline.at(now_ns, steady_ns))

    def reset(self) -> None:
        """Forget all frames, clocks and counts; what is switched off stays off."""
        with self._lock:
            self._start()

    def _start(self) -> None:
        self._timeline = Timeline(self.config.clock_back_ns, self.config.clock_leap_ns)
        self._taken = {}
        self._blocked = None
        for sensor in self._sensors.values():
            sensor.restart()

    def _sensor(self, modality: Modality) -> SensorHealth:
        try:
            return self._sensors[modality]
        except KeyError:
            raise UnknownSensorError(modality, self._sensors) from None

    def _frame_set(self, held: dict[Modality, Held], at: Instant) -> FrameSet:
        self._taken = dict(held)
        statuses = self._statuses(at)
        return FrameSet(
            pattern=Pattern.of(held),
            frames={m: h.frame for m, h in held.items()},
            reference=next(m for m in self._reference_order if m in held),
            header_age_ns={m: h.header_age_ns(at) for m, h in held.items()},
            arrival_age_ns={m: h.arrival_age_ns(at) for m, h in held.items()},
            absent={m: s.reason for m, s in statuses.items() if s.reason is not None},
        )

    def _alive(self, at: Instant) -> dict[Modality, Held]:
        sensors = ((m, self._sensors[m]) for m in MODALITIES if m in self._sensors)
        return {m: s.held for m, s in sensors if s.alive(at) and s.held is not None}

    def _forbidden(self, alive: dict[Modality, Held]) -> str | None:
        if not alive:
            return "no sensor is alive"
        names = "+".join(m.value for m in alive)
        required = self.config.required_any
        if required and not any(m in alive for m in required):
            return (
                f"required_any: one of {', '.join(m.value for m in required)} must be alive, there is {names}"
            )
        if len(alive) < self.config.min_modalities:
            return f"min_modalities: {self.config.min_modalities} must be alive, there is {names}"
        return None

    def _due(self, alive: dict[Modality, Held]) -> bool:
        return set(alive) != set(self._taken) or any(self._sensors[m].new_since_ns is not None for m in alive)

    def _waiting(self, alive: dict[Modality, Held], at: Instant) -> bool:
        arrivals = [self._sensors[m].new_since_ns for m in alive]
        first = min(ns for ns in arrivals if ns is not None)
        deadline = first + self.config.gather_ns
        if at.steady_ns >= deadline:
            return False
        pending = [m for m, ns in zip(alive, arrivals, strict=True) if ns is None]
        return any(self._sensors[m].due(at.steady_ns, deadline, self.config.gather_ns) for m in pending)

    def _statuses(self, at: Instant) -> dict[Modality, SensorStatus]:
        return {
            m: self._sensors[m].status(at)
            if m in self._sensors
            else SensorStatus(m, SensorState.DISABLED, Reason.DISABLED, "not configured")
            for m in MODALITIES
        }
