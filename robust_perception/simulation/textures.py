"""Surfaces: procedural textures, drawn once, and the materials made of them.

Textures are grey-to-white patterns; a part's own colour tints them, so a few patterns give many surfaces.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]

SIDE = 128
PHOTOGRAPHS = 2
"""How many photographs may hang in one scene."""
PHOTOGRAPH_SIZE = (128, 96)
"""Rows and columns of a photograph."""


@dataclass(frozen=True)
class Material:
    """A surface: its texture (None = plain), whether it wraps a solid or lies flat, repeats a metre."""

    texture: str | None = None
    wraps: bool = False
    repeat: float = 1.0
    uniform: bool = True
    specular: float = 0.1
    shininess: float = 0.2
    emission: float = 0.0


MATERIALS: dict[str, Material] = {
    "matte": Material(),
    "glossy": Material(specular=0.7, shininess=0.8),
    "lit": Material(emission=0.9),
    **{
        f"{name}{int(repeat * 10)}": Material(name, repeat=repeat, specular=0.05)
        for name in ("planks", "tiles", "bricks", "mottled", "stripes", "checks", "dots", "marble")
        for repeat in (0.5, 1.5)
    },
    "slats": Material("slats", wraps=True, uniform=False),
    "cloth": Material("mottled", wraps=True, uniform=False),
    "striped_cloth": Material("stripes", wraps=True, uniform=False),
    **{
        f"photograph{i}": Material(f"photograph{i}", uniform=False, specular=0.02) for i in range(PHOTOGRAPHS)
    },
}
"""Material name -> material; what `Part.material` may say."""

FLAT_PATTERNS: tuple[str, ...] = tuple(
    name for name, m in MATERIALS.items() if m.texture and not m.wraps and "photograph" not in name
)
"""Materials for floors, walls and table tops."""


def draw(name: str) -> Picture:
    """Draw a texture: uint8 (SIDE, SIDE, 3), the same in every process."""
    if name.startswith("photograph"):
        return np.full((*PHOTOGRAPH_SIZE, 3), 200, np.uint8)
    rng = np.random.default_rng(sum(name.encode()))
    rows, columns = np.mgrid[0:SIDE, 0:SIDE]
    grain = cv2.GaussianBlur(rng.standard_normal((SIDE, SIDE)).astype(np.float32), (0, 0), 2.0)
    grain = grain / grain.std()
    if name == "planks":
        board = columns // 16
        stretched = cv2.resize(rng.standard_normal((6, SIDE)).astype(np.float32), (SIDE, SIDE))
        value = 205 + 12 * np.sin(board * 2.4) + 14 * stretched - 90 * (columns % 16 == 0)
    elif name == "tiles":
        seam = (rows % 32 < 2) | (columns % 32 < 2)
        value = 225 + 10 * np.sin(rows // 32 * 5.1 + columns // 32 * 3.7) - 80 * seam
    elif name == "bricks":
        shifted = columns + (rows // 16 % 2) * 16
        seam = (rows % 16 < 2) | (shifted % 32 < 2)
        value = 190 + 22 * np.sin(rows // 16 * 4.3 + shifted // 32 * 2.9) + 50 * seam
    elif name == "stripes":
        value = np.where(rows // 8 % 2 == 0, 245.0, 150.0)
    elif name == "checks":
        value = np.where((rows // 32 + columns // 32) % 2 == 0, 245.0, 175.0)
    elif name == "dots":
        value = np.where(np.hypot(rows % 32 - 16, columns % 32 - 16) < 7, 150.0, 240.0)
    elif name == "marble":
        broad = cv2.GaussianBlur(rng.standard_normal((SIDE, SIDE)).astype(np.float32), (0, 0), 10.0)
        value = 215 + 35 * np.sin(8 * broad / broad.std() + columns / 20)
    elif name == "slats":
        frame = (np.minimum(rows, SIDE - 1 - rows) < 14) | (np.minimum(columns, SIDE - 1 - columns) < 14)
        cross = np.abs(rows - columns) < 10
        value = np.where(frame | cross, 235.0, 165.0) - 75.0 * ((rows % 25 < 3) & ~frame & ~cross)
    else:
        value = 215 + 16 * grain
    grey = np.clip(value + 5 * grain, 0, 255).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)
