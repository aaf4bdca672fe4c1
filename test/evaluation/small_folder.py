"""A small data folder of four sensors that the tiny model of the engine's tests can be right about."""

from __future__ import annotations

import json
import wave
from pathlib import Path

import cv2
import numpy as np

SIZE = (64, 96)
NAMES = ("background", "cup", "box")
SCENES = ("quiet", "loud")
FRAMES, RATE = 6, 10.0
"""Of the bags that `conftest.py` makes of it, frames and frames a second."""


def write(root: Path, frames: int = 4) -> Path:
    """Write `<root>/test` and `<root>/classes.json`; frame i shows a box and a cup of its own places."""
    split = root / "test"
    for folder in ("rgb", "depth", "thermal", "audio", "label"):
        (split / folder).mkdir(parents=True)
    generator = np.random.default_rng(9)
    scenes = {}
    for index in range(frames):
        name = f"{index:02}"
        label = np.zeros(SIZE, np.uint8)
        left = 32 * (index % 3)
        label[:32, left : left + 32] = 2
        label[32:, 64 - left : 96 - left] = 1
        label[0, 0] = 255
        shown = np.where(label == 255, 0, label).astype(np.int64)
        # evidence k / 3 is class k: grey 85 k, 10 m k / 3, 400 K k / 3
        noise = generator.integers(0, 6, SIZE)
        cv2.imwrite(
            str(split / "rgb" / f"{name}.png"),
            np.repeat((85 * shown + noise).astype(np.uint8)[..., None], 3, axis=2),
        )
        depth = shown * 3333 + 1 + 40 * noise + 150 * index
        cv2.imwrite(str(split / "depth" / f"{name}.png"), depth.astype(np.uint16))
        kelvin = (shown * 133.3 + 1 + noise + 12 * index) * 64
        cv2.imwrite(str(split / "thermal" / f"{name}.png"), kelvin.astype(np.uint16))
        cv2.imwrite(str(split / "label" / f"{name}.png"), label)
        with wave.open(str(split / "audio" / f"{name}.wav"), "wb") as file:
            file.setparams((1, 2, 16000, 16000, "NONE", ""))
            loud = 9000 if index % 2 else 300
            file.writeframes(generator.integers(-loud, loud, 16000).astype("<i2").tobytes())
        scenes[name] = [SCENES[index % 2]]
    table = {"fine": [{"id": i, "name": n} for i, n in enumerate(NAMES)], "scene_names": SCENES}
    (root / "classes.json").write_text(json.dumps(table))
    (split / "scene.json").write_text(json.dumps(scenes))
    return root
