"""A data folder small enough to train on in a test: coloured squares, near and warm or cold, and a tone."""

from __future__ import annotations

import json
import shutil
import wave
from pathlib import Path

import cv2
import numpy as np

from robust_perception.training.config import TrainingConfig
from robust_perception.training.sections import read_section

SIZE = (64, 96)

EVERYTHING: dict[str, dict[str, object]] = {
    "network": {
        "width": 16, "audio_width": 16, "imagenet": False, "bottleneck": 8, "translation": "mean",
        "shared": True, "probabilistic": True, "auxiliary": True,
    },
    "methods": {
        "unimodal": 1.0, "gamma": 1.0, "swap": 0.5, "contrast": 0.1, "reconstruction": 1.0, "alpha": 1e-3,
        "hard": 0.5, "window": 1,
    },
}  # fmt: skip
"""Sections of a run with all four papers."""


def write(root: Path, train: int = 4, val: int = 2) -> Path:
    """Splits `train` and `val` with all four sensors, two classes and two scene classes."""
    generator = np.random.default_rng(5)
    names = [{"id": i, "name": name} for i, name in enumerate(("background", "warm", "cold"))]
    root.mkdir(parents=True, exist_ok=True)
    (root / "classes.json").write_text(json.dumps({"fine": names, "scene_names": ["tone", "noise"]}))
    for split, count in (("train", train), ("val", val)):
        folder = root / split
        for kind in ("rgb", "depth", "thermal", "label", "audio"):
            (folder / kind).mkdir(parents=True)
        scene = {}
        for index in range(count):
            name = f"{index:03}"
            label = np.zeros(SIZE, np.uint8)
            for identity in (1, 2):
                top, left = (
                    int(generator.integers(0, 30)),
                    int(generator.integers(48 * identity - 48, 48 * identity - 24)),
                )
                label[top : top + 24, left : left + 20] = identity
            colour = np.array([[90, 90, 90], [40, 40, 220], [220, 60, 40]], np.float64)[label]
            noise = generator.normal(0, 6, (*SIZE, 3))
            cv2.imwrite(str(folder / "rgb" / f"{name}.png"), np.clip(colour + noise, 0, 255).astype(np.uint8))
            depth = np.array([3000, 1200, 1500], np.uint16)[label]
            cv2.imwrite(str(folder / "depth" / f"{name}.png"), depth)
            kelvin = np.array([293.0, 320.0, 280.0])[label] + generator.normal(0, 0.1, SIZE)
            cv2.imwrite(str(folder / "thermal" / f"{name}.png"), (kelvin * 64).astype(np.uint16))
            cv2.imwrite(str(folder / "label" / f"{name}.png"), label)
            tone = index % 2 == 0
            scene[name] = ["tone"] if tone else ["noise"]
            time = np.arange(16000) / 16000
            sound = 0.3 * np.sin(2 * np.pi * 440 * time) if tone else generator.normal(0, 0.1, 16000)
            with wave.open(str(folder / "audio" / f"{name}.wav"), "wb") as file:
                file.setparams((1, 2, 16000, 16000, "NONE", ""))
                file.writeframes((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())
        (folder / "scene.json").write_text(json.dumps(scene))
    return root


def write_other(root: Path, train: int = 4, val: int = 2) -> Path:
    """Colour and depth alone; labels the cold things only, under index 1 and another background's name."""
    write(root, train, val)
    names = [{"id": i, "name": name} for i, name in enumerate(("floor", "cold", "tall"))]
    (root / "classes.json").write_text(json.dumps({"fine": names, "scene_names": ["silence", "noise"]}))
    for split in ("train", "val"):
        shutil.rmtree(root / split / "thermal")
        shutil.rmtree(root / split / "audio")
        scene = json.loads((root / split / "scene.json").read_text())
        quiet = {name: ["silence"] if present == ["tone"] else present for name, present in scene.items()}
        (root / split / "scene.json").write_text(json.dumps(quiet))
        for path in (root / split / "label").iterdir():
            label = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            cv2.imwrite(str(path), (label == 2).astype(np.uint8))
    return root


def config(**changes: object) -> TrainingConfig:
    """A run of two epochs with two steps each on `write`'s data; sections given replace their values."""
    sections: dict[str, dict[str, object]] = {
        "data": {"size": list(SIZE)},
        "network": {"width": 16, "audio_width": 16, "imagenet": False},
        "augmentation": {"crop": [32, 64], "blank": 0.2},
        "optimiser": {"epochs": 2, "batch": 2},
        "validation": {"every": 1},
    }
    stages = {"stages": changes.pop("stages")} if "stages" in changes else {}
    for name, values in changes.items():
        sections[name] = {**sections.get(name, {}), **values}  # type: ignore[dict-item]
    return read_section(TrainingConfig, {"name": "small", "license": "Apache-2.0", **sections, **stages}, "")
