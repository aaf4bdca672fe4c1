"""What `~/presence` and `/diagnostics` say: which sensors take part, why others do not, what runs.

Both are diagnostic_msgs/DiagnosticArray. `~/presence` goes with every output and bears its header: status 0
is the pattern, 1 to 4 are the sensors in the order rgb, depth, thermal, audio. `/diagnostics` has the same
and one more about the engine, stamped with the node's clock. In `~/presence`, `measured_ns` names the very
frame of each sensor that went in, by the time its measurement ended.

Levels of a sensor: OK alive or switched off, STALE never seen, WARN lost (the others go on without it), ERROR
when its publisher cannot reach the node. Of the pattern: OK all sensors that are switched on, WARN fewer,
ERROR no output. Of the engine: OK, or ERROR from a failure until the next output.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from std_msgs.msg import Header

from robust_perception.engine.engine import EngineInfo
from robust_perception.presence import SensorState, SensorStatus
from robust_perception.ros.outputs import output_header
from robust_perception.runtime.pacing import Situation
from robust_perception.vocabulary import MODALITIES, FrameSet, Modality, Pattern, Perception, Reason

_LEVELS = {
    SensorState.ALIVE: DiagnosticStatus.OK,
    SensorState.DISABLED: DiagnosticStatus.OK,
    SensorState.NEVER_SEEN: DiagnosticStatus.STALE,
}


class Link(NamedTuple):
    """Where a sensor is listened to."""

    topic: str = ""
    """Resolved name."""
    camera_info: str = ""
    """Size of its CameraInfo, `640x480`; empty when none has come: boxes and labels need none."""
    transport_lost: int = 0
    """Messages that the middleware lost on the way."""
    hint: str = ""
    """Why its publisher cannot be heard, and the mend; makes its status an ERROR."""
    note: str = ""
    """That there is no publisher, and where one may be; a sensor that is missing is no error."""


def presence(
    node: str,
    perception: Perception,
    statuses: Mapping[Modality, SensorStatus],
    info: EngineInfo,
    latency_ms: float,
) -> DiagnosticArray:
    """The message that goes with one output.

    Args:
        node: name of the node, in front of every status name.
        perception: the output.
        statuses: of all four sensors when its frames were taken.
        info: what runs the model.
        latency_ms: from the end of the reference frame's measurement to now.
    """
    frame_set = perception.frame_set
    values = {
        "pattern": str(frame_set.pattern),
        "bits": frame_set.pattern.bits,
        "reference": frame_set.reference,
        "adapter": info.adapter(frame_set.pattern),
        "backend": info.backend,
        "precision": info.precision,
        "device": info.device,
        "confidence": perception.confidence,
        "latency_ms": latency_ms,
        **{f"{step}_ms": spent for step, spent in perception.timings_ms.items()},
    }
    seen = agreeing(statuses, frame_set)
    message = DiagnosticArray(header=output_header(perception))
    message.status.append(
        _status(f"{node}: pattern", _pattern_level(frame_set.pattern, seen), str(frame_set.pattern), values)
    )
    for modality in MODALITIES:
        status = sensor(node, seen[modality])
        frame = frame_set.frames.get(modality)
        status.values.append(KeyValue(key="measured_ns", value="" if frame is None else str(frame.end_ns)))
        message.status.append(status)
    return message


def agreeing(statuses: Mapping[Modality, SensorStatus], frame_set: FrameSet) -> dict[Modality, SensorStatus]:
    """The statuses as of the frame set: a message may have come between the taking of the two."""
    agreed = {}
    for modality, status in statuses.items():
        if modality in frame_set.pattern:
            status = replace(
                status,
                state=SensorState.ALIVE,
                reason=None,
                detail="",
                advice="",
                header_age_ns=frame_set.header_age_ns.get(modality, status.header_age_ns),
                arrival_age_ns=frame_set.arrival_age_ns.get(modality, status.arrival_age_ns),
            )
        elif status.state is SensorState.ALIVE:
            reason = frame_set.absent.get(modality, Reason.RECOVERING)
            status = replace(status, state=SensorState.RECOVERING, reason=reason, detail="alive from now on")
        agreed[modality] = status
    return agreed


def report(
    node: str,
    stamped: Header,
    situation: Situation,
    statuses: Mapping[Modality, SensorStatus],
    links: Mapping[Modality, Link],
    engine: DiagnosticStatus | None = None,
) -> DiagnosticArray:
    """What `/diagnostics` says.

    Args:
        node: name of the node.
        stamped: header with the node's time.
        situation: whether there is output.
        statuses: of the sensors, none while the node is not configured.
        links: per sensor, where it is listened to.
        engine: made by `engine_status`.
    """
    message = DiagnosticArray(header=stamped)
    if situation.pattern is None:
        level, text = DiagnosticStatus.ERROR, f"no output: {situation.reason}"
    else:
        level, text = _pattern_level(situation.pattern, statuses), str(situation.pattern)
    values = {
        "pattern": situation.pattern or "none",
        "bits": situation.pattern.bits if situation.pattern else 0,
        "reason": situation.reason,
    }
    message.status.append(_status(f"{node}: pattern", level, text, values))
    for modality, status in statuses.items():
        message.status.append(sensor(node, status, links.get(modality, Link())))
    if engine is not None:
        message.status.append(engine)
    return message


def sensor(node: str, status: SensorStatus, link: Link | None = None) -> DiagnosticStatus:
    """One sensor's status, with what is known of its topic if `link` is given."""
    hint, note = (link.hint, link.note) if link else ("", "")
    text = str(status.state)
    if status.reason is not None and status.reason.value != status.state.value:
        text = f"{text}: {status.reason}"
    for more in (status.detail, status.advice, hint, note):
        if more:
            text = f"{text}; {more}"
    level = DiagnosticStatus.ERROR if hint else _LEVELS.get(status.state, DiagnosticStatus.WARN)
    values = {
        "state": status.state,
        "reason": status.reason or "",
        "header_age_ms": _milliseconds(status.header_age_ns),
        "arrival_age_ms": _milliseconds(status.arrival_age_ns),
        "rate_hz": status.rate_hz,
        "gaps": status.gaps,
        "frames": status.frames,
        "refused": status.refused,
        "losses": status.losses,
        "time_to_degrade_ms": _milliseconds(status.time_to_degrade_ns),
        "recovery_frames": "" if status.last_recovery_frames is None else status.last_recovery_frames,
    }
    if link is not None:
        values["transport_lost"] = link.transport_lost
        if status.modality.is_image:
            values["camera_info"] = link.camera_info or "none"
    return _status(f"{node}: {status.modality}", level, text, values, link.topic if link else "")


def engine_status(
    node: str, info: EngineInfo, totals_ms: Sequence[float], outputs: int, failure: str = ""
) -> DiagnosticStatus:
    """What runs the model and how long it takes, from the `total` of the last inferences.

    Args:
        node: name of the node.
        info: what runs the model.
        totals_ms: milliseconds of the last inferences.
        outputs: how many there were so far.
        failure: why there is no output, where that is the model's doing; makes the status an ERROR.
    """
    p50, p95 = np.percentile(totals_ms, (50, 95)) if totals_ms else (0.0, 0.0)
    values = {
        "model": info.model,
        "version": info.version,
        "manifest_sha256": info.sha,
        "backend": info.backend,
        "precision": info.precision,
        "device": info.device,
        "adapters": "none" if info.adapters is None else info.adapters.kind,
        "rejected": "; ".join(info.rejected),
        "outputs": outputs,
        "inference_ms_p50": float(p50),
        "inference_ms_p95": float(p95),
    }
    text = f"{info.model} {info.version} on {info.backend} {info.precision}"
    if failure:
        return _status(f"{node}: engine", DiagnosticStatus.ERROR, f"{text}; {failure}", values)
    return _status(f"{node}: engine", DiagnosticStatus.OK, text, values)


def _pattern_level(pattern: Pattern, statuses: Mapping[Modality, SensorStatus]) -> bytes:
    wanted = {m for m, status in statuses.items() if status.state is not SensorState.DISABLED}
    complete = wanted <= set(pattern)
    return bytes(DiagnosticStatus.OK if complete else DiagnosticStatus.WARN)


def _status(
    name: str, level: bytes, text: str, values: Mapping[str, object], hardware_id: str = ""
) -> DiagnosticStatus:
    pairs = [KeyValue(key=key, value=_text(value)) for key, value in values.items()]
    return DiagnosticStatus(level=level, name=name, message=text, hardware_id=hardware_id, values=pairs)


def _text(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _milliseconds(nanoseconds: int | None) -> object:
    return "" if nanoseconds is None else nanoseconds / 1e6
