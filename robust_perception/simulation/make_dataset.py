"""Makes a data set with the simulator: every frame a scene of its own, in the layout `datasets.py` reads.

    python -m robust_perception.simulation.make_dataset --out DIR --seed 1 --train 2400 --val 300 --test 300

Frame i of a split is the scene of seed `seed * 1_000_000 + offset(split) + i` at a random time, so splits
never share a scene and a longer data set begins with the shorter one.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import wave
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from robust_perception.simulation.classes import CLASS_NAMES, SCENE_NAMES
from robust_perception.simulation.errors import PackageError, SimulationError
from robust_perception.units import DEPTH_SCALE, THERMAL_SCALE
from robust_perception.vocabulary import AUDIO_RATE, Modality

if TYPE_CHECKING:
    from robust_perception.simulation.capture import Capture
    from robust_perception.simulation.rig import Rig

SPLIT_OFFSETS = {"train": 0, "val": 700_000, "test": 800_000}
"""Seeds of a split begin here."""

MOST_FRAMES = 100_000
"""In one split, so that no split has scenes of another."""

SCENE_SECONDS = 20.0
"""A frame shows its scene at a time up to this."""

_ENCODING = {".jpg": (cv2.IMWRITE_JPEG_QUALITY, 95), ".png": (cv2.IMWRITE_PNG_COMPRESSION, 2)}
_AHEAD = 32


class SplitWriter:
    """Writes captures as the files of one split; `finish` writes the lists.

    Args:
        folder: `<root>/<split>`; made where it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for kind in ("rgb", "depth", "thermal", "audio", "label"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []
        self._scenes: dict[str, list[str]] = {}

    def list_frame(self, name: str, capture: Capture) -> None:
        """Note a capture's boxes and scene classes."""
        height, width = capture.label.shape
        number = len(self._images) + 1
        self._images.append({"id": number, "file_name": f"{name}.jpg", "width": width, "height": height})
        for box, class_id in zip(capture.boxes.tolist(), capture.class_ids.tolist(), strict=True):
            wide, tall = box[2] - box[0], box[3] - box[1]
            self._annotations.append(
                {
                    "id": len(self._annotations) + 1,
                    "image_id": number,
                    "category_id": class_id,
                    "bbox": [box[0], box[1], wide, tall],
                    "area": wide * tall,
                    "iscrowd": 0,
                }
            )
        self._scenes[name] = [s for s, there in zip(SCENE_NAMES, capture.scene, strict=True) if there]

    def write_frame(self, name: str, capture: Capture) -> None:
        """Write a capture's files; safe in any thread."""
        frames: dict[Modality, npt.NDArray[Any]] = {m: frame.data for m, frame in capture.frames.items()}
        rgb = cv2.cvtColor(frames[Modality.RGB], cv2.COLOR_RGB2BGR)
        depth = np.nan_to_num(frames[Modality.DEPTH], nan=0.0) / DEPTH_SCALE
        thermal = frames[Modality.THERMAL] / THERMAL_SCALE
        self._write(f"rgb/{name}.jpg", rgb)
        self._write(f"depth/{name}.png", np.rint(depth).astype(np.uint16))
        self._write(f"thermal/{name}.png", np.clip(np.rint(thermal), 0, 65535).astype(np.uint16))
        self._write(f"label/{name}.png", capture.label)
        samples = np.clip(np.rint(frames[Modality.AUDIO] * 32768.0), -32768, 32767).astype("<i2")
        with wave.open(str(self._folder / "audio" / f"{name}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(AUDIO_RATE)
            file.writeframes(samples.tobytes())

    def finish(self) -> None:
        """Write `boxes_coco.json` and `scene.json`."""
        categories = [{"id": i, "name": name} for i, name in enumerate(CLASS_NAMES) if i]
        boxes = {"images": self._images, "annotations": self._annotations, "categories": categories}
        (self._folder / "boxes_coco.json").write_text(json.dumps(boxes), encoding="utf-8")
        (self._folder / "scene.json").write_text(json.dumps(self._scenes, indent=1), encoding="utf-8")

    def _write(self, name: str, image: npt.NDArray[Any]) -> None:
        path = self._folder / name
        if not cv2.imwrite(str(path), image, _ENCODING[path.suffix]):
            msg = f"{path}: expected to write a picture, could not; is the disk full?"
            raise SimulationError(msg)


def make_split(rig: Rig, folder: Path, first_seed: int, count: int) -> None:
    """Write a split of `count` frames, the scenes of seeds `first_seed` onwards; tells its progress."""
    writer = SplitWriter(folder)
    began = told = time.monotonic()
    pending: deque[Future[None]] = deque()
    with ThreadPoolExecutor(1) as pool:
        for i in range(count):
            seed, name = first_seed + i, f"{i:06d}"
            rig.reset(seed)
            rig.step(float(np.random.default_rng([seed, 2]).uniform(0, SCENE_SECONDS)))
            capture = rig.capture()
            writer.list_frame(name, capture)
            pending.append(pool.submit(writer.write_frame, name, capture))
            while len(pending) > (_AHEAD if i + 1 < count else 0):
                pending.popleft().result()
            now = time.monotonic()
            if now - told > 2 or i + 1 == count:
                told = now
                left = (now - began) / (i + 1) * (count - i - 1)
                rate = (i + 1) / (now - began)
                print(
                    f"{folder.name}: {i + 1}/{count} frames, {rate:.0f} a second, {left:.0f} s left",
                    flush=True,
                )
    writer.finish()


def make_dataset(out: Path, seed: int, counts: dict[str, int]) -> None:
    """Write a data set.

    Args:
        out: root folder.
        seed: of the whole, >= 0.
        counts: split name ("train", "val", "test") -> number of frames.

    Raises:
        SimulationError: a count or the seed is out of range, a folder holds frames or another data set, or
            cannot be written, packages are missing or the machine cannot draw.
    """
    if seed < 0 or any(not 0 <= n <= MOST_FRAMES for n in counts.values()):
        msg = (
            f"a data set has a seed >= 0 and 0 to {MOST_FRAMES} frames a split, got seed {seed} and {counts}"
        )
        raise SimulationError(msg)
    # Imported here: where the simulator's packages are missing, that is to be said in one line.
    try:
        from robust_perception.simulation.rig import Rig
    except ModuleNotFoundError as error:
        raise PackageError.of(error) from None

    wanted = {split: count for split, count in counts.items() if count}
    table = {"fine": [{"id": i, "name": n} for i, n in enumerate(CLASS_NAMES)], "scene_names": SCENE_NAMES}
    try:
        _begin(out, wanted, json.dumps(table, indent=1))
        with Rig(seed) as rig:
            for split, count in wanted.items():
                make_split(rig, out / split, seed * 1_000_000 + SPLIT_OFFSETS[split], count)
    except OSError as error:
        msg = f"{out}: expected a folder that can be written, got {error}"
        raise SimulationError(msg) from None


def _begin(out: Path, splits: Iterable[str], classes: str) -> None:
    """Write `classes.json`, unless something in the folder would be written over."""
    for split in splits:
        folder = out / split
        if any(folder.glob("*/*")):
            msg = f"{folder}: expected an empty or missing folder, got one with files; give another --out"
            raise SimulationError(msg)
    listed = out / "classes.json"
    if listed.exists() and listed.read_text(encoding="utf-8", errors="replace") != classes:
        msg = f"{listed}: expected none or that of the simulator, got another data set's; give another --out"
        raise SimulationError(msg)
    out.mkdir(parents=True, exist_ok=True)
    listed.write_text(classes, encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Make a data set with the simulator.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument(
        "--seed", type=int, default=1, help="seed of the whole data set (default: %(default)s)"
    )
    for split, count in (("train", 2400), ("val", 300), ("test", 300)):
        parser.add_argument(
            f"--{split}", type=int, default=count, help=f"frames of the split {split} (default: {count})"
        )
    given = parser.parse_args(argv)
    try:
        make_dataset(given.out, given.seed, {s: getattr(given, s) for s in SPLIT_OFFSETS})
    except SimulationError as error:
        print(f"make_dataset: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
