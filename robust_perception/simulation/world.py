"""The MuJoCo model: not a world but a pool of shapes that every scene writes itself into.

Compiling a model and loading it into OpenGL takes a hundred times as long as drawing it, so there is one
model, with `PARTS` geoms whose type, size, colour, material and pose are overwritten for each scene; the ones
a scene does not need sit in a group that is not drawn. Physics never runs: poses are written straight
into `MjData`.
"""

from __future__ import annotations

import cv2
import numpy as np

from robust_perception.simulation.errors import SceneError
from robust_perception.simulation.graphics import mujoco
from robust_perception.simulation.scene import Scene, Shape, Vec
from robust_perception.simulation.textures import MATERIALS, draw

PARTS = 200
"""Most parts a scene may have."""
LAMPS = 3
"""Most lights a scene may have."""
NEAR, FAR = 0.05, 20.0
"""Clipping planes, metres."""

_HIDDEN_GROUP = 5
_TYPES = {
    Shape.BOX: mujoco.mjtGeom.mjGEOM_BOX,
    Shape.SPHERE: mujoco.mjtGeom.mjGEOM_SPHERE,
    Shape.ELLIPSOID: mujoco.mjtGeom.mjGEOM_ELLIPSOID,
    Shape.CYLINDER: mujoco.mjtGeom.mjGEOM_CYLINDER,
    Shape.CAPSULE: mujoco.mjtGeom.mjGEOM_CAPSULE,
}


class World:
    """The model and its data, and the scene that is written in.

    Args:
        height: rows of the largest picture that is drawn.
        width: columns of it.
    """

    def __init__(self, height: int, width: int) -> None:
        textures = {m.texture: draw(m.texture) for m in MATERIALS.values() if m.texture}
        assets = {f"{name}.png": cv2.imencode(".png", p)[1].tobytes() for name, p in textures.items()}
        self.model = mujoco.MjModel.from_xml_string(_xml(height, width), assets)
        self.data = mujoco.MjData(self.model)
        self.data.light_xdir[:] = (0, 0, -1)
        self._materials = {name: self.model.material(name).id for name in MATERIALS}
        self._scene: Scene | None = None
        self._owner = np.zeros(0, dtype=np.int64)

    def texture_id(self, name: str) -> int:
        """MuJoCo's index of a texture."""
        return int(self.model.texture(f"{name}_flat").id)

    def write(self, scene: Scene) -> None:
        """Make the model this scene; `pose` must follow.

        Raises:
            SceneError: the scene has more parts or lamps than the pool.
        """
        parts = [part for item in scene.items for part in item.parts]
        if len(parts) > PARTS or len(scene.lamps) > LAMPS:
            got = f"{len(parts)} parts and {len(scene.lamps)} lamps"
            msg = f"a scene has at most {PARTS} parts and {LAMPS} lamps, got {got}"
            raise SceneError(msg)
        model, count = self.model, len(parts)
        model.geom_group[:count] = 0
        model.geom_group[count:] = _HIDDEN_GROUP
        model.geom_type[:count] = [_TYPES[part.shape] for part in parts]
        model.geom_size[:count] = [part.size for part in parts]
        model.geom_rgba[:count] = [part.rgba for part in parts]
        model.geom_matid[:count] = [self._materials[part.material] for part in parts]
        owners = [np.full(len(item.parts), i) for i, item in enumerate(scene.items)]
        self._owner = np.concatenate(owners) if owners else np.zeros(0, dtype=np.int64)
        model.light_active[:] = [i < len(scene.lamps) for i in range(LAMPS)]
        for i, lamp in enumerate(scene.lamps):
            model.light_diffuse[i] = lamp.colour
            model.light_specular[i] = np.asarray(lamp.colour) * 0.5
            self.data.light_xpos[i] = lamp.at
            aim = np.asarray(lamp.aim, dtype=np.float64)
            self.data.light_xdir[i] = aim / np.linalg.norm(aim)
        model.vis.headlight.ambient[:] = scene.ambient_light
        model.cam_fovy[0] = np.degrees(scene.camera.fov_y)
        self._scene = scene

    def pose(self, t: float) -> None:
        """Move everything to where it is at time `t`, seconds."""
        scene = self._scene
        if scene is None:
            msg = "expected a scene to pose, got none; call write first"
            raise SceneError(msg)
        local = [item.poses(t) for item in scene.items]
        if local:
            positions = np.concatenate([p for p, _ in local])
            rotations = np.concatenate([r for _, r in local])
            places: Vec = np.array([item.position(t) for item in scene.items])
            turns: Vec = np.array([item.rotation(t) for item in scene.items])
            turn = turns[self._owner]
            count = len(positions)
            self.data.geom_xpos[:count] = np.einsum("nij,nj->ni", turn, positions) + places[self._owner]
            self.data.geom_xmat[:count] = (turn @ rotations).reshape(count, 9)
        at, facing = scene.camera.pose(t)
        self.data.cam_xpos[0] = at
        self.data.cam_xmat[0] = facing.reshape(9)


def _xml(height: int, width: int) -> str:
    textures = []
    for name in sorted({m.texture for m in MATERIALS.values() if m.texture}):
        textures.append(f'<texture name="{name}_flat" type="2d" file="{name}.png"/>')
        if any(m.texture == name and m.wraps for m in MATERIALS.values()):
            textures.append(f'<texture name="{name}_cube" type="cube" file="{name}.png"/>')
    materials = []
    for name, m in MATERIALS.items():
        texture = ""
        if m.texture:
            texture = (
                f'texture="{m.texture}_{"cube" if m.wraps else "flat"}" '
                f'texuniform="{"true" if m.uniform else "false"}" texrepeat="{m.repeat} {m.repeat}"'
            )
        materials.append(
            f'<material name="{name}" {texture} specular="{m.specular}" shininess="{m.shininess}" '
            f'emission="{m.emission}"/>'
        )
    lights = '<light pos="0 0 2.5" directional="false" attenuation="1 0 0" cutoff="90" exponent="0"/>' * LAMPS
    # Shadows and multisampling would cost more than everything else together on a software renderer; without
    # multisampling colour, depth and labels also agree in every pixel.
    return f"""
    <mujoco>
      <statistic extent="1" center="0 0 0"/>
      <visual>
        <global offwidth="{width}" offheight="{height}"/>
        <quality shadowsize="0" offsamples="0" numslices="20" numstacks="10" numquads="2"/>
        <headlight ambient="0.3 0.3 0.3" diffuse="0 0 0" specular="0 0 0"/>
        <map znear="{NEAR}" zfar="{FAR}" fogstart="100" fogend="200"/>
        <rgba haze="0 0 0 0"/>
      </visual>
      <asset>{"".join(textures)}{"".join(materials)}</asset>
      <worldbody>
        {lights}
        <camera name="rig" pos="0 0 1"/>
        {'<geom type="box" size="1 1 1" contype="0" conaffinity="0"/>' * PARTS}
      </worldbody>
    </mujoco>"""
