"""A scene as plain values: solid parts, items made of parts, room, light, camera, emitters.

Nothing here draws. Lengths in metres, temperatures in kelvin, angles in radians, times in seconds; world
axes x right, y away from the camera's start, z up.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Vec = npt.NDArray[np.float64]
Poses = tuple[Vec, Vec]
"""Positions (n, 3) and rotation matrices (n, 3, 3) of parts, in their item's axes."""


class Shape(str, enum.Enum):
    """Shape of a part and the meaning of its `size` (half extents throughout)."""

    BOX = "box"  # x, y, z
    SPHERE = "sphere"  # radius, -, -
    ELLIPSOID = "ellipsoid"  # x, y, z
    CYLINDER = "cylinder"  # radius, half length along z, -
    CAPSULE = "capsule"  # radius, half length of the straight piece along z, -


@dataclass(frozen=True)
class Part:
    """One solid of an item.

    Attributes:
        shape: its shape.
        size: half extents as `Shape` says.
        at: centre in the item's axes.
        rgba: colour in [0, 1]; a part with alpha < 1 is a stain on what lies under it.
        kelvin: surface temperature.
        turn: rotation matrix (3, 3) in the item's axes; None = upright.
        material: name of a material in `textures.MATERIALS`.
    """

    shape: Shape
    size: tuple[float, float, float]
    at: tuple[float, float, float]
    rgba: tuple[float, float, float, float]
    kelvin: float
    turn: Vec | None = None
    material: str = "matte"


@dataclass(frozen=True)
class Motion:
    """Swing about a rest pose: rest + amplitude * sin(2 pi t / period + phase)."""

    amplitude: tuple[float, float, float] = (0.0, 0.0, 0.0)
    yaw_amplitude: float = 0.0
    period: float = 1.0
    phase: float = 0.0

    def at(self, t: float) -> float:
        """The swing in [-1, 1] at time `t`."""
        return math.sin(2 * math.pi * t / self.period + self.phase)


STILL = Motion()


@dataclass(frozen=True)
class Item:
    """Something that stands in the scene.

    Attributes:
        class_id: index into `classes.CLASS_NAMES`; 0 = part of the background.
        parts: its solids.
        at: rest position of its foot.
        yaw: rest turn about z.
        motion: how it moves about its rest pose.
        gait: for things with limbs: part poses at a time; None = the parts keep their places.
    """

    class_id: int
    parts: tuple[Part, ...]
    at: tuple[float, float, float]
    yaw: float = 0.0
    motion: Motion = STILL
    gait: Callable[[float], Poses] | None = None

    def position(self, t: float) -> Vec:
        """Position (3,) of its foot at time `t`."""
        return np.asarray(self.at) + np.asarray(self.motion.amplitude) * self.motion.at(t)

    def rotation(self, t: float) -> Vec:
        """Rotation matrix (3, 3) at time `t`."""
        return turn_z(self.yaw + self.motion.yaw_amplitude * self.motion.at(t))

    def poses(self, t: float) -> Poses:
        """Poses of the parts in the item's axes at time `t`."""
        if self.gait is not None:
            return self.gait(t)
        upright = np.eye(3)
        mats = [upright if part.turn is None else part.turn for part in self.parts]
        return np.array([part.at for part in self.parts]), np.array(mats)


@dataclass(frozen=True)
class CameraView:
    """Where the four sensors look from, and how they sway.

    Attributes:
        at: rest position.
        yaw: rest turn to the left of +y.
        pitch: downward tilt.
        roll: tilt to the side.
        fov_y: full vertical angle of view, radians.
        sway: swing of position, and of yaw.
    """

    at: tuple[float, float, float]
    yaw: float
    pitch: float
    roll: float
    fov_y: float
    sway: Motion = STILL

    def pose(self, t: float) -> tuple[Vec, Vec]:
        """Position (3,) and rotation (3, 3) at `t`; columns: right, up, backward, as OpenGL has it."""
        swing = self.sway.at(t)
        position = np.asarray(self.at) + np.asarray(self.sway.amplitude) * swing
        yaw = self.yaw + self.sway.yaw_amplitude * swing
        cos_p, sin_p = math.cos(self.pitch), math.sin(self.pitch)
        level = np.array([[1, 0, 0], [0, sin_p, -cos_p], [0, cos_p, sin_p]])
        cos_r, sin_r = math.cos(self.roll), math.sin(self.roll)
        rolled = level @ np.array([[cos_r, -sin_r, 0], [sin_r, cos_r, 0], [0, 0, 1]])
        return position, turn_z(yaw) @ rolled


@dataclass(frozen=True)
class Lamp:
    """A light: position, aim, and colour times strength, each (3,)."""

    at: tuple[float, float, float]
    aim: tuple[float, float, float]
    colour: tuple[float, float, float]


@dataclass(frozen=True)
class Exposure:
    """How the colour camera answers.

    Attributes:
        gain: brightness; 1 = well lit, 0.02 = night.
        balance: gain of red, green, blue.
        gamma: exponent of the response.
        noise: deviation of the noise in counts of 255.
        blur: deviation of the lens blur in pixels.
    """

    gain: float = 1.0
    balance: tuple[float, float, float] = (1.0, 1.0, 1.0)
    gamma: float = 1.0
    noise: float = 2.0
    blur: float = 0.0


@dataclass(frozen=True)
class Emitter:
    """A body that makes sound.

    Attributes:
        kind: "tick", "voice" or "boil".
        seed: what makes it this one of its kind.
        loudness: amplitude at one metre.
        item: index of the item it comes from; None = out of view, at `at`.
        at: place in the item's axes, or in the world.
    """

    kind: str
    seed: int
    loudness: float
    item: int | None
    at: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Scene:
    """Everything one random scene consists of.

    Attributes:
        items: room, furniture, clutter and objects.
        camera: the view.
        lamps: at most `world.LAMPS` lights.
        ambient_light: colour of the light that comes from everywhere.
        exposure: answer of the colour camera.
        ambient_kelvin: temperature of the air.
        emitters: bodies that make sound.
        present: scene classes that hold, out of `classes.SCENE_NAMES`.
        noise_seed: seed of everything random at capture.
        quiet: strength of the ambient sound, full scale = 1.
        photographs: for every photograph on a wall, the items it shows.
    """

    items: tuple[Item, ...]
    camera: CameraView
    lamps: tuple[Lamp, ...]
    ambient_light: tuple[float, float, float]
    exposure: Exposure
    ambient_kelvin: float
    emitters: tuple[Emitter, ...]
    present: frozenset[str]
    noise_seed: int
    quiet: float = 0.004
    photographs: tuple[tuple[Item, ...], ...] = field(default=())


def turn_z(angle: float) -> Vec:
    """Rotation matrix (3, 3) about z."""
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])


def turn_x(angle: float) -> Vec:
    """Rotation matrix (3, 3) about x."""
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([[1.0, 0.0, 0.0], [0.0, cos, -sin], [0.0, sin, cos]])


def turn_y(angle: float) -> Vec:
    """Rotation matrix (3, 3) about y."""
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([[cos, 0.0, sin], [0.0, 1.0, 0.0], [-sin, 0.0, cos]])


def along(start: Vec, end: Vec) -> tuple[Vec, Vec, float]:
    """Pose of a part whose z axis runs from `start` to `end`: centre (3,), rotation (3, 3), half length."""
    dx, dy, dz = (end - start).tolist()
    length = math.hypot(dx, dy, dz)
    azimuth, tilt = math.atan2(dy, dx), math.acos(max(-1.0, min(1.0, dz / length)))
    return (start + end) / 2, turn_z(azimuth) @ turn_y(tilt), length / 2
