"""What can go wrong in the simulation room."""

from __future__ import annotations


class SimulationError(Exception):
    """Base of every error of this room."""


class GraphicsError(SimulationError):
    """The machine cannot draw off-screen; says which packages mend it."""


class SceneError(SimulationError):
    """A scene does not fit the rig: more parts than the pool holds, or a size that cannot be drawn."""
