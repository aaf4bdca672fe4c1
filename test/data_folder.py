"""A small data folder, for the tests of what reads it."""

from __future__ import annotations

import json
import wave
from pathlib import Path

import cv2
import numpy as np

from robust_perception.vocabulary import UNLABELLED

SIZE = (24, 32)


def write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def write_wav(path: Path, samples: np.ndarray, rate: int = 16000, channels: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())


def write_folder(root: Path) -> Path:
    """Two frames; the second has neither depth nor sound."""
    split = root / "test"
    rgb = np.zeros((*SIZE, 3), np.uint8)
    rgb[..., 2] = 200  # red in OpenCV's order
    label = np.zeros(SIZE, np.uint8)
    label[2:10, 3:12] = 2
    label[15:20, 20:30] = 1
    label[0, 0] = UNLABELLED
    for name in ("a", "b"):
        write(split / "rgb" / f"{name}.png", rgb)
        write(split / "thermal" / f"{name}.png", np.full(SIZE, 300 * 64, np.uint16))
        write(split / "label" / f"{name}.png", label)
    depth = np.full(SIZE, 1500, np.uint16)
    depth[0, 0] = 0
    write(split / "depth" / "a.png", depth)
    write_wav(split / "audio" / "a.wav", np.full(8000, 16384))
    (root / "classes.json").write_text(
        json.dumps(
            {
                "fine": [{"id": i, "name": n} for i, n in enumerate(["background", "cup", "bad cup"])],
                "coarse_names": ["background", "any cup"],
                "fine_to_coarse": [0, 1, 1],
                "scene_names": ["quiet", "loud"],
            }
        )
    )
    (split / "scene.json").write_text(json.dumps({"a": ["loud"]}))
    return root
