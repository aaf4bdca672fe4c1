"""The room and what clutters it: all of it background, some of it warm, some of it a picture of a person."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from robust_perception.simulation.scene import Item, Part, Shape, turn_x, turn_y
from robust_perception.simulation.textures import FLAT_PATTERNS, PHOTOGRAPH_SIZE
from robust_perception.simulation.things import bar, shadow

Rgba = tuple[float, float, float, float]


@dataclass(frozen=True)
class Room:
    """Extent of the room: x in [-half_width, half_width], y in [-1.5, depth], z in [0, height], metres."""

    half_width: float
    depth: float
    height: float


@dataclass(frozen=True)
class Surface:
    """A level rectangle that things stand on: centre, half extents, height above the floor, metres."""

    x: float
    y: float
    half_x: float
    half_y: float
    z: float


Spot = tuple[float, float, float, float]
"""Centre and radius of what is taken, metres."""


def shell(rng: np.random.Generator, room: Room, air: float) -> tuple[Item, list[Spot]]:
    """Floor, walls and ceiling, sometimes a window and a radiator; and the spots that these two take."""
    wall = tuple(rng.uniform(0.45, 1.0) * rng.uniform(0.75, 1.0, 3))
    floor = tuple(rng.uniform(0.25, 0.9) * rng.uniform(0.7, 1.0, 3))
    wall_pattern = str(rng.choice(["matte", *FLAT_PATTERNS]))
    floor_pattern = str(rng.choice(["matte", *FLAT_PATTERNS]))
    w, d, h = room.half_width, room.depth, room.height
    walls = air + float(rng.normal(-0.5, 0.8))
    mid = (d - 1.5) / 2
    long = (d + 1.5) / 2
    upright = turn_x(math.pi / 2)
    sideways = turn_y(math.pi / 2)
    parts = [
        Part(Shape.BOX, (w, long, 0.05), (0, mid, -0.05), _rgba(floor), air - 0.8, material=floor_pattern),
        Part(Shape.BOX, (w, long, 0.05), (0, mid, h + 0.05), (0.9, 0.9, 0.88, 1), air + 0.6),
        Part(Shape.BOX, (w, h / 2, 0.05), (0, d + 0.05, h / 2), _rgba(wall), walls, upright, wall_pattern),
        Part(Shape.BOX, (w, h / 2, 0.05), (0, -1.55, h / 2), _rgba(wall), walls, upright, wall_pattern),
    ]
    for side in (-1, 1):
        at = (side * (w + 0.05), mid, h / 2)
        drift = walls + float(rng.normal(0, 0.4))
        parts.append(Part(Shape.BOX, (h / 2, long, 0.05), at, _rgba(wall), drift, sideways, wall_pattern))
    taken: list[Spot] = []
    if rng.random() < 0.4:
        middle = float(rng.uniform(-0.6, 0.6)) * w
        taken.append((middle, d, 1.65, 0.6))
        glass = air + float(rng.uniform(-8, 6))
        pane = (0.75, 0.85, 0.95, 1.0)
        parts.append(Part(Shape.BOX, (0.6, 0.03, 0.45), (middle, d, 1.65), (0.9, 0.9, 0.9, 1), walls))
        parts.append(Part(Shape.BOX, (0.54, 0.035, 0.39), (middle, d, 1.65), pane, glass, material="lit"))
    if rng.random() < 0.3:
        x = float(rng.uniform(-0.7, 0.7)) * w
        taken.append((x, d, 0.42, 0.4))
        hot = 273.15 + float(rng.uniform(32, 55))
        for k in range(7):
            rib = (x + (k - 3) * 0.11, d - 0.08, 0.42)
            parts.append(
                Part(Shape.BOX, (0.045, 0.05, 0.3), rib, (0.9, 0.9, 0.87, 1), hot - abs(k - 3) * 0.5)
            )
    return Item(0, tuple(parts), (0.0, 0.0, 0.0)), taken


def table(rng: np.random.Generator, top: Surface, air: float) -> Item:
    """A table whose upper face is `top`."""
    colour = _rgba(tuple(rng.uniform(0.3, 0.95) * rng.uniform(0.6, 1.0, 3)))
    pattern = str(rng.choice(["matte", *FLAT_PATTERNS]))
    half = 0.02
    slab = (top.half_x, top.half_y, half)
    parts = [Part(Shape.BOX, slab, (top.x, top.y, top.z - half), colour, air, material=pattern)]
    for x in (-1, 1):
        for y in (-1, 1):
            leg = (top.x + x * (top.half_x - 0.05), top.y + y * (top.half_y - 0.05), (top.z - 0.04) / 2)
            parts.append(Part(Shape.BOX, (0.03, 0.03, (top.z - 0.04) / 2), leg, colour, air))
    return Item(0, tuple(parts), (0.0, 0.0, 0.0))


def shelf(rng: np.random.Generator, top: Surface, air: float) -> Item:
    """A board on the back wall whose upper face is `top`."""
    colour = _rgba(tuple(rng.uniform(0.3, 0.95) * rng.uniform(0.6, 1.0, 3)))
    board = Part(
        Shape.BOX,
        (top.half_x, top.half_y, 0.015),
        (top.x, top.y, top.z - 0.015),
        colour,
        air,
        material="planks15",
    )
    return Item(0, (board,), (0.0, 0.0, 0.0))


def clutter(rng: np.random.Generator, size: float, air: float) -> list[Part]:
    """A thing of no class: books, a bottle, a vase, a plant, a carton, a lamp (warm)."""
    colour = _rgba(tuple(rng.uniform(0.15, 1.0, 3)))
    other = _rgba(tuple(rng.uniform(0.15, 1.0, 3)))
    warmth = air + float(rng.normal(0, 0.7))
    kind = rng.integers(6)
    if kind == 0:
        parts = []
        level = 0.0
        for _ in range(int(rng.integers(1, 4))):
            thick = size * float(rng.uniform(0.08, 0.16))
            cover = _rgba(tuple(rng.uniform(0.1, 1.0, 3)))
            half = (size * float(rng.uniform(0.4, 0.55)), size * float(rng.uniform(0.6, 0.75)), thick)
            parts.append(Part(Shape.BOX, half, (0.0, 0.0, level + thick), cover, warmth))
            level += 2 * thick
    elif kind == 1:
        parts = [
            Part(
                Shape.CYLINDER,
                (size * 0.25, size * 0.5, 0),
                (0, 0, size * 0.5),
                colour,
                warmth,
                material="glossy",
            ),
            Part(Shape.CYLINDER, (size * 0.09, size * 0.25, 0), (0, 0, size * 1.2), other, warmth),
        ]
    elif kind == 2:
        parts = [
            Part(
                Shape.ELLIPSOID, (size * 0.35, size * 0.35, size * 0.55), (0, 0, size * 0.5), colour, warmth
            ),
            Part(Shape.CYLINDER, (size * 0.2, size * 0.2, 0), (0, 0, size * 1.05), colour, warmth),
        ]
    elif kind == 3:
        green = (0.1, float(rng.uniform(0.3, 0.6)), 0.12, 1.0)
        parts = [Part(Shape.CYLINDER, (size * 0.3, size * 0.25, 0), (0, 0, size * 0.25), colour, warmth)]
        for k in range(6):
            tip = np.array([math.cos(k * 2.1) * 0.5, math.sin(k * 2.1) * 0.5, 1.1 + 0.1 * k]) * size
            parts.append(bar(np.array([0, 0, 0.5 * size]), tip, size * 0.07, green, air - 0.7))
    elif kind == 4:
        half3 = tuple(size * float(v) for v in rng.uniform((0.3, 0.15, 0.4), (0.7, 0.35, 0.9)))
        parts = [
            Part(
                Shape.BOX, (half3[0], half3[1], half3[2]), (0, 0, half3[2]), colour, warmth, material="cloth"
            )
        ]
    else:
        hot = 273.15 + float(rng.uniform(45, 75))
        glow = (1.0, 0.95, 0.8, 1.0)
        parts = [
            Part(Shape.CYLINDER, (size * 0.3, size * 0.04, 0), (0, 0, size * 0.04), other, warmth),
            Part(Shape.CYLINDER, (size * 0.05, size * 0.5, 0), (0, 0, size * 0.5), other, warmth),
            Part(Shape.CYLINDER, (size * 0.4, size * 0.3, 0), (0, 0, size * 1.2), glow, hot, material="lit"),
        ]
    return [*parts, shadow(size * 0.5, air)]


def photograph(
    rng: np.random.Generator, index: int, at: tuple[float, float, float], half_height: float, air: float
) -> Item:
    """A framed photograph on the back wall; `index` says which of the scene's."""
    half_width = half_height * PHOTOGRAPH_SIZE[1] / PHOTOGRAPH_SIZE[0]
    frame = _rgba(tuple(rng.uniform(0.05, 0.9, 3)))
    edge = float(rng.choice([0.0, 0.02, 0.05]))
    upright = turn_x(math.pi / 2)
    warmth = air + float(rng.normal(-0.5, 0.4))
    plate = (half_width, half_height, 0.004)
    parts = [
        Part(Shape.BOX, (half_width + edge, 0.006, half_height + edge), (0, -0.006, 0), frame, warmth),
        Part(Shape.BOX, plate, (0, -0.011, 0), (1, 1, 1, 1), warmth, upright, f"photograph{index}"),
    ]
    return Item(0, tuple(parts), at)


def _rgba(rgb: tuple[float, ...]) -> Rgba:
    r, g, b = (float(v) for v in rgb)
    return r, g, b, 1.0
