"""Loads MuJoCo with off-screen EGL, or says how to get it.

MuJoCo chooses its OpenGL platform from MUJOCO_GL at import, so everything of this room imports `mujoco` from
here. EGL on Mesa's software renderer needs neither a display nor a GPU.
"""

from __future__ import annotations

import os
from typing import Any

from robust_perception.environment import GRAPHICS_PACKAGES
from robust_perception.simulation.errors import GraphicsError, PackageError

MEND = f"install it with: apt install {' '.join(GRAPHICS_PACKAGES)}"

os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("PYOPENGL_PLATFORM", os.environ["MUJOCO_GL"])

try:
    import mujoco
except ModuleNotFoundError as error:
    raise PackageError.of(error) from error
except (ImportError, AttributeError, RuntimeError) as error:
    # Without libEGL PyOpenGL raises either of the first two; MuJoCo the third, for a platform it lacks.
    _why = (
        f"the simulator needs mujoco and EGL, got {type(error).__name__} with "
        f"MUJOCO_GL={os.environ['MUJOCO_GL']}: {error}; unset MUJOCO_GL, or {MEND}"
    )
    raise GraphicsError(_why) from error

__all__ = ["mujoco", "open_context"]


def open_context(width: int, height: int) -> mujoco.GLContext:
    """Open an off-screen OpenGL context and make it current.

    Raises:
        GraphicsError: the machine has no usable EGL.
    """
    try:
        context = _platform()(width, height)
        context.make_current()
    except Exception as error:  # PyOpenGL and MuJoCo raise half a dozen unrelated types here
        msg = f"cannot draw off-screen with MUJOCO_GL={os.environ['MUJOCO_GL']} ({error}); {MEND}"
        raise GraphicsError(msg) from error
    return context


def _platform() -> Any:
    """MuJoCo's context of the platform asked for, also where `mujoco` was imported before this file was."""
    if os.environ["MUJOCO_GL"] != "egl":
        return mujoco.GLContext
    from mujoco.egl import GLContext

    return GLContext
