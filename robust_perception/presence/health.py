"""Is this sensor alive? The state machine of one sensor.

Times. t is now in ROS time, s in steady time; a frame has a stamp h and arrived at s_a.
    arrival age = s - s_a
    header age  = t - end,  end = h (an image) or h + n / 16000 Hz (audio, whose stamp is its first sample)
                = header age at arrival + arrival age, once ROS time has been thrown back since (a bag loop)

A message is good unless, in this order:
    end <= 0                                           zero stamp (the last second of sound may begin below 0)
    end > t + future_tolerance                         stamp from the future      (check_header_age)
    h equals the previous stamp                        frozen: it is the same frame again
    h below the previous stamp of this epoch           stamp went back; but `resume_frames` such frames in a
                                                       row, each later than the one before, are a new timeline
    header age > timeout                               late                       (check_header_age)
    content identical for more than frozen_after       frozen
    less to be seen than least_shown                   blind                      (`blindness`)
or whoever unpacked it refused it (`reject`). Content is timed from the first to the newest of the identical
frames, so a lone frame is never frozen. A refused message does not end the life of the good frame before it,
except content found frozen: then that frame was frozen too.

States.
    never seen -> alive       the first good frame
    alive -> lost             exactly when arrival age > timeout or header age > timeout (looked at when
                              asked, no timers), or at once on frozen content
    lost -> recovering        a good frame
    recovering -> alive       `recover_frames` good frames in a row, no two further apart than `pause_ns`; an
                              identical stamp in between does not break the row, any other refusal does
    any -> disabled           by command; enabled again it starts as never seen
A lost sensor shows as bad, blind or frozen while refused messages keep coming (within its timeout), else as
late. One whose period is longer than its timeout cannot stay alive, and is told which parameter to raise.

Flapping. More than `flap_losses` losses within `flap_window_ns` hold a sensor in recovering until it has
delivered for `flap_hold_ns` without a break. With the defaults (more than 3 in 5 s) a sensor lost every 2 s
or slower is never held, whatever the number of losses.

A sensor's clock that is set forward, as when it finds the network's time, is no gap either: its stamps gain
more than the timeout, and more than a second, on the node's clock from one message to the next.

A leap of ROS time forward makes frames in hand late by header age. That may be true (the machine slept), so
they are let go, but it is not the sensor's fault: no loss and no gap is counted, and its next good frame is
enough.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from robust_perception.presence.blindness import blind
from robust_perception.presence.cadence import Cadence
from robust_perception.presence.config import SECOND, SensorConfig
from robust_perception.presence.status import SensorState, SensorStatus
from robust_perception.presence.timeline import Instant
from robust_perception.vocabulary import Reason, SensorFrame

__all__ = ["Held", "SensorHealth", "SensorState", "SensorStatus"]


class Held(NamedTuple):
    """A good frame and the instant it arrived at."""

    frame: SensorFrame
    arrived: Instant

    def arrival_age_ns(self, at: Instant) -> int:
        """Steady time since arrival, ns, never negative."""
        return max(0, at.steady_ns - self.arrived.steady_ns)

    def header_age_ns(self, at: Instant) -> int:
        """ROS time since the end of the measurement, ns; negative for a stamp ahead of the clock."""
        if at.epoch == self.arrived.epoch:
            return at.now_ns - self.frame.end_ns
        return self.arrived.now_ns - self.frame.end_ns + self.arrival_age_ns(at)


class Refusal(NamedTuple):
    """Why a message was not good, and whether it breaks the row of good frames of a recovery."""

    reason: Reason
    detail: str
    breaks: bool = True


def _seconds(ns: int) -> str:
    return f"{ns / SECOND:.3f} s"


class SensorHealth:
    """State of one sensor. Not thread-safe: the synchronizer's lock guards it."""

    def __init__(self, config: SensorConfig) -> None:
        self.config = config
        self.enabled = config.enabled
        self._losses: deque[int] = deque()
        self.restart()

    def restart(self) -> None:
        """Forget everything but the configuration and whether the sensor is enabled."""
        self.held: Held | None = None
        self.new_since_ns: int | None = None
        self._alive = False
        self._known = False  # was alive before, so that coming back is a recovery
        self._held_back = False
        self._row = 0
        self._row_since_ns = 0
        self._row_last_ns = 0
        self._epoch = self._leaps = 0
        self._stamp_ns: int | None = None
        self._stamp_age_ns = 0
        self._resume_stamp_ns = 0
        self._resume_row = 0
        self._content: int | None = None
        self._content_since_ns = 0
        self._message_ns: int | None = None
        self._refusal: Refusal | None = None
        self._arrivals, self._stamps = Cadence(), Cadence()
        self._losses.clear()
        self._frames = self._refused = self._loss_count = 0
        self._last_good_ns: int | None = None
        self._last_loss_ns: int | None = None
        self._last_recovery: int | None = None

    def set_enabled(self, enabled: bool) -> None:
        """Take the sensor out, or let it in again as one never seen."""
        if enabled != self.enabled:
            self.enabled = enabled
            self.restart()

    def alive(self, at: Instant) -> bool:
        """Whether the held frame may be used at this instant; notices a loss."""
        if self._alive and self.held is not None and self.expired(self.held, at):
            leapt = at.leaps != self.held.arrived.leaps
            if leapt and self.held.arrival_age_ns(at) <= self.config.timeout_ns:
                self._alive = self._known = False
            else:
                self._lose(at)
        return self._alive

    def observe(
        self, frame: SensorFrame, content: int | None, at: Instant, seen: float | None = None
    ) -> None:
        """Judge a frame.

        Args:
            frame: that has arrived.
            content: its fingerprint; None when frozen content is not looked for.
            at: the instant of its arrival.
            seen: how much it shows (`blindness.shown`); None when that is not looked at.
        """
        if not self.enabled:
            return
        self.alive(at)
        self._arrived(at.steady_ns)
        if at.epoch != self._epoch:
            self._epoch = at.epoch
            self._forget_stamps()
        if at.leaps != self._leaps:
            self._leaps = at.leaps
            self._stamps.restart()
        held = Held(frame, at)
        self._see_content(content, at)
        refusal = self._judge_stamp(held) or self._judge_content(at) or self._judge_sight(seen)
        if refusal is None:
            self._accept(held)
        else:
            self._refuse(refusal)

    def reject(self, reason: Reason, detail: str, steady_ns: int) -> None:
        """Note a message nobody could unpack."""
        if self.enabled:
            self._arrived(steady_ns)
            self._refuse(Refusal(reason, detail))

    def due(self, steady_ns: int, deadline_ns: int, grace_ns: int) -> bool:
        """Whether the next message is likely before the deadline, and not overdue by more than the grace."""
        period = self._arrivals.period_ns
        if self._message_ns is None or period is None:
            return True
        expected = self._message_ns + period
        return expected < deadline_ns and steady_ns <= expected + max(grace_ns, period // 2)

    def status(self, at: Instant) -> SensorStatus:
        """What is known at this instant."""
        state, reason, detail = self._describe(at)
        period = self._arrivals.period_ns
        speaking = self._message_ns is not None and at.steady_ns - self._message_ns <= max(
            self.config.timeout_ns, 2 * (period or 0)
        )
        return SensorStatus(
            modality=self.config.modality,
            state=state,
            reason=reason,
            detail=detail,
            advice="" if state in (SensorState.ALIVE, SensorState.DISABLED) else self._advice(),
            header_age_ns=self.held.header_age_ns(at) if self.held else None,
            arrival_age_ns=self.held.arrival_age_ns(at) if self.held else None,
            rate_hz=SECOND / period if period and speaking else 0.0,
            gaps=self._stamps.missed,
            frames=self._frames,
            refused=self._refused,
            losses=self._loss_count,
            last_good_ns=self._last_good_ns,
            last_loss_ns=self._last_loss_ns,
            last_recovery_frames=self._last_recovery,
        )

    def _arrived(self, steady_ns: int) -> None:
        self._message_ns = steady_ns
        self._arrivals.add(steady_ns)

    def _forget_stamps(self) -> None:
        self._stamp_ns = None
        self._stamps.restart()

    def _judge_stamp(self, held: Held) -> Refusal | None:
        stamp, now = held.frame.stamp_ns, held.arrived.now_ns
        config = self.config
        if held.frame.end_ns <= 0:
            return Refusal(Reason.ZERO_STAMP, f"the stamp is {stamp} ns; the driver must stamp its messages")
        ahead = held.frame.end_ns - now
        if config.check_header_age and ahead > config.future_tolerance_ns:
            clock = (
                "has not started (use_sim_time without /clock?)" if now == 0 else "and the sensor's disagree"
            )
            return Refusal(
                Reason.FUTURE_STAMP,
                f"the stamp is {_seconds(ahead)} ahead, at most {_seconds(config.future_tolerance_ns)} "
                f"is allowed; the node's clock {clock}",
            )
        if self._stamp_ns is not None and stamp == self._stamp_ns:
            detail = f"the stamp {stamp} ns came again; the driver repeats its frame"
            return Refusal(Reason.FROZEN, detail, breaks=False)
        if self._stamp_ns is not None and stamp < self._stamp_ns and not self._resumes(stamp):
            back = self._stamp_ns - stamp
            return Refusal(Reason.BACKWARD_STAMP, f"the stamp is {_seconds(back)} before the previous one")
        age = held.header_age_ns(held.arrived)
        if config.check_header_age and self._stamp_age_ns - age > max(SECOND, config.timeout_ns):
            self._stamps.restart()
        self._stamp_ns, self._stamp_age_ns, self._resume_row = stamp, age, 0
        self._stamps.add(stamp)
        if config.check_header_age and age > config.timeout_ns:
            return Refusal(Reason.LATE, self._old_header(age))
        return None

    def _resumes(self, stamp_ns: int) -> bool:
        running = self._resume_row > 0 and stamp_ns > self._resume_stamp_ns
        self._resume_row = self._resume_row + 1 if running else 1
        self._resume_stamp_ns = stamp_ns
        return self._resume_row >= self.config.resume_frames

    def _old_header(self, age_ns: int) -> str:
        return (
            f"messages arrive, but the header age is {_seconds(age_ns)}, over the timeout of "
            f"{_seconds(self.config.timeout_ns)}; a bag needs use_sim_time, a sensor with a clock of its own "
            "check_header_age off"
        )

    def _see_content(self, content: int | None, at: Instant) -> None:
        if content != self._content:
            self._content, self._content_since_ns = content, at.steady_ns

    def _judge_content(self, at: Instant) -> Refusal | None:
        same_ns = at.steady_ns - self._content_since_ns
        if self._content is None or same_ns <= self.config.frozen_after_ns:
            return None
        if self._alive:
            self._lose(at)
        limit = _seconds(self.config.frozen_after_ns)
        return Refusal(
            Reason.FROZEN,
            f"identical content for {_seconds(same_ns)}, at most {limit} is allowed; stamps move on",
        )

    def _judge_sight(self, seen: float | None) -> Refusal | None:
        least = self.config.least_shown
        if seen is None or seen >= least:
            return None
        return Refusal(Reason.BLIND, blind(self.config.modality, seen, least))

    def _accept(self, held: Held) -> None:
        steady_ns = held.arrived.steady_ns
        self.held, self._refusal = held, None
        self._frames += 1
        if not self._alive:
            if self._row == 0 or steady_ns - self._row_last_ns > self.config.pause_ns:
                self._row, self._row_since_ns = 0, steady_ns
            self._row, self._row_last_ns = self._row + 1, steady_ns
            if self._known and not self._steady_again(steady_ns):
                return
            self._last_recovery = self._row if self._known else self._last_recovery
            self._alive = self._known = True
            self._row, self.new_since_ns = 0, None
        if self.new_since_ns is None:
            self.new_since_ns = steady_ns

    def _steady_again(self, steady_ns: int) -> bool:
        held_back = self._held_back and steady_ns - self._row_since_ns < self.config.flap_hold_ns
        return self._row >= self.config.recover_frames and not held_back

    def _refuse(self, refusal: Refusal) -> None:
        self._refusal = refusal
        self._refused += 1
        if refusal.breaks:
            self._row = 0

    def expired(self, held: Held, at: Instant) -> bool:
        """Whether a frame is too old to be used, by its stamp or by its arrival."""
        timeout = self.config.timeout_ns
        old = self.config.check_header_age and held.header_age_ns(at) > timeout
        return old or held.arrival_age_ns(at) > timeout

    def _lose(self, at: Instant) -> None:
        self._alive, self._row, self.new_since_ns = False, 0, None
        self._loss_count += 1
        self._last_good_ns = self.held.arrived.steady_ns if self.held else None
        self._last_loss_ns = at.steady_ns
        self._losses.append(at.steady_ns)
        while self._losses[0] < at.steady_ns - self.config.flap_window_ns:
            self._losses.popleft()
        self._held_back = len(self._losses) > self.config.flap_losses

    def _describe(self, at: Instant) -> tuple[SensorState, Reason | None, str]:
        if not self.enabled:
            return SensorState.DISABLED, Reason.DISABLED, "switched off"
        if self.alive(at):
            return SensorState.ALIVE, None, ""
        if self._message_ns is None:
            return SensorState.NEVER_SEEN, Reason.NEVER_SEEN, "no message yet; check the topic and its QoS"
        silence = max(0, at.steady_ns - self._message_ns)
        if self._row > 0 and at.steady_ns - self._row_last_ns <= self.config.pause_ns:
            return SensorState.RECOVERING, Reason.RECOVERING, self._progress(at)
        if self._refusal is not None and silence <= self.config.timeout_ns:
            states = {
                Reason.FROZEN: SensorState.FROZEN,
                Reason.LATE: SensorState.LATE,
                Reason.BLIND: SensorState.BLIND,
            }
            state = states.get(self._refusal.reason, SensorState.BAD)
            return state, self._refusal.reason, self._refusal.detail
        limit = f"at most {_seconds(self.config.timeout_ns)} is allowed"
        if silence <= self.config.timeout_ns and self.held is not None:
            # Good when it came, and too old by its stamp before it is by its arrival: it was long on the way.
            age = _seconds(self.held.header_age_ns(at))
            detail = f"no message for {_seconds(silence)}, and the last is {age} old by its stamp, {limit}"
            return SensorState.LATE, Reason.LATE, detail
        detail = f"no message for {_seconds(silence)}, {limit}"
        if self._refusal is not None:
            detail += f"; the last was refused ({self._refusal.reason}): {self._refusal.detail}"
        return SensorState.LATE, Reason.LATE, detail

    def _advice(self) -> str:
        period, timeout = self._arrivals.period_ns, self.config.timeout_ns
        if period is None or not self._arrivals.known or period <= timeout:
            return ""
        name = f"{self.config.modality.value}.timeout"
        return f"its period is {_seconds(period)}, over the timeout of {_seconds(timeout)}; raise {name}"

    def _progress(self, at: Instant) -> str:
        if not self._held_back:
            return f"{self._row} of {self.config.recover_frames} good frames"
        steady = _seconds(at.steady_ns - self._row_since_ns)
        return (
            f"lost {len(self._losses)} times within {_seconds(self.config.flap_window_ns)}; held back until "
            f"steady for {_seconds(self.config.flap_hold_ns)}, {steady} so far"
        )
