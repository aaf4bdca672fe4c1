"""Every kind of fault in three severities, so that what is measured under them can be compared.

    python -m robust_perception.faults.severities severe > config/faults/severe.yaml

Mild is what an owner would shrug at, moderate what makes him call somebody, severe what leaves little of the
sensor. A kind without a strength of its own (loss, freeze) acts for a part of the time: 1, 2 or all of every
4 seconds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Mapping, Sequence

from robust_perception.faults.errors import FaultError
from robust_perception.faults.kinds import KINDS, Fault
from robust_perception.faults.script import FaultScript
from robust_perception.vocabulary import Modality

SEVERITIES = ("mild", "moderate", "severe")

CYCLE_S = 4.0
ACTIVE_S = (1.0, 2.0, CYCLE_S)
"""Of every cycle, how long a kind without strength acts, by severity."""

TABLE: dict[str, tuple[Mapping[str, float], Mapping[str, float], Mapping[str, float]]] = {
    "loss": ({}, {}, {}),
    "flap": ({"period": 1.0, "duty": 0.8}, {"period": 1.0, "duty": 0.5}, {"period": 1.0, "duty": 0.2}),
    "drop": ({"part": 0.1}, {"part": 0.3}, {"part": 0.7}),
    "delay": ({"seconds": 0.1}, {"seconds": 0.25}, {"seconds": 0.5}),
    "jitter": ({"seconds": 0.05}, {"seconds": 0.15}, {"seconds": 0.4}),
    "reorder": (
        {"part": 0.1, "seconds": 0.15},
        {"part": 0.3, "seconds": 0.15},
        {"part": 0.6, "seconds": 0.15},
    ),
    "freeze": ({}, {}, {}),
    "freeze_stamp": ({}, {}, {}),
    "clock": ({"seconds": -0.1}, {"seconds": -0.25}, {"seconds": -1.0}),
    "darkness": ({"gain": 0.3}, {"gain": 0.1}, {"gain": 0.02}),
    "overexposure": ({"gain": 2.0}, {"gain": 4.0}, {"gain": 10.0}),
    "smoke": ({"density": 0.1}, {"density": 0.3}, {"density": 0.8}),
    "dead_rows": ({"part": 0.05}, {"part": 0.2}, {"part": 0.5}),
    "holes": ({"part": 0.1}, {"part": 0.3}, {"part": 0.7}),
    "shutter": (
        {"period": 4.0, "seconds": 0.3},
        {"period": 3.0, "seconds": 0.8},
        {"period": 2.0, "seconds": 1.5},
    ),
    "drift": (
        {"kelvin": 1.0, "seconds": 1.0},
        {"kelvin": 4.0, "seconds": 1.0},
        {"kelvin": 12.0, "seconds": 1.0},
    ),
    "clipping": ({"gain": 4.0}, {"gain": 15.0}, {"gain": 60.0}),
    "gaps": ({"part": 0.1}, {"part": 0.3}, {"part": 0.7}),
}
"""Kind -> its keys, by severity; noise, whose unit is the sensor's, is in `NOISE`."""

NOISE: dict[Modality, tuple[float, float, float]] = {
    Modality.RGB: (10.0, 30.0, 80.0),
    Modality.DEPTH: (0.03, 0.1, 0.4),
    Modality.THERMAL: (0.3, 1.0, 4.0),
    Modality.AUDIO: (0.01, 0.05, 0.2),
}
"""Sigma by severity: counts of 255, metres, kelvin, parts of full scale."""

ACTING_S, RESTING_S = 3.0, 2.0
"""In the script of all kinds: how long each acts, and the pause after it."""


def strength(kind: str, severity: str, sensor: Modality) -> dict[str, float]:
    """The keys of a kind at a severity; FaultError when there is no such kind or severity."""
    level = _level(severity)
    if kind == "noise":
        return {"sigma": NOISE[sensor][level]}
    if kind not in TABLE:
        msg = f"fault: expected one of {', '.join(KINDS_MEASURED)}, got {kind!r}"
        raise FaultError(msg)
    return dict(TABLE[kind][level])


def generated(
    kind: str, severity: str, sensors: Collection[Modality], seconds: float, *, at: float = 0.0, seed: int = 0
) -> FaultScript:
    """A script of one kind.

    Args:
        kind: one of `KINDS_MEASURED`.
        severity: one of `SEVERITIES`.
        sensors: that it hits at the same time; the kind must fit each.
        seconds: how long.
        at: when it begins, seconds of the script.
        seed: of the script.

    Raises:
        FaultError: no such kind or severity, or a sensor that the kind does not fit.
    """
    faults = []
    for sensor in sensors:
        values = strength(kind, severity, sensor)
        for start, end in _windows(kind, _level(severity), at, at + seconds):
            faults.append(Fault(start, end, sensor, kind, dict(values)))
    return FaultScript(faults, seed, f"{severity} {kind}")


def script_of_all(severity: str) -> str:
    """A script that goes through all kinds, each on every sensor it fits, as YAML text."""
    lines = [
        f"# Every kind of fault, {severity}: {ACTING_S:g} s each, {RESTING_S:g} s between.",
        f"# Made by: python -m robust_perception.faults.severities {severity}",
        "seed: 11",
        "faults:",
    ]
    at = RESTING_S
    for kind in KINDS_MEASURED:
        by_values: dict[tuple[tuple[str, float], ...], list[str]] = {}
        for sensor in KINDS[kind].sensors:
            by_values.setdefault(tuple(strength(kind, severity, sensor).items()), []).append(sensor.value)
        for values, names in by_values.items():
            which = names[0] if len(names) == 1 else f"[{', '.join(names)}]"
            for start, end in _windows(kind, _level(severity), at, at + ACTING_S):
                keys = "".join(f", {name}: {value:g}" for name, value in values)
                lines.append(
                    f"  - {{at: {start:.1f}, until: {end:.1f}, sensor: {which}, fault: {kind}{keys}}}"
                )
        at += ACTING_S + RESTING_S
    return "\n".join(lines) + "\n"


def _level(severity: str) -> int:
    if severity not in SEVERITIES:
        msg = f"severity: expected one of {', '.join(SEVERITIES)}, got {severity!r}"
        raise FaultError(msg)
    return SEVERITIES.index(severity)


def _windows(kind: str, level: int, start: float, end: float) -> list[tuple[float, float]]:
    if KINDS[kind].keys or ACTIVE_S[level] >= CYCLE_S:
        return [(start, end)]
    windows = []
    while start < end:
        windows.append((start, min(start + ACTIVE_S[level], end)))
        start += CYCLE_S
    return windows


KINDS_MEASURED: tuple[str, ...] = tuple(kind for kind in KINDS if kind != "return")
"""All kinds of fault, in the order of `KINDS`."""


def main(argv: Sequence[str] | None = None) -> int:
    """Print the script of all kinds."""
    parser = argparse.ArgumentParser(description="Every kind of fault at one severity, as a fault script.")
    parser.add_argument("severity", choices=SEVERITIES)
    sys.stdout.write(script_of_all(parser.parse_args(argv).severity))
    return 0


if __name__ == "__main__":
    sys.exit(main())
