"""Several data folders read as one, each with sensors and classes of its own.

    classes of the union     the background, then every class by its name, in the order of first appearance
    known_classes[c]         whether the folder a sample comes from labels class c
    background of a folder   the background, or any class that this folder does not label

A folder labels the classes that its `classes.json` lists, whether they occur or not; index 0 is its
background whatever it is called. What it does not label it says nothing about: the losses take such classes
together with the background (`losses.merge_unknown`), and scene classes that it does not list are NaN.

One folder alone is read as `FolderDataset` reads it: same names, same indices, same values.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

import numpy as np
import numpy.typing as npt

from robust_perception.coco_boxes import Boxes
from robust_perception.datasets import FRAME_PERIOD_NS, DatasetError, FolderDataset, Sample
from robust_perception.vocabulary import MODALITIES, UNLABELLED, Modality


class MixedDataset(Sequence[Sample]):
    """Parts one after the other, their class and scene indices translated into those of the union.

    Args:
        parts: the same split of one or more data folders.

    Attributes:
        parts: as given.
        names: sample -> name; with several parts "<folder>/<name>".
        modalities: sensors that at least one part has.
        class_names: class index -> name; index 0 is the background.
        scene_names: scene class -> name.

    Raises:
        DatasetError: no part, the same folder twice, or class names that cannot be told apart; names the
            part's `classes.json`.
    """

    def __init__(self, parts: Sequence[FolderDataset]) -> None:
        if not parts:
            msg = "training data: expected at least one data folder, got none"
            raise DatasetError(msg)
        self.parts = tuple(parts)
        twice = _repeated([str(part.folder.resolve()) for part in parts])
        if twice:
            msg = f"training data: expected different folders, got {twice[0]} more than once"
            raise DatasetError(msg)
        self.modalities: tuple[Modality, ...] = tuple(
            m for m in MODALITIES if any(m in part.modalities for part in parts)
        )
        self.class_names, self.scene_names = parts[0].class_names, parts[0].scene_names
        self.names: tuple[str, ...] = parts[0].names
        if len(parts) > 1:
            self.class_names = _union_of_classes(parts)
            self.scene_names = tuple(dict.fromkeys(name for part in parts for name in part.scene_names))
            labels = zip(_labels(parts), parts, strict=True)
            self.names = tuple(f"{label}/{name}" for label, part in labels for name in part.names)
        self._begins = [0, *itertools.accumulate(len(part) for part in parts)]
        self._positions = {name: position for position, name in enumerate(self.names)}
        self._class_tables = [self._class_table(part) for part in parts]
        self._scene_indices = [
            np.array([self.scene_names.index(name) for name in part.scene_names], dtype=np.int64)
            for part in parts
        ]
        self._known = [_known(len(self.class_names), table) for table in self._class_tables]

    @classmethod
    def open(cls, roots: Sequence[Path], split: str, classes: str = "fine") -> MixedDataset:
        """The same split of several data folders; DatasetError names the folder that cannot be read."""
        return cls([FolderDataset(root, split, classes) for root in roots])

    @classmethod
    def of(cls, dataset: FolderDataset | MixedDataset) -> MixedDataset:
        """A data folder as a mixture of one part; a mixture is returned as it is."""
        return dataset if isinstance(dataset, MixedDataset) else cls([dataset])

    @property
    def place(self) -> str:
        """The parts' folders, for messages."""
        return " and ".join(str(part.folder) for part in self.parts)

    @property
    def has_labels(self) -> bool:
        """Whether any frame has a label map."""
        return any(part.has_labels for part in self.parts)

    def __len__(self) -> int:
        return self._begins[-1]

    def __iter__(self) -> Iterator[Sample]:
        return (self[i] for i in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...

    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        """Decode one sample, or a list of them for a slice.

        `scene` is NaN for scene classes that the sample's folder does not list. Stamps count on from part to
        part, so that no two samples share one.

        Raises:
            DatasetError: see `FolderDataset`.
        """
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        position = range(len(self))[index]
        number, own = self._locate(position)
        sample = self.parts[number][own]
        if len(self.parts) == 1:
            return sample
        later = self._begins[number] * FRAME_PERIOD_NS
        table = self._class_tables[number]
        return dataclasses.replace(
            sample,
            name=self.names[position],
            frames={
                m: dataclasses.replace(frame, stamp_ns=frame.stamp_ns + later)
                for m, frame in sample.frames.items()
            },
            label=None if sample.label is None else table[sample.label],
            class_ids=None if sample.class_ids is None else table[sample.class_ids].astype(np.int64),
            scene=None if sample.scene is None else self._scene_of(number, sample.scene),
            crowds=Boxes(sample.crowds.corners, table[sample.crowds.class_ids].astype(np.int64)),
        )

    def path(self, modality: Modality, name: str) -> Path | None:
        """The file of one sensor in one sample; None where it is missing."""
        number, own = self._locate(self._positions[name])
        return self.parts[number].path(modality, self.parts[number].names[own])

    def known_classes(self, index: int) -> npt.NDArray[np.bool_]:
        """Which classes the folder of sample `index` labels: bool (C,), the background always."""
        return self._known[self._locate(index)[0]]

    def has_ground_truth(self, index: int) -> bool:
        """Whether sample `index` has a label map, boxes or scene classes; no file is read."""
        number, own = self._locate(index)
        part = self.parts[number]
        return part.has_ground_truth(part.names[own])

    def has_label(self, index: int) -> bool:
        """Whether sample `index` has a label map; no file is read."""
        number, own = self._locate(index)
        return self.parts[number].has_label(self.parts[number].names[own])

    def box_count(self, index: int) -> int | None:
        """How many boxes sample `index` has; None when nobody knows. No sensor's file is read."""
        number, own = self._locate(index)
        part = self.parts[number]
        boxes, _ = part.boxes_of(part.names[own], part.label(part.names[own]))
        return None if boxes is None else len(boxes)

    def ground_truth(self, name: str) -> frozenset[int] | None:
        """Foreground classes of one sample by label map, else by boxes; no sensor's file is read.

        None when nothing is known about the sample: no known pixel, no boxes, no scene class.
        """
        number, own = self._locate(self._positions[name])
        part, table = self.parts[number], self._class_tables[number]
        own_name = part.names[own]
        label = part.label(own_name)
        if label is not None and bool((label != UNLABELLED).any()):
            present = np.unique(table[label])
        else:
            _, class_ids = part.boxes_of(own_name, label)
            if class_ids is None and part.scene(own_name) is None:
                return None
            present = table[np.zeros(0, np.int64) if class_ids is None else np.unique(class_ids)]
        return frozenset(int(c) for c in present if c not in (0, UNLABELLED))

    def _locate(self, index: int) -> tuple[int, int]:
        """Number of the part and index within it."""
        number = bisect.bisect_right(self._begins, index) - 1
        return number, index - self._begins[number]

    def _scene_of(self, number: int, own: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        scene = np.full(len(self.scene_names), np.nan, dtype=np.float32)
        scene[self._scene_indices[number]] = own
        return scene

    def _class_table(self, part: FolderDataset) -> npt.NDArray[np.uint8]:
        """uint8 (256,): the part's class index -> the union's; 255 stays 255."""
        table = np.full(256, UNLABELLED, dtype=np.uint8)
        count = len(part.class_names)
        table[:count] = np.arange(count)
        if len(self.parts) > 1 and count:
            table[1:count] = [self.class_names.index(name, 1) for name in part.class_names[1:]]
        return table


def _union_of_classes(parts: Sequence[FolderDataset]) -> tuple[str, ...]:
    named = [part for part in parts if part.class_names]
    if not named:
        return ()
    background = named[0].class_names[0]
    for part in named:
        if background in part.class_names[1:]:
            got = part.class_names.index(background)
            file = part.root / "classes.json"
            msg = f"{file}: expected the background {background!r} as class 0, got it as class {got}"
            raise DatasetError(msg)
    foreground = dict.fromkeys(name for part in named for name in part.class_names[1:])
    if len(foreground) + 1 > UNLABELLED:
        msg = f"training data: expected at most {UNLABELLED} classes together, got {len(foreground) + 1}"
        raise DatasetError(msg)
    return (background, *foreground)


def _known(classes: int, table: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    known = np.zeros(classes, dtype=bool)
    known[:1] = True
    known[table[table != UNLABELLED]] = True
    known.setflags(write=False)
    return known


def _labels(parts: Sequence[FolderDataset]) -> list[str]:
    """A short name of each part: its folder's, numbered where two folders share one."""
    labels: list[str] = []
    for part in parts:
        name = label = part.root.resolve().name
        for number in itertools.count(2):
            if label not in labels:
                break
            label = f"{name}-{number}"
        labels.append(label)
    return labels


def _repeated(values: Sequence[str]) -> list[str]:
    return [value for value in dict.fromkeys(values) if values.count(value) > 1]
