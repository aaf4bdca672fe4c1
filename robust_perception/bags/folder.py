"""Samples as a data folder, the other way of `datasets.py`: `<root>/<split>/{rgb,depth,thermal,audio,label}`.

Values are stored without loss where the folder can hold them: colour as it is, depth in whole millimetres,
temperatures in 1/64 kelvin, grey as 8 bit, sound in 16 bit. Everything is written beside the target and gets
its name at the end, so that there is a whole folder or none.

What the files cannot hold is counted: a distance beyond 16 bits becomes none, a temperature beyond is cut
off.
"""

from __future__ import annotations

import json
import shutil
import wave
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np

from robust_perception import units
from robust_perception.bags import resize
from robust_perception.bags.errors import BagError
from robust_perception.coco_boxes import Boxes
from robust_perception.datasets import Sample
from robust_perception.labels import known_boxes_of_label
from robust_perception.vocabulary import AUDIO_RATE, UNLABELLED, Array, Modality, SensorFrame

PNG = (cv2.IMWRITE_PNG_COMPRESSION, 2)
LAST_COUNT = np.iinfo(np.uint16).max
UNSHARED = ".all"
"""Folder of what belongs to no split yet; no split can be called so."""


class FolderWriter:
    """A data folder being written; a context manager. What was written is gone when it ends in an error.

    Args:
        root: the folder; it must not exist.
        class_names: of the labels, background first; empty = nobody knows, and there will be no classes.json.
        scene_names: of the scene classes.

    Attributes:
        count: samples so far.
        unheld: pixels that the files cannot hold as they were, by what became of them, in words.

    Raises:
        BagError: the folder exists or cannot be made.
    """

    def __init__(self, root: Path, class_names: Sequence[str] = (), scene_names: Sequence[str] = ()) -> None:
        if root.exists():
            msg = f"{root}: expected a new path, got one that exists; remove it or take another"
            raise BagError(msg)
        self._root, self._all = root, root.with_name(f".{root.name}.part")
        self._class_names, self._scene_names = tuple(class_names), tuple(scene_names)
        self._boxes: dict[str, tuple[Boxes, Boxes]] = {}
        self._scenes: dict[str, list[str]] = {}
        self._stamps: dict[str, int] = {}
        self._files: dict[str, list[Path]] = {}
        self.unheld: Counter[str] = Counter()
        try:
            shutil.rmtree(self._all, ignore_errors=True)
            (self._all / UNSHARED).mkdir(parents=True)
        except OSError as error:
            msg = f"{root}: expected a folder that can be made, got {error}"
            raise BagError(msg) from None

    @property
    def count(self) -> int:
        """Samples so far."""
        return len(self._files)

    def add(self, sample: Sample, stamp_ns: int) -> None:
        """Write a sample of this name.

        Raises:
            BagError: its pictures are not of one size, its name is there already, or the disk is full.
        """
        if sample.name in self._files:
            msg = f"{self._root}: expected every sample once, got {sample.name} twice"
            raise BagError(msg)
        self._check_sizes(sample)
        files = self._files[sample.name] = []
        for modality, frame in sample.frames.items():
            if modality is Modality.AUDIO:
                files.append(self._sound(sample.name, frame.data))
            else:
                files.append(self._picture(modality.value, sample.name, stored(frame, self.unheld)))
        if sample.label is not None:
            files.append(self._picture("label", sample.name, sample.label))
        # Boxes of the label map come of it again, and with them what is unknown: listed ones would be all.
        listed = sample.label is None or not sample.boxes_from_label
        if listed and sample.boxes is not None and sample.class_ids is not None and self._class_names:
            self._boxes[sample.name] = Boxes(sample.boxes, sample.class_ids), sample.crowds
        if sample.scene is not None:
            there = zip(self._scene_names, sample.scene.tolist(), strict=True)
            self._scenes[sample.name] = [name for name, present in there if present > 0.5]
        self._stamps[sample.name] = stamp_ns

    def finish(self, shares: Mapping[str, float]) -> dict[str, int]:
        """Share the samples out among splits, in blocks by time, and give the folder its name.

        Args:
            shares: split -> its part of all, relative to the others.

        Returns:
            Number of samples of each split.

        Raises:
            BagError: a split would be empty, or a file cannot be written.
        """
        names = sorted(self._files)
        total = sum(shares.values())
        sizes, given, done = {}, 0.0, 0
        for split, share in shares.items():
            given += share
            end = round(len(names) * given / total)
            sizes[split], block, done = end - done, names[done:end], end
            if not block:
                msg = (
                    f"{self._root}: expected a sample or more for {split!r}, got {len(names)} for all splits"
                )
                raise BagError(msg)
            self._split(split, block)
        if self._class_names:
            table: dict[str, Any] = {
                "fine": [{"id": i, "name": name} for i, name in enumerate(self._class_names)]
            }
            if self._scene_names:
                table["scene_names"] = self._scene_names
            self._json(self._all / "classes.json", table)
        shutil.rmtree(self._all / UNSHARED)
        self._all.rename(self._root)
        return sizes

    def __enter__(self) -> FolderWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self._all, ignore_errors=True)

    def _split(self, split: str, names: Sequence[str]) -> None:
        folder = self._all / split
        for name in names:
            for file in self._files[name]:
                target = folder / file.relative_to(self._all / UNSHARED)
                target.parent.mkdir(parents=True, exist_ok=True)
                file.rename(target)
        self._json(folder / "times.json", {name: self._stamps[name] for name in names})
        if scenes := {name: self._scenes[name] for name in names if name in self._scenes}:
            self._json(folder / "scene.json", scenes)
        if boxes := {name: self._boxes[name] for name in names if name in self._boxes}:
            self._json(folder / "boxes_coco.json", coco(boxes, self._class_names), indent=None)

    def _check_sizes(self, sample: Sample) -> None:
        sizes = {m.value: f.data.shape[:2] for m, f in sample.frames.items() if m is not Modality.AUDIO}
        if sample.label is not None:
            sizes["label"] = sample.label.shape
        if len(set(sizes.values())) > 1:
            told = ", ".join(f"{kind} {w}x{h}" for kind, (h, w) in sizes.items())
            msg = f"{sample.name}: expected pictures of one size, got {told}; give --size WIDTHxHEIGHT"
            raise BagError(msg)

    def _picture(self, kind: str, name: str, pixels: Any) -> Path:
        path = self._all / UNSHARED / kind / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        if not cv2.imwrite(str(path), pixels, PNG):
            msg = f"{path}: expected to write a picture, could not; is the disk full?"
            raise BagError(msg)
        return path

    def _sound(self, name: str, samples: Array) -> Path:
        path = self._all / UNSHARED / "audio" / f"{name}.wav"
        path.parent.mkdir(exist_ok=True)
        try:
            with wave.open(str(path), "wb") as file:
                file.setparams((1, 2, AUDIO_RATE, 0, "NONE", ""))
                file.writeframes(units.pcm16_from_audio(samples).astype("<i2").tobytes())
        except OSError as error:
            msg = f"{path}: expected to write sound, got {error}"
            raise BagError(msg) from None
        return path

    def _json(self, path: Path, content: Any, indent: int | None = 1) -> None:
        try:
            path.write_text(json.dumps(content, indent=indent, ensure_ascii=False) + "\n", encoding="utf-8")
        except OSError as error:
            msg = f"{path}: expected to write it, got {error}"
            raise BagError(msg) from None


def stored(frame: SensorFrame, unheld: Counter[str]) -> Array:
    """The pixels of a picture as its file holds them, colour in the order B G R.

    Args:
        frame: a picture.
        unheld: counts what the file cannot hold, see `FolderWriter`.
    """
    if frame.modality is Modality.RGB:
        bgr: Array = np.ascontiguousarray(frame.data[..., ::-1])
        return bgr
    if frame.modality is Modality.DEPTH:
        farthest = LAST_COUNT * units.DEPTH_SCALE
        metres = frame.data.astype(np.float64)
        beyond = metres > farthest + units.DEPTH_SCALE / 2
        unheld[f"depth beyond {farthest:g} m, stored as no measurement"] += int(beyond.sum())
        return units.counts_from_depth(np.where(beyond, np.nan, metres))
    if not frame.radiometric:
        return np.clip(np.rint(frame.data), 0, 255).astype(np.uint8)
    kelvin, hottest = frame.data.astype(np.float64), LAST_COUNT * units.THERMAL_SCALE
    cut_off = kelvin > hottest + units.THERMAL_SCALE / 2
    unheld[f"thermal beyond {hottest:g} K, cut off there"] += int(cut_off.sum())
    return units.counts_from_thermal(kelvin)


def resized(sample: Sample, size: resize.Size) -> Sample:
    """A sample with all pictures, the label map and the boxes of this width and height."""
    pictures = [frame.data for m, frame in sample.frames.items() if m is not Modality.AUDIO]
    known = [*([] if sample.label is None else [sample.label]), *pictures]
    boxes, class_ids, label, crowds = sample.boxes, sample.class_ids, sample.label, sample.crowds
    if boxes is not None and known:
        boxes = resize.boxes(boxes, resize.size_of(known[0]), size)
        crowds = crowds._replace(corners=resize.boxes(crowds.corners, resize.size_of(known[0]), size))
    if label is not None:
        label = resize.picture(label, size, None).astype(np.uint8, copy=False)
        if sample.boxes_from_label:
            boxes, class_ids = known_boxes_of_label(label)
    frames = {
        m: frame if m is Modality.AUDIO else replace(frame, data=resize.picture(frame.data, size, m))
        for m, frame in sample.frames.items()
    }
    return replace(sample, frames=frames, label=label, boxes=boxes, class_ids=class_ids, crowds=crowds)


def coco(boxes: Mapping[str, tuple[Boxes, Boxes]], class_names: Sequence[str]) -> dict[str, Any]:
    """Single things and crowds by sample, in COCO's form."""
    images = [{"id": i, "file_name": f"{name}.png"} for i, name in enumerate(boxes, start=1)]
    annotations: list[dict[str, Any]] = []
    rows = (
        (number, crowd, corners, class_id)
        for number, kinds in enumerate(boxes.values(), start=1)
        for crowd, found in enumerate(kinds)
        for corners, class_id in zip(found.corners.astype(np.float64), found.class_ids.tolist(), strict=True)
    )
    for number, crowd, corners, class_id in rows:
        x1, y1, x2, y2 = corners.tolist()
        annotations.append(
            {
                "id": len(annotations) + 1,
                "image_id": number,
                "category_id": class_id,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1),
                "iscrowd": crowd,
            }
        )
    categories = [{"id": i, "name": name} for i, name in enumerate(class_names) if i not in (0, UNLABELLED)]
    return {"images": images, "annotations": annotations, "categories": categories}
