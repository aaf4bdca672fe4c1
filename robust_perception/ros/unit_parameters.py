"""What the counts of integer images mean, as parameters of every node that takes such images apart."""

from __future__ import annotations

from robust_perception.ros.parameters import Parameter, ParameterTable
from robust_perception.runtime.decoders import ImageUnits
from robust_perception.units import DEPTH_SCALE, THERMAL_OFFSET, THERMAL_SCALE

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
