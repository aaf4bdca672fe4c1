"""Composes random scenes: a seed in, a `Scene` out, the same in every process.

What is drawn at random: the room, its surfaces and temperatures, a table and a shelf or none, light from full
to nearly none, where the camera stands and how it looks, which objects there are, how large, of what colour,
how warm, where, how they move, and what is heard.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from robust_perception.simulation import room as rooms
from robust_perception.simulation import things
from robust_perception.simulation.classes import class_id
from robust_perception.simulation.figure import person
from robust_perception.simulation.room import Room, Surface
from robust_perception.simulation.scene import (
    STILL,
    CameraView,
    Emitter,
    Exposure,
    Item,
    Lamp,
    Motion,
    Part,
    Scene,
    Shape,
)
from robust_perception.simulation.textures import PHOTOGRAPHS

_TRIES = 30

NIGHT_SHARE = 0.22
"""Share of scenes too dark, or nearly too dark, for the colour camera."""


@dataclass
class _Draft:
    """A scene in the making."""

    rng: np.random.Generator
    air: float
    items: list[Item] = field(default_factory=list)
    emitters: list[Emitter] = field(default_factory=list)
    present: set[str] = field(default_factory=set)
    taken: list[rooms.Spot] = field(default_factory=list)
    photographs: list[tuple[Item, ...]] = field(default_factory=list)

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def sound(
        self, kind: str, low: float, high: float, at: tuple[float, float, float], item: int | None
    ) -> None:
        loudness = float(np.exp(self.rng.uniform(math.log(low), math.log(high))))
        self.emitters.append(Emitter(kind, int(self.rng.integers(2**31)), loudness, item, at))


def compose(seed: int) -> Scene:
    """Compose the scene of this seed."""
    rng = np.random.default_rng([seed, 1])
    draft = _Draft(rng, air=273.15 + float(rng.uniform(15, 27)))
    room = Room(float(rng.uniform(1.8, 3.5)), float(rng.uniform(3.0, 6.3)), float(rng.uniform(2.4, 3.0)))
    walls, draft.taken = rooms.shell(rng, room, draft.air)
    draft.items.append(walls)
    camera, surfaces = _furnish(draft, room)
    floor = Surface(camera.at[0], min(2.6, room.depth * 0.6), room.half_width * 0.7, 1.0, 0.0)
    _people(draft, room, camera)
    _clock(draft, room, surfaces or [floor])
    _kettle(draft, surfaces or [floor])
    _cups(draft, surfaces or [floor])
    _balls_and_crates(draft, floor, surfaces)
    _clutter(draft, floor, surfaces)
    _photographs(draft, room)
    lamps, ambient, exposure = _light(rng, room)
    return Scene(
        items=tuple(draft.items),
        camera=camera,
        lamps=lamps,
        ambient_light=ambient,
        exposure=exposure,
        ambient_kelvin=draft.air,
        emitters=tuple(draft.emitters),
        present=frozenset(draft.present),
        noise_seed=int(rng.integers(2**31)),
        quiet=float(np.exp(rng.uniform(math.log(0.0008), math.log(0.015)))),
        photographs=tuple(draft.photographs),
    )


def _furnish(draft: _Draft, room: Room) -> tuple[CameraView, list[Surface]]:
    rng = draft.rng
    surfaces = []
    x = float(rng.uniform(-0.4, 0.4))
    kind = rng.random()
    if kind < 0.8:
        near = kind < 0.5
        distance = float(rng.uniform(0.85, 1.15)) if near else float(rng.uniform(1.5, 2.1))
        half_x, half_y = float(rng.uniform(0.45, 0.85)), float(rng.uniform(0.28, 0.42))
        top = Surface(x + float(rng.normal(0, 0.1)), distance, half_x, half_y, float(rng.uniform(0.45, 0.8)))
        surfaces.append(top)
        draft.items.append(rooms.table(rng, top, draft.air))
        height = top.z + (float(rng.uniform(0.22, 0.55)) if near else float(rng.uniform(0.2, 0.7)))
        pitch = math.atan2(height - top.z, distance) * float(rng.uniform(0.35, 0.85))
    else:
        height = float(rng.uniform(0.7, 1.5))
        pitch = float(rng.uniform(0.1, 0.35))
    if draft.chance(0.35):
        middle, half_x, level = rng.uniform((-0.8, 0.35, 0.95), (0.8, 0.7, 1.5)).tolist()
        board = Surface(x + middle, room.depth - 0.14, half_x, 0.14, level)
        surfaces.append(board)
        draft.items.append(rooms.shelf(rng, board, draft.air))
    sway = Motion(
        tuple(rng.uniform(0.0, (0.12, 0.05, 0.04)).tolist()),
        float(rng.uniform(-0.09, 0.09)),
        float(rng.uniform(6, 14)),
        float(rng.uniform(0, 2 * math.pi)),
    )
    camera = CameraView(
        at=(x, float(rng.uniform(-0.1, 0.1)), height),
        yaw=float(rng.normal(0, 0.1)),
        pitch=pitch,
        roll=float(rng.normal(0, 0.02)),
        fov_y=math.radians(float(rng.uniform(46, 58))),
        sway=sway,
    )
    return camera, surfaces


def _people(draft: _Draft, room: Room, camera: CameraView) -> None:
    rng = draft.rng
    count = int(rng.choice([0, 1, 2], p=[0.35, 0.5, 0.15]))
    speakers = []
    for _ in range(count):
        y = float(rng.uniform(1.9, max(2.2, room.depth - 0.6)))
        x = camera.at[0] + float(rng.uniform(-0.5, 0.5)) * y
        if not _free(draft, x, y, 0.0, 0.35) or abs(x) > room.half_width - 0.3:
            continue
        stance = str(rng.choice(["standing", "walking", "sitting"], p=[0.45, 0.35, 0.2]))
        skin = 273.15 + float(rng.uniform(31.5, 35.5))
        build, parts = person(rng, stance, skin, draft.air)
        motion, yaw = _swing(rng, 0.12, 0.15), float(rng.normal(0, 0.6))
        if stance == "walking":
            motion = Motion(
                (float(rng.uniform(0.3, 0.9)), 0.1, 0.0), 0.0, float(rng.uniform(4, 8)), rng.uniform(0, 6)
            )
            yaw = float(rng.choice([-1, 1])) * float(rng.uniform(0.9, 1.6))
        elif stance == "sitting":
            motion = Motion(yaw_amplitude=0.1, period=5.0)
            paint = (*rng.uniform(0.1, 0.9, 3).tolist(), 1.0)
            half = build.seat / 2 - 0.03
            seat = Part(Shape.BOX, (0.22, 0.22, half), (0, 0.03, half - 0.01), paint, draft.air + 1.0)
            draft.items.append(Item(0, (seat,), (x, y, 0.0), yaw))
        draft.items.append(Item(class_id("person"), tuple(parts), (x, y, 0.0), yaw, motion, build.poses))
        draft.taken.append((x, y, 0.0, 0.35))
        speakers.append((len(draft.items) - 1, build.seat + 0.38 * build.height))
    if speakers and draft.chance(0.6):
        item, mouth = speakers[int(rng.integers(len(speakers)))]
        draft.sound("voice", 0.12, 0.4, (0.0, -0.1, mouth), item)
        draft.present.add("voice")
    elif draft.chance(0.1):
        draft.sound("voice", 0.12, 0.4, (float(rng.uniform(-2, 2)), -1.0, 1.5), None)
        draft.present.add("voice")


def _clock(draft: _Draft, room: Room, surfaces: list[Surface]) -> None:
    rng = draft.rng
    if not draft.chance(0.62):
        return
    ticking = draft.chance(0.5)
    name = "clock_ticking" if ticking else "clock_silent"
    if draft.chance(0.35):
        radius = float(rng.uniform(0.13, 0.24))
        x, z = float(rng.uniform(-1.1, 1.1)), float(rng.uniform(1.3, 2.0))
        if not _free(draft, x, room.depth, z, radius):
            return
        parts = things.clock(rng, radius, False, draft.air)
        draft.items.append(Item(class_id(name), tuple(parts), (x, room.depth, z)))
        draft.taken.append((x, room.depth, z, radius * 1.3))
    else:
        radius = float(rng.uniform(0.06, 0.1))
        make = partial(things.clock, rng, radius, True, draft.air)
        placed = _put(draft, name, surfaces, radius, make, 0.5)
        if not placed:
            return
    if ticking:
        draft.sound("tick", 0.25, 0.8, (0.0, 0.0, 0.05), len(draft.items) - 1)
        draft.present.add("ticking")


def _kettle(draft: _Draft, surfaces: list[Surface]) -> None:
    rng = draft.rng
    if not draft.chance(0.38):
        return
    boiling, radius = draft.chance(0.5), float(rng.uniform(0.07, 0.1))
    placed = _put(
        draft, "kettle", surfaces, radius * 1.6, partial(things.kettle, rng, radius, boiling, draft.air)
    )
    if placed and boiling:
        draft.sound("boil", 0.05, 0.2, (0.0, 0.0, 0.2), len(draft.items) - 1)
        draft.present.add("boiling")


def _cups(draft: _Draft, surfaces: list[Surface]) -> None:
    rng = draft.rng
    for _ in range(int(rng.choice([0, 1, 2, 3], p=[0.2, 0.35, 0.3, 0.15]))):
        hot, height = draft.chance(0.5), float(rng.uniform(0.085, 0.15))
        name = "cup_hot" if hot else "cup_cold"
        _put(draft, name, surfaces, height * 0.8, partial(things.cup, rng, height, hot, draft.air))


def _balls_and_crates(draft: _Draft, floor: Surface, surfaces: list[Surface]) -> None:
    rng = draft.rng
    for _ in range(int(rng.choice([0, 1, 2, 3], p=[0.2, 0.35, 0.3, 0.15]))):
        name, hues = ("ball_red", things.RED_HUES) if draft.chance(0.5) else ("ball_blue", things.BLUE_HUES)
        low = not surfaces or draft.chance(0.5)
        radius = float(rng.uniform(0.1, 0.24)) if low else float(rng.uniform(0.04, 0.085))
        make = partial(things.ball, rng, hues, radius, draft.air)
        _put(draft, name, [floor] if low else surfaces, radius * 1.1, make, math.pi, 0.25 if low else 0.04)
    for _ in range(int(rng.choice([0, 1, 2], p=[0.45, 0.4, 0.15]))):
        low = not surfaces or draft.chance(0.65)
        half = float(rng.uniform(0.14, 0.28)) if low else float(rng.uniform(0.06, 0.11))
        make = partial(things.crate, rng, half, draft.air)
        _put(draft, "crate", [floor] if low else surfaces, half * 1.4, make)


def _clutter(draft: _Draft, floor: Surface, surfaces: list[Surface]) -> None:
    rng = draft.rng
    for _ in range(int(rng.integers(0, 5))):
        low = not surfaces or draft.chance(0.35)
        size = float(rng.uniform(0.2, 0.5)) if low else float(rng.uniform(0.08, 0.16))
        make = partial(rooms.clutter, rng, size, draft.air)
        _put(draft, "background", [floor] if low else surfaces, size * 0.7, make)


def _photographs(draft: _Draft, room: Room) -> None:
    rng = draft.rng
    for _ in range(PHOTOGRAPHS):
        if not draft.chance(0.25):
            continue
        half = float(rng.uniform(0.3, 0.85))
        x, z = float(rng.uniform(-1.6, 1.6)), max(half + 0.1, float(rng.uniform(1.0, 1.7)))
        if not _free(draft, x, room.depth, z, half):
            continue
        index = len(draft.photographs)
        draft.items.append(rooms.photograph(rng, index, (x, room.depth, z), half, draft.air))
        draft.taken.append((x, room.depth, z, half))
        _, parts = person(rng, str(rng.choice(["standing", "walking"])), 300.0, 295.0)
        backdrop = Part(
            Shape.BOX, (3.0, 0.1, 3.0), (0.0, 1.0, 1.0), (*rng.uniform(0.3, 1, 3).tolist(), 1.0), 290.0
        )
        shown = Item(0, tuple(parts), (0.0, 0.0, 0.0), float(rng.normal(0, 0.5)))
        draft.photographs.append((Item(0, (backdrop,), (0.0, 0.0, 0.0)), shown))


def _light(
    rng: np.random.Generator, room: Room
) -> tuple[tuple[Lamp, ...], tuple[float, float, float], Exposure]:
    lamps = []
    for _ in range(int(rng.integers(1, 4))):
        at = (
            float(rng.uniform(-1, 1)) * room.half_width,
            float(rng.uniform(-1, room.depth)),
            room.height - 0.1,
        )
        target = np.array([rng.uniform(-1, 1), rng.uniform(1, 3), rng.uniform(0, 1.2)])
        tint = rng.uniform(0.8, 1.0, 3) * rng.uniform(0.25, 0.6)
        lamps.append(Lamp(at, tuple((target - np.array(at)).tolist()), tuple(tint.tolist())))
    ambient = tuple((rng.uniform(0.25, 0.5) * rng.uniform(0.9, 1.0, 3)).tolist())
    night = rng.random() < NIGHT_SHARE
    low, high = (0.008, 0.2) if night else (0.5, 1.25)
    gain = float(np.exp(rng.uniform(math.log(low), math.log(high))))
    balance = rng.uniform(0.88, 1.12, 3)
    exposure = Exposure(
        gain=gain,
        balance=(float(balance[0]), float(balance[1]), float(balance[2])),
        gamma=float(rng.uniform(0.8, 1.25)),
        noise=float(rng.uniform(3.0, 8.0)) if night else float(rng.uniform(1.0, 4.5)),
        blur=float(rng.choice([0.0, 0.5, 0.8])),
    )
    return tuple(lamps), ambient, exposure


def _put(
    draft: _Draft,
    name: str,
    surfaces: list[Surface],
    radius: float,
    make: Callable[[], list[Part]],
    turn: float = math.pi,
    amplitude: float = 0.0,
) -> bool:
    """Stand a thing of this radius where there is room; False when there is none."""
    rng = draft.rng
    for _ in range(_TRIES):
        top = surfaces[int(rng.integers(len(surfaces)))]
        room_x, room_y = top.half_x - radius, top.half_y - radius
        if room_x <= 0 or room_y <= -0.05:
            continue
        x = top.x + float(rng.uniform(-room_x, room_x))
        y = top.y + float(rng.uniform(-1, 1)) * max(room_y, 0.0)
        if _free(draft, x, y, top.z, radius):
            break
    else:
        return False
    motion = _swing(rng, amplitude, 0.5) if amplitude and draft.chance(0.5) else STILL
    yaw = float(rng.uniform(-turn, turn))
    draft.items.append(Item(class_id(name), tuple(make()), (x, y, top.z), yaw, motion))
    draft.taken.append((x, y, top.z, radius))
    return True


def _free(draft: _Draft, x: float, y: float, z: float, radius: float) -> bool:
    return all(math.dist((x, y, z), other[:3]) > 0.9 * (radius + other[3]) for other in draft.taken)


def _swing(rng: np.random.Generator, amplitude: float, yaw: float) -> Motion:
    reach = rng.uniform(-amplitude, amplitude, 2)
    return Motion(
        (float(reach[0]), float(reach[1]), 0.0),
        float(rng.uniform(0, yaw)),
        float(rng.uniform(3, 8)),
        float(rng.uniform(0, 2 * math.pi)),
    )
