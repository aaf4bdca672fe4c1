"""Draws a world in two passes: colour, then identity together with depth.

The second pass paints every part in its own number and leaves its distance in the depth buffer, so labels,
depth and (through the part's temperature) heat come out of one drawing and agree with the colour picture in
every pixel.

Distance: MuJoCo's depth buffer is reversed, d = 0 far and 1 near, so with the clipping planes n and f

    z = n f / (n + d (f - n))            (metres along the optical axis)
"""

from __future__ import annotations

import threading
from types import TracebackType

import numpy as np
import numpy.typing as npt

from robust_perception.simulation.errors import GraphicsError
from robust_perception.simulation.graphics import mujoco, open_context
from robust_perception.simulation.world import FAR, NEAR, World

Picture = npt.NDArray[np.uint8]


class Renderer:
    """An off-screen OpenGL context for one world; close it, or use it in `with`.

    Args:
        world: what is drawn.
        height: rows.
        width: columns.

    Raises:
        GraphicsError: the machine cannot draw off-screen.
    """

    def __init__(self, world: World, height: int, width: int) -> None:
        self._world = world
        self._size = (height, width)
        self._thread = threading.get_ident()
        self._gl = open_context(width, height)
        self._context = mujoco.MjrContext(world.model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
        self._context.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
        self._scene = mujoco.MjvScene(world.model, maxgeom=world.model.ngeom + 16)
        self._option = mujoco.MjvOption()
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._camera.fixedcamid = 0

    def colour(self, size: tuple[int, int] | None = None) -> Picture:
        """Draw the posed world: uint8 (H, W, 3), R G B; `size` (rows, columns) is at most the rig's."""
        height, width = size or self._size
        self._refresh()
        rect = mujoco.MjrRect(0, 0, width, height)
        pixels = np.empty((height, width, 3), np.uint8)
        mujoco.mjr_render(rect, self._scene, self._context)
        mujoco.mjr_readPixels(pixels, None, rect, self._context)
        return np.ascontiguousarray(pixels[::-1])

    def identity(self) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        """Which part each pixel of the last `colour` shows, and how far away.

        Returns:
            Part index int32 (H, W), -1 = nothing; distance along the optical axis float32 (H, W), metres.
        """
        height, width = self._size
        rect = mujoco.MjrRect(0, 0, width, height)
        pixels = np.empty((height, width, 3), np.uint8)
        buffer = np.empty((height, width), np.float32)
        flags = self._scene.flags
        flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = True
        mujoco.mjr_render(rect, self._scene, self._context)
        mujoco.mjr_readPixels(pixels, buffer, rect, self._context)
        flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = False
        # Every drawn geom is one of the pool's first, in order, so its drawing number is its part index.
        number = pixels[::-1, :, 0].astype(np.int32) + (pixels[::-1, :, 1].astype(np.int32) << 8)
        distance = np.float32(NEAR * FAR) / (np.float32(NEAR) + buffer[::-1] * np.float32(FAR - NEAR))
        return number - 1, distance.astype(np.float32, copy=False)

    def upload(self, texture_id: int, picture: Picture) -> None:
        """Replace a texture's pixels by `picture`, uint8 (rows, columns, 3) of the texture's own size."""
        model = self._world.model
        start = int(model.tex_adr[texture_id])
        model.tex_data[start : start + picture.size] = picture.reshape(-1)
        self._make_current()
        mujoco.mjr_uploadTexture(model, self._context, texture_id)

    def close(self) -> None:
        """Free the OpenGL context."""
        if self._gl is not None:
            self._gl.make_current()
            self._context.free()
            self._gl.free()
            self._gl = None

    def __enter__(self) -> Renderer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _make_current(self) -> None:
        # EGL would answer EGL_BAD_ACCESS, which says nothing to anybody.
        if self._gl is None:
            msg = "expected an open rig to draw with, got one that was closed; make another"
            raise GraphicsError(msg)
        if threading.get_ident() != self._thread:
            msg = (
                "expected to draw in the thread that made the rig, got another; make and use it in one thread"
            )
            raise GraphicsError(msg)
        self._gl.make_current()

    def _refresh(self) -> None:
        self._make_current()
        mujoco.mjv_updateScene(
            self._world.model,
            self._world.data,
            self._option,
            None,
            self._camera,
            mujoco.mjtCatBit.mjCAT_ALL.value,
            self._scene,
        )
