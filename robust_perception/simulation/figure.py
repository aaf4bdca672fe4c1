"""The body of a person: limbs between joints, clothes, hair, and where it is warm.

Axes of the item: x to the person's left, y behind the person, z up; a person with yaw 0 faces the camera.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from robust_perception.simulation.scene import Part, Poses, Shape, Vec, along

Colour = tuple[float, float, float]

_SKIN: tuple[Colour, ...] = (
    (0.96, 0.80, 0.69),
    (0.88, 0.67, 0.53),
    (0.76, 0.53, 0.38),
    (0.55, 0.36, 0.25),
    (0.36, 0.23, 0.17),
)
_HAIR: tuple[Colour, ...] = ((0.1, 0.08, 0.06), (0.3, 0.18, 0.1), (0.7, 0.55, 0.3), (0.6, 0.6, 0.6))


@dataclass(frozen=True)
class Build:
    """Proportions and pose of a person.

    Attributes:
        height: from sole to crown, metres.
        girth: width of the trunk relative to a slim one.
        stance: "standing", "walking" or "sitting".
        lift: how far each arm is raised: 0 = hanging, 1 = level; left, right.
        bend: how far each forearm is bent: 0 = straight, 1 = right angle.
        stride: swing of the legs, radians.
        pace: steps a second.
    """

    height: float
    girth: float
    stance: str
    lift: tuple[float, float]
    bend: tuple[float, float]
    stride: float
    pace: float

    @property
    def seat(self) -> float:
        """Height of the hips above the foot, metres."""
        return self.height * (0.3 if self.stance == "sitting" else 0.53)

    def limbs(self, t: float) -> list[tuple[Vec, Vec]]:
        """Ends of trunk, neck, and of upper and lower arms and legs, at time `t`."""
        h = self.height
        swing = self.stride * math.sin(2 * math.pi * self.pace * t)
        hips = np.array([0.0, 0.0, self.seat])
        up = np.array([0.0, 0.0, h])
        chest = hips + 0.26 * up
        ends = [(hips + 0.04 * up, chest), (chest, chest + 0.07 * up)]
        for side, index in ((1.0, 0), (-1.0, 1)):
            shoulder = chest + np.array([side * 0.11 * h * self.girth, 0.0, 0.005 * h])
            raised = self.lift[index] * math.pi / 2 - side * 0.5 * swing
            out = np.array([side * 0.25, -math.sin(raised), -math.cos(raised)])
            elbow = shoulder + 0.17 * h * out / np.linalg.norm(out)
            fold = raised + self.bend[index] * math.pi / 2
            wrist = elbow + 0.15 * h * np.array([-side * 0.1, -math.sin(fold), -math.cos(fold)])
            ends += [(shoulder, elbow), (elbow, wrist)]
        for side in (1.0, -1.0):
            hip = hips + np.array([side * 0.05 * h, 0.0, 0.0])
            if self.stance == "sitting":
                knee = hip + np.array([side * 0.02, -0.25 * h, 0.0])
                foot = knee + np.array([0.0, -0.02, -self.seat + 0.03 * h])
            else:
                leg = side * swing
                knee = hip + 0.255 * h * np.array([0.0, -math.sin(leg), -math.cos(leg)])
                back = leg - abs(swing) * 0.6
                foot = knee + 0.245 * h * np.array([0.0, -math.sin(back), -math.cos(back)])
            ends += [(hip, knee), (knee, foot)]
        return ends

    def poses(self, t: float) -> Poses:
        """Poses of the parts that `person` makes, in its order."""
        h = self.height
        ends = self.limbs(t)
        frames = [along(start, end) for start, end in ends]
        neck = ends[1][1]
        wrists = [ends[3][1], ends[5][1]]
        feet = [ends[7][1], ends[9][1]]
        crown = neck + np.array([0.0, 0.0, 0.055 * h])
        centres = [f[0] for f in frames]
        turns = [f[1] for f in frames]
        # The trunk is wider than deep, so its axes must not be turned about its length.
        turns[0] = np.eye(3)
        extra = [
            ends[0][0] + np.array([0.0, 0.0, -0.02 * h]),
            crown,
            crown + np.array([0.0, 0.014 * h, 0.016 * h]),
            *wrists,
            *[foot + np.array([0.0, -0.03 * h, -0.005 * h]) for foot in feet],
            np.array([0.0, -0.1 * h * (self.stance == "sitting"), 0.002]),
        ]
        return np.array(centres + extra), np.array(turns + [np.eye(3)] * len(extra))


def person(
    rng: np.random.Generator, stance: str, skin_kelvin: float, air_kelvin: float
) -> tuple[Build, list[Part]]:
    """Draw a person at random.

    Args:
        rng: where chance comes from.
        stance: "standing", "walking" or "sitting".
        skin_kelvin: temperature of the face.
        air_kelvin: temperature of the air; clothes lie between the two.

    Returns:
        The build, whose `poses` goes with the parts; the parts at time 0.
    """
    walking = stance == "walking"
    build = Build(
        height=float(rng.uniform(1.5, 1.95)),
        girth=float(rng.uniform(0.9, 1.3)),
        stance=stance,
        lift=(float(rng.choice([0.05, 0.1, 0.6, 1.3])), float(rng.choice([0.05, 0.1, 0.6, 1.3]))),
        bend=(float(rng.uniform(0, 1.2)), float(rng.uniform(0, 1.2))),
        stride=float(rng.uniform(0.3, 0.55)) if walking else float(rng.uniform(0, 0.06)),
        pace=float(rng.uniform(0.6, 1.0)),
    )
    h, girth = build.height, build.girth
    skin = (*_SKIN[rng.integers(len(_SKIN))], 1.0)
    hair = (*_HAIR[rng.integers(len(_HAIR))], 1.0)
    shirt = (*rng.uniform(0.1, 1.0, 3).tolist(), 1.0)
    trousers = (*(rng.uniform(0.05, 0.55) * rng.uniform(0.6, 1.0, 3)).tolist(), 1.0)
    cloth = str(rng.choice(["matte", "cloth", "striped_cloth"]))
    long_sleeves = rng.random() < 0.5
    warm = air_kelvin + 0.55 * (skin_kelvin - air_kelvin) + float(rng.uniform(-1, 1))
    legs = air_kelvin + 0.45 * (skin_kelvin - air_kelvin) + float(rng.uniform(-1, 1))
    sleeve = (shirt, warm - 0.5, cloth) if long_sleeves else (skin, skin_kelvin - 1.0, "matte")
    half = [end[2] for end in (along(a, b) for a, b in build.limbs(0.0))]
    poses = build.poses(0.0)

    looks: list[tuple[Shape, tuple[float, float, float], tuple[float, ...], float, str]] = [
        (Shape.ELLIPSOID, (0.108 * h * girth, 0.066 * h * girth, half[0] * 1.35), shirt, warm, cloth),
        (Shape.CAPSULE, (0.03 * h, half[1], 0.0), skin, skin_kelvin, "matte"),
    ]
    for arm in (2, 4):
        looks.append((Shape.CAPSULE, (0.029 * h * girth, half[arm], 0.0), shirt, warm, cloth))
        looks.append((Shape.CAPSULE, (0.023 * h, half[arm + 1], 0.0), *sleeve))
    for leg in (6, 8):
        looks.append((Shape.CAPSULE, (0.043 * h * girth, half[leg], 0.0), trousers, legs, "matte"))
        looks.append((Shape.CAPSULE, (0.032 * h * girth, half[leg + 1], 0.0), trousers, legs - 1.0, "matte"))
    head = (0.044 * h, 0.052 * h, 0.068 * h)
    shoe = (0.1, 0.08, 0.07, 1.0)
    looks += [
        (Shape.ELLIPSOID, (0.098 * h * girth, 0.064 * h * girth, 0.07 * h), trousers, legs, "matte"),
        (Shape.ELLIPSOID, head, skin, skin_kelvin, "matte"),
        (Shape.ELLIPSOID, (0.048 * h, 0.052 * h, 0.06 * h), hair, skin_kelvin - 4.0, "matte"),
        *[(Shape.SPHERE, (0.025 * h, 0.0, 0.0), skin, skin_kelvin - 2.0, "matte")] * 2,
        *[(Shape.ELLIPSOID, (0.028 * h, 0.07 * h, 0.024 * h), shoe, air_kelvin + 2.0, "matte")] * 2,
        (Shape.CYLINDER, (0.16 * h, 0.001, 0.0), (0.0, 0.0, 0.0, 0.35), air_kelvin, "matte"),
    ]
    parts = []
    for (shape, size, rgba, kelvin, material), at, turn in zip(looks, *poses, strict=True):
        parts.append(Part(shape, size, _triple(at), _rgba(rgba), kelvin, turn, material))
    return build, parts


def _triple(values: Vec) -> tuple[float, float, float]:
    x, y, z = (float(v) for v in values)
    return x, y, z


def _rgba(values: tuple[float, ...]) -> tuple[float, float, float, float]:
    r, g, b, a = (float(v) for v in values)
    return r, g, b, a
