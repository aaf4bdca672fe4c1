"""Writes the demo's fault script: every sensor lost and regained, every pattern visited.

    python -m robust_perception.faults.demo > config/faults/demo.yaml

1. *Patterns*: for each of the 14 reduced patterns, richest first, the missing sensors are lost together and
   return together; then all four are lost at once.
2. *Cascades*: the sensors go one after another, each before the last has returned.
3. *Not lost, but worse*: darkness, smoke, a frozen depth picture, a noisy thermal one.

Every sensor is missing in 7 of the 14 patterns, in the blackout, and in every cascade.
"""

from __future__ import annotations

import sys

from robust_perception.vocabulary import ALL_PATTERNS, MODALITIES

SETTLE = 4.0
"""Quiet seconds at the start and at the end."""
LOST = 1.2
"""Seconds a sensor is lost."""
BACK = 1.7
"""Seconds all sensors have to recover between losses."""
BLACKOUT = 2.0
"""Seconds in which all sensors are lost."""
STAGGER = 0.5
"""Seconds between the losses of a cascade."""
CASCADES = 4
WORSE = (
    ("darkness", "rgb", 3.5, "gain: 0.02"),
    ("smoke", "all", 4.0, "density: 0.8"),
    ("freeze", "depth", 3.0, ""),
    ("noise", "thermal", 3.0, "sigma: 1.5"),
)
"""Fault, sensor, seconds, further key."""


def demo_script() -> str:
    """The demo's fault script, as YAML text; the same every time."""
    lines = [
        "# The demo: every sensor lost and regained, every pattern visited; darkness, smoke, freeze, noise.",
        "# Made by: python -m robust_perception.faults.demo > config/faults/demo.yaml",
        "seed: 7",
        "faults:",
        "  # Each reduced pattern in turn: what is missing is lost together and returns together.",
    ]
    t = SETTLE
    for pattern in ALL_PATTERNS[1:]:
        missing = [m.value for m in MODALITIES if m not in pattern]
        lines.append(_window(t, LOST, "[" + ", ".join(missing) + "]", "loss", f"  # leaves {pattern}"))
        t += LOST + BACK
    lines.append("  # All sensors lost: no output at all, an error on /diagnostics, recovery on return.")
    lines.append(_window(t, BLACKOUT, "all", "loss"))
    t += BLACKOUT + BACK
    lines.append("  # Cascades: one after another, each before the last has returned.")
    for turn in range(CASCADES):
        for step in range(len(MODALITIES)):
            sensor = MODALITIES[(step + turn) % len(MODALITIES)]
            lines.append(_window(t + step * STAGGER, LOST, sensor.value, "loss"))
        t += (len(MODALITIES) - 1) * STAGGER + LOST + BACK
    lines.append("  # Present, but worse: only the frozen sensor may leave the pattern.")
    for kind, sensor_name, seconds, key in WORSE:
        lines.append(_window(t, seconds, sensor_name, kind, key=key))
        t += seconds + BACK
    return "\n".join(lines) + "\n"


def _window(at: float, seconds: float, sensor: str, kind: str, note: str = "", key: str = "") -> str:
    end = f", {key}" if key else ""
    return f"  - {{at: {at:.1f}, until: {at + seconds:.1f}, sensor: {sensor}, fault: {kind}{end}}}{note}"


if __name__ == "__main__":
    sys.stdout.write(demo_script())
