"""What can go wrong in the simulation room."""

from __future__ import annotations

from robust_perception import extras


class SimulationError(Exception):
    """Base of every error of this room."""


class PackageError(SimulationError):
    """A Python package is missing; says which, and what installs it."""

    @classmethod
    def of(cls, error: ModuleNotFoundError) -> PackageError:
        """The error behind an import that failed."""
        return cls(f"the simulator needs the package {error.name}, got none; {extras.install('sim')}")


class GraphicsError(SimulationError):
    """The machine cannot draw off-screen; says which packages mend it."""


class SceneError(SimulationError):
    """A scene does not fit the rig: more parts than the pool holds, or a size that cannot be drawn."""
