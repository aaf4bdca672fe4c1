"""Folders of recorded frames: `<root>/<split>/{rgb,depth,thermal,audio,label}/<NAME>.<ext>`.

| folder  | files                              | becomes                                                    |
|---------|------------------------------------|------------------------------------------------------------|
| rgb     | jpg or png, 8-bit colour           | uint8 (H, W, 3), order R G B                               |
| depth   | png, 16-bit, millimetres, 0 = none | float32 (H, W), metres, NaN = invalid                      |
| thermal | png, 16-bit, kelvin * 64, 0 = none | float32 (H, W), kelvin, NaN = invalid                      |
|         | png, 8-bit                         | float32 (H, W), grey value, `radiometric` False            |
| audio   | wav, 16 kHz mono 16-bit            | float32 (n,), in [-1, 1); ends at the images' stamp        |
| label   | png, 8-bit grey or a palette's     | uint8 (H, W), class index                                  |
|         | indices, 255 = unlabelled          |                                                            |

Any of these folders may be missing, and so may single files. Beside them may lie

* `<root>/classes.json`: class names, see `labels.py`;
* `<split>/boxes_coco.json`: boxes in COCO's form, category ids = fine label ids. Frames that it does not list
  have the boxes of their label map's connected components;
* `<split>/scene.json`: `{NAME: [names of the scene classes present]}`.

Nothing is decoded before it is asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
import numpy.typing as npt

from robust_perception import units
from robust_perception.coco_boxes import NO_BOXES, Boxes, CocoBoxes
from robust_perception.labels import (
    ClassTable,
    DatasetError,
    known_boxes_of_label,
    read_json,
    shorten,
)
from robust_perception.sample_files import read_label, read_rgb, read_stored, read_wav
from robust_perception.vocabulary import (
    AUDIO_RATE,
    IMAGE_MODALITIES,
    MODALITIES,
    UNLABELLED,
    Modality,
    SensorFrame,
)

__all__ = ["FIRST_STAMP_NS", "FRAME_PERIOD_NS", "DatasetError", "FolderDataset", "Sample"]

FRAME_PERIOD_NS = 1_000_000_000
"""Folders have no clock: frame i of a split carries the stamp FIRST_STAMP_NS + i * FRAME_PERIOD_NS."""

FIRST_STAMP_NS = 60 * FRAME_PERIOD_NS
"""Late enough that sound, which begins before its image, never has the stamp zero, which is no stamp."""

BESIDE = "._"
"""Begins the name of what macOS puts beside a file on foreign disks: no picture, whatever the name's end."""

_EXTENSIONS = {
    "rgb": (".jpg", ".jpeg", ".png"),
    "depth": (".png",),
    "thermal": (".png",),
    "audio": (".wav",),
    "label": (".png",),
}


@dataclass(frozen=True)
class Sample:
    """One instant of a data folder.

    Attributes:
        name: stem of its files.
        frames: what the sensors measured, in canonical units; images are of one size.
        label: uint8 (H, W), class index, 255 = unlabelled; None without a label file.
        boxes: float32 (n, 4), [x1, y1, x2, y2] in pixels, x2 and y2 exclusive; None when nobody knows, as
            where every pixel is unlabelled.
        class_ids: int64 (n,), class index of each box, 1..K.
        scene: float32 (k,), 1 where the scene class is present; None when nobody knows.
        boxes_from_label: whether the boxes are those of the label map; nobody knows then what objects there
            are where it is unlabelled.
        crowds: listed boxes that hold things of their class, and nobody said where each of them is.
    """

    name: str
    frames: Mapping[Modality, SensorFrame]
    label: npt.NDArray[np.uint8] | None
    boxes: npt.NDArray[np.float32] | None
    class_ids: npt.NDArray[np.int64] | None
    scene: npt.NDArray[np.float32] | None
    boxes_from_label: bool = False
    crowds: Boxes = NO_BOXES

    @property
    def size(self) -> tuple[int, int] | None:
        """(H, W) of the picture whose pixels label and boxes are in; None when nobody knows."""
        images = [frame.data for modality, frame in self.frames.items() if modality.is_image]
        shown = self.label if self.label is not None else next(iter(images), None)
        return None if shown is None else (shown.shape[0], shown.shape[1])


class FolderDataset(Sequence[Sample]):
    """One split of a data folder, decoded sample by sample, in the order of names.

    Args:
        root: the folder that holds the splits.
        split: name of the split's folder.
        classes: "fine" for the stored labels, "coarse" for the groups that `classes.json` defines.
        class_names: names of the classes (index 0 = background) for a folder without `classes.json`, as the
            model that reads it knows them; ignored where there is one.

    Raises:
        DatasetError: no such split, no sensor in it, `classes.json` missing or not of its form.
    """

    def __init__(
        self, root: Path | str, split: str, classes: str = "fine", class_names: Sequence[str] | None = None
    ) -> None:
        self.root = Path(root)
        self.split = split
        self.folder = self.root / split
        if classes not in ("fine", "coarse"):
            msg = f"classes of a data set are 'fine' or 'coarse', got {classes!r}"
            raise DatasetError(msg)
        if not self.folder.is_dir():
            if not self.root.is_dir():
                got = "a file" if self.root.exists() else "nothing"
                msg = f"{self.root}: expected a data folder, got {got}; check the path"
                raise DatasetError(msg)
            there = sorted(p.name for p in self.root.iterdir() if p.is_dir())
            msg = f"{self.folder}: expected a folder, got none; {self.root} has the folders {there or 'none'}"
            raise DatasetError(msg)
        self._files = {kind: _index(self.folder / kind, _EXTENSIONS[kind]) for kind in _EXTENSIONS}
        self.modalities: tuple[Modality, ...] = tuple(m for m in MODALITIES if self._files[m.value])
        if not self.modalities:
            msg = f"{self.folder}: expected files in at least one of rgb, depth, thermal, audio, got none"
            raise DatasetError(msg)
        names = {name for m in self.modalities for name in self._files[m.value]}
        self.names: tuple[str, ...] = tuple(sorted(names))
        self._table = self._classes(classes, class_names)
        self._boxes = CocoBoxes.read(self.folder / "boxes_coco.json", self._table)
        self._check_listed("boxes_coco.json", self._boxes)
        self._scene = self._scene_labels()

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class index -> name; index 0 is the background."""
        return self._table.names

    @property
    def scene_names(self) -> tuple[str, ...]:
        """Scene class index -> name; empty when the data set has none."""
        return self._table.scene_names

    @property
    def has_labels(self) -> bool:
        """Whether any frame has a label map."""
        return bool(self._files["label"])

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Sample]:
        return (self[i] for i in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...

    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        """Decode one sample, or a list of them for a slice.

        Raises:
            DatasetError: a file cannot be decoded or is not of its kind, a label map has a value that is no
                class, or images of one sample differ in size; names the files.
        """
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        position = range(len(self))[index]
        name = self.names[position]
        stamp = FIRST_STAMP_NS + position * FRAME_PERIOD_NS
        frames = {m: self.frame(m, name, stamp) for m in self.modalities if name in self._files[m.value]}
        label = self.label(name)
        shapes = {m.value: f.data.shape[:2] for m, f in frames.items() if m in IMAGE_MODALITIES}
        if label is not None:
            shapes["label"] = label.shape
        if len(set(shapes.values())) > 1:
            files = [f"{kind}/{self._files[kind][name].name} {h}x{w}" for kind, (h, w) in shapes.items()]
            msg = f"{self.folder}: expected images of one size for {name!r}, got {', '.join(files)} (HxW)"
            raise DatasetError(msg)
        boxes, class_ids = self.boxes_of(name, label)
        derived = boxes is not None and not self.lists_boxes(name)
        return Sample(name, frames, label, boxes, class_ids, self.scene(name), derived, self.crowds(name))

    def path(self, modality: Modality, name: str) -> Path | None:
        """The file of one sensor in one sample; None where it is missing."""
        return self._files[modality.value].get(name)

    def has_ground_truth(self, name: str) -> bool:
        """Whether one sample has a label map, boxes or scene classes; no file is read."""
        listed = self._boxes.get(name) is not None or self.scene(name) is not None
        return listed or name in self._files["label"]

    def has_label(self, name: str) -> bool:
        """Whether one sample has a label map; no file is read."""
        return name in self._files["label"]

    def frame(self, modality: Modality, name: str, stamp_ns: int) -> SensorFrame:
        """Decode one sensor's file; `stamp_ns` is the instant of the images and the end of the sound."""
        path = self._files[modality.value][name]
        if modality is Modality.AUDIO:
            samples = read_wav(path)
            return SensorFrame(modality, samples, stamp_ns - samples.size * FRAME_PERIOD_NS // AUDIO_RATE)
        if modality is Modality.RGB:
            return SensorFrame(modality, read_rgb(path), stamp_ns)
        stored = read_stored(path, modality)
        if modality is Modality.DEPTH:
            return SensorFrame(modality, units.depth_from_counts(stored), stamp_ns)
        if stored.dtype == np.uint8:
            return SensorFrame(modality, units.thermal_from_grey(stored), stamp_ns, radiometric=False)
        if not stored.any():
            msg = f"{path}: expected temperatures (kelvin * 64), got 0 everywhere; a sample may lack the file"
            raise DatasetError(msg)
        return SensorFrame(modality, units.thermal_from_counts(stored), stamp_ns)

    def _classes(self, classes: str, class_names: Sequence[str] | None) -> ClassTable:
        path = self.root / "classes.json"
        if path.is_file():
            return ClassTable.read(path, classes)
        if class_names is not None:
            return ClassTable.plain(list(class_names))
        if self._files["label"]:
            msg = f"{path}: expected the class names of the {len(self._files['label'])} label maps in "
            msg += f"{self.folder / 'label'}, got no such file; write it as "
            msg += '{"names": ["background", ...]}, a name for each label value from 0 on, or in Python give '
            msg += "FolderDataset its parameter class_names"
            raise DatasetError(msg)
        return ClassTable.plain([])

    def label(self, name: str) -> npt.NDArray[np.uint8] | None:
        """Decode the label map of one sample: uint8 (H, W), class index; None without a file."""
        path = self._files["label"].get(name)
        if path is None:
            return None
        values = read_label(path)
        if wrong := self._table.wrong_in(values):
            allowed = f"label values below {self._table.label_count} or {UNLABELLED}"
            msg = f"{path}: expected {allowed} ({self._label_source}), got {wrong}"
            msg += f"; give pixels of no class {UNLABELLED}, or name every value in classes.json"
            raise DatasetError(msg)
        label: npt.NDArray[np.uint8] = self._table.label_to_class[values]
        return label

    def boxes_of(
        self, name: str, label: npt.NDArray[np.uint8] | None
    ) -> tuple[npt.NDArray[np.float32] | None, npt.NDArray[np.int64] | None]:
        """Boxes and class indices of one sample: those listed, else those of its label map `label`."""
        listed = self._boxes.get(name)
        if listed is not None:
            return listed
        return (None, None) if label is None else known_boxes_of_label(label)

    def lists_boxes(self, name: str) -> bool:
        """Whether the boxes of one sample are listed: then they are all that there are."""
        return name in self._boxes

    def crowds(self, name: str) -> Boxes:
        """Listed crowds of one sample."""
        return self._boxes.crowds.get(name, NO_BOXES)

    def scene(self, name: str) -> npt.NDArray[np.float32] | None:
        """Scene classes of one sample: float32 (k,), 1 where present; None when nobody knows."""
        return self._scene.get(name)

    @property
    def _label_source(self) -> str:
        path = self.root / "classes.json"
        return f"the classes of {path}" if path.is_file() else "the class names given for this folder"

    def _scene_labels(self) -> dict[str, npt.NDArray[np.float32]]:
        path = self.folder / "scene.json"
        if not path.is_file():
            return {}
        content = read_json(path)
        known = self.scene_names
        labels = {}
        if not isinstance(content, dict):
            msg = f"{path}: expected {{name: [scene classes]}}, got {shorten(content)}"
            raise DatasetError(msg)
        for name, present in content.items():
            if not isinstance(present, list) or not all(scene in known for scene in present):
                msg = f"{path}: expected a list out of {list(known)} for {name!r}, got {shorten(present)}"
                raise DatasetError(msg)
            labels[name] = np.array([scene in present for scene in known], dtype=np.float32)
        self._check_listed("scene.json", labels)
        return labels

    def _check_listed(self, file: str, listed: Collection[str]) -> None:
        """DatasetError when the split has none of the samples that a file lists: their names are others."""
        if listed and not set(self.names).intersection(listed):
            msg = f"{self.folder / file}: expected names of samples such as {self.names[0]!r}, "
            msg += f"got {shorten(sorted(listed))}"
            raise DatasetError(msg)


def _index(folder: Path, extensions: tuple[str, ...]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.suffix.lower() not in extensions or path.name.startswith(BESIDE):
            continue
        if path.stem in files:
            got = f"{files[path.stem].name} and {path.name}"
            msg = f"{folder}: expected one file named {path.stem!r}, got {got}"
            raise DatasetError(msg)
        files[path.stem] = path
    return files
