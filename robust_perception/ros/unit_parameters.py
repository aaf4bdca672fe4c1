"""What the counts of integer images mean, as parameters of every node that takes such images apart."""

from __future__ import annotations

import numpy as np

from robust_perception.ros.errors import ParameterError
from robust_perception.ros.parameters import Parameter, ParameterTable
from robust_perception.runtime.decoders import ImageUnits
from robust_perception.units import DEPTH_SCALE, THERMAL_OFFSET, THERMAL_SCALE
from robust_perception.vocabulary import Array

MOST_COUNTS = 65535
"""Of 16 bits."""

UNITS: tuple[Parameter, ...] = (
    Parameter("depth.scale", DEPTH_SCALE, "Metres per count of 16-bit depth.", "live", 1e-9, 10.0),
    Parameter(
        "thermal.encoding_scale", THERMAL_SCALE, "Kelvin per count of 16-bit thermal.", "live", 1e-9, 100.0
    ),
    Parameter(
        "thermal.offset", THERMAL_OFFSET, "Kelvin of count 0 of 16-bit thermal.", "live", -1000.0, 1000.0
    ),
)
"""The rows."""


def image_units(table: ParameterTable) -> ImageUnits:
    """What the counts of integer images mean now."""
    return ImageUnits(table["depth.scale"], table["thermal.encoding_scale"], table["thermal.offset"])


def within_reach(metres: Array, scale: float) -> Array:
    """Depth float32 (H, W), metres; NaN, not the farthest, beyond what 16 bits of `scale` metres hold."""
    return np.where(np.greater(metres, MOST_COUNTS * scale), np.float32(np.nan), metres)


def check_range(table: ParameterTable, metres: tuple[float, float], kelvin: tuple[float, float]) -> None:
    """Whether counts of 16 bits hold what a source sends; beyond it every pixel would be cut off unsaid.

    Args:
        table: has the rows above.
        metres: nearest that its depth says, and how far it must reach at least.
        kelvin: coldest and hottest that its thermal pictures say.

    Raises:
        ParameterError: they do not.
    """
    near, far = metres
    scale = table["depth.scale"]
    # Rounded, the nearest must not become 0, which is no measurement.
    if not far / MOST_COUNTS <= scale < 2.0 * near:
        expected = f"metres a count with which 1 to {MOST_COUNTS} counts hold {near:g} to {far:g} m"
        raise ParameterError("depth.scale", expected, scale)
    cold, hot = kelvin
    scale, offset = table["thermal.encoding_scale"], table["thermal.offset"]
    if not offset <= cold <= hot <= offset + MOST_COUNTS * scale:
        expected = f"values with which 0 to {MOST_COUNTS} counts hold {cold:g} to {hot:g} K"
        got = f"{scale:g} and {offset:g}: {offset:g} to {offset + MOST_COUNTS * scale:g} K"
        raise ParameterError("thermal.encoding_scale and thermal.offset", expected, got)
