"""The objects of the scene: balls, crates, cups, clocks, kettles. Each is a function of chance to parts.

What must look alike looks alike: hot and cold cups, and ticking and silent clocks, are drawn by the same
function from the same chances; only temperature, respectively sound, tells them apart.
"""

from __future__ import annotations

import colorsys
import math
from itertools import pairwise

import numpy as np

from robust_perception.simulation.scene import Part, Shape, Vec, along, turn_x, turn_y

Rgba = tuple[float, float, float, float]

RED_HUES = (-0.03, 0.035)
BLUE_HUES = (0.57, 0.68)


def shadow(radius: float, kelvin: float) -> Part:
    """The dark stain under a thing that stands on something of temperature `kelvin`."""
    return Part(Shape.CYLINDER, (radius, 0.001, 0.0), (0.0, 0.0, 0.0015), (0.0, 0.0, 0.0, 0.35), kelvin)


def ball(rng: np.random.Generator, hues: tuple[float, float], radius: float, air: float) -> list[Part]:
    """A ball whose hue lies in `hues` (turns of the colour circle)."""
    colour = _hsv(rng.uniform(*hues) % 1.0, rng.uniform(0.7, 1.0), rng.uniform(0.55, 1.0))
    warmth = air + float(rng.normal(0, 0.6))
    material = str(rng.choice(["matte", "glossy"]))
    return [
        Part(Shape.SPHERE, (radius, 0.0, 0.0), (0.0, 0.0, radius), colour, warmth, material=material),
        shadow(radius * 0.8, air),
    ]


def crate(rng: np.random.Generator, half: float, air: float) -> list[Part]:
    """A cube of slats with a frame."""
    hue, brightness = rng.uniform(0.06, 0.12), rng.uniform(0.5, 1.0)
    wood = _hsv(hue, rng.uniform(0.25, 0.6), brightness)
    warmth = air + float(rng.normal(0, 0.8))
    bar = half * 0.1
    parts = [
        Part(Shape.BOX, (half * 0.96,) * 3, (0.0, 0.0, half), wood, warmth, material="slats"),
        shadow(half * 1.3, air),
    ]
    frame = _hsv(hue, 0.5, brightness * 0.75)
    for x in (-1, 1):
        for y in (-1, 1):
            post = (x * (half - bar), y * (half - bar), half)
            parts.append(Part(Shape.BOX, (bar, bar, half), post, frame, warmth))
    return parts


def cup(rng: np.random.Generator, height: float, hot: bool, air: float) -> list[Part]:
    """A mug with a handle; hot ones hold coffee at 50-80 C, cold ones the same coffee gone cold."""
    radius = height * float(rng.uniform(0.36, 0.46))
    colour = _hsv(rng.random(), rng.uniform(0.0, 0.8), rng.uniform(0.4, 1.0))
    drink = (0.16, 0.09, 0.05, 1.0)
    liquid = 273.15 + float(rng.uniform(52, 80)) if hot else air + float(rng.uniform(-6.0, 1.0))
    wall = air + (0.75 if hot else 0.9) * (liquid - air)
    handle = air + 0.35 * (liquid - air)
    parts = [
        Part(Shape.CYLINDER, (radius, height / 2, 0.0), (0, 0, height / 2), colour, wall, material="glossy"),
        Part(Shape.CYLINDER, (radius * 0.86, 0.002, 0.0), (0, 0, height), drink, liquid),
        shadow(radius * 1.3, air),
    ]
    grip = [(radius * 0.9, 0.8), (radius * 1.6, 0.75), (radius * 1.65, 0.35), (radius * 0.9, 0.25)]
    points = [np.array([x, 0.0, z * height]) for x, z in grip]
    return parts + [bar(a, b, height * 0.07, colour, handle) for a, b in pairwise(points)]


def clock(rng: np.random.Generator, radius: float, standing: bool, air: float) -> list[Part]:
    """A round clock that faces -y, on feet or to hang on a wall; its looks say nothing of its sound."""
    rim = _hsv(rng.random(), rng.uniform(0.1, 0.9), rng.uniform(0.15, 0.9))
    warmth = air + float(rng.normal(0.3, 0.4))
    facing = turn_x(math.pi / 2)
    thick = radius * (0.35 if standing else 0.15)
    centre = np.array([0.0, -thick, radius * 1.08 if standing else 0.0])
    white = (0.95, 0.94, 0.88, 1.0)
    black = (0.05, 0.05, 0.05, 1.0)
    front = centre + np.array([0.0, -thick, 0.0])
    parts = [
        Part(Shape.CYLINDER, (radius, thick, 0.0), _at(centre), rim, warmth, facing),
        Part(Shape.CYLINDER, (radius * 0.86, 0.002, 0.0), _at(front), white, warmth, facing),
    ]
    for hour in range(0, 12, 3):
        angle = hour * math.pi / 6
        mark = front + np.array([math.sin(angle), 0.0, math.cos(angle)]) * radius * 0.7
        size = (radius * 0.035, 0.003, radius * 0.09)
        parts.append(Part(Shape.BOX, size, _at(mark), black, warmth, turn_y(angle)))
    minutes = rng.random()
    for angle, length, width in (
        (2 * math.pi * minutes, 0.7, 0.04),
        (2 * math.pi * (rng.integers(12) + minutes) / 12, 0.45, 0.06),
    ):
        way = np.array([math.sin(angle), 0.0, math.cos(angle)])
        size = (radius * width, 0.004, radius * length / 2)
        parts.append(
            Part(Shape.BOX, size, _at(front + way * radius * length / 2), black, warmth, turn_y(angle))
        )
    if standing:
        for side in (-1, 1):
            foot = (side * radius * 0.55, -thick, radius * 0.12)
            parts.append(Part(Shape.SPHERE, (radius * 0.14, 0.0, 0.0), foot, rim, warmth))
        parts.append(shadow(radius * 0.9, air))
    return parts


def kettle(rng: np.random.Generator, radius: float, boiling: bool, air: float) -> list[Part]:
    """A kettle with spout and handle; boiling ones are at 90-99 C."""
    colour = _hsv(rng.random(), rng.uniform(0.0, 0.7), rng.uniform(0.3, 0.95))
    dark = (0.08, 0.08, 0.08, 1.0)
    body = 273.15 + float(rng.uniform(88, 98)) if boiling else air + float(rng.uniform(-1, 2))
    grip = air + 0.2 * (body - air)
    tall = radius * float(rng.uniform(0.85, 1.2))
    spout = np.array([[radius * 0.75, 0.0, tall * 0.7], [radius * 1.55, 0.0, tall * 1.35]])
    arch = [(-0.8, 1.35), (-0.55, 2.15), (0.55, 2.15), (0.8, 1.35)]
    points = [np.array([x * radius, 0.0, z * tall]) for x, z in arch]
    return [
        Part(Shape.ELLIPSOID, (radius, radius, tall), (0, 0, tall * 0.85), colour, body, material="glossy"),
        Part(Shape.CYLINDER, (radius * 0.8, tall * 0.2, 0.0), (0, 0, tall * 0.2), colour, body),
        Part(Shape.SPHERE, (radius * 0.16, 0.0, 0.0), (0, 0, tall * 1.92), dark, grip),
        bar(spout[0], spout[1], radius * 0.16, colour, air + 0.85 * (body - air)),
        *[bar(a, b, radius * 0.09, dark, grip) for a, b in pairwise(points)],
        shadow(radius * 1.1, air),
    ]


def bar(start: Vec, end: Vec, radius: float, rgba: Rgba, kelvin: float) -> Part:
    """A rounded rod between two points."""
    centre, turn, half = along(start, end)
    return Part(Shape.CAPSULE, (radius, half, 0.0), _at(centre), rgba, kelvin, turn)


def _at(point: Vec) -> tuple[float, float, float]:
    x, y, z = (float(v) for v in point)
    return x, y, z


def _hsv(hue: float, saturation: float, value: float) -> Rgba:
    r, g, b = colorsys.hsv_to_rgb(float(hue), float(saturation), float(value))
    return r, g, b, 1.0
