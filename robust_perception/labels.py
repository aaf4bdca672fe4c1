"""Ground truth of a data folder: class names, boxes of label maps, and the way from label values to classes.

`classes.json` is `{"fine": [{"id", "name"}], "coarse_names", "fine_to_coarse", "scene_names"}`, all but
`fine` optional, or `{"names": [...], "ignore": id}`, where `ignore` is the label of pixels nobody knows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from robust_perception.vocabulary import UNLABELLED

MINIMUM_COMPONENT_AREA = 30
"""Connected components of fewer pixels give no box: at a label's border single pixels break off."""


class DatasetError(ValueError):
    """A data folder is not of its layout; names the file, what was expected and what came."""


@dataclass(frozen=True)
class ClassTable:
    """Class names of a data set and the way from stored label values to class indices.

    Attributes:
        names: class index -> name; index 0 is the background.
        label_to_class: uint8 (256,), stored label value -> class index, 255 = unlabelled or not a class.
        label_count: number of label values that may be stored; 255 may be stored besides.
        scene_names: names of the scene classes.
        ignore: a value beyond these that may be stored too and means "unlabelled"; 255 when there is none.
        label_names: stored label value -> name; those of `names` where no classes are grouped.
    """

    names: tuple[str, ...]
    label_to_class: npt.NDArray[np.uint8]
    label_count: int
    scene_names: tuple[str, ...] = ()
    ignore: int = UNLABELLED
    label_names: tuple[str, ...] = ()

    @classmethod
    def plain(cls, names: Sequence[str], ignore: int | None = None, scene: Sequence[str] = ()) -> ClassTable:
        """Labels that are class indices already; `ignore` is a further value meaning "unlabelled"."""
        table = np.full(256, UNLABELLED, dtype=np.uint8)
        table[: len(names)] = np.arange(len(names))
        stored = tuple(names)
        if ignore is not None:
            table[ignore] = UNLABELLED
            if ignore == len(names) - 1:
                names = names[:-1]
        ignored = UNLABELLED if ignore is None else ignore
        return cls(tuple(names), table, len(stored), tuple(scene), ignored, stored)

    def wrong_in(self, values: npt.NDArray[np.uint8]) -> list[int]:
        """Values of a label map that may not be stored, each once."""
        foreign = (values >= self.label_count) & (values != UNLABELLED) & (values != self.ignore)
        wrong: list[int] = np.unique(values[foreign]).tolist()
        return wrong

    @classmethod
    def read(cls, path: Path, classes: str) -> ClassTable:
        """Read `classes.json`; `classes` is "fine" or "coarse".

        Raises:
            DatasetError: it is not of its form, or two classes have one name.
        """
        table = cls._read(path, classes)
        for names, kind in ((table.names, "class"), (table.scene_names, "scene class")):
            for twice in (name for name in names if names.count(name) > 1):
                places = [i for i, name in enumerate(names) if name == twice]
                msg = f"{path}: expected a name of its own for every {kind}, got {twice!r} for {places}; "
                msg += "rename them apart"
                if kind == "class" and classes == "fine":
                    msg += "; 'coarse_names' and 'fine_to_coarse' make one coarse class of several"
                raise DatasetError(msg)
        return table

    @classmethod
    def _read(cls, path: Path, classes: str) -> ClassTable:
        content = read_json(path)
        if not isinstance(content, dict) or not ("fine" in content or "names" in content):
            msg = f"{path}: expected an object with 'fine' or 'names', got {shorten(content)}"
            raise DatasetError(msg)
        scene = _names(path, content, "scene_names")
        if "names" in content:
            _need_fine(path, classes)
            names, ignore = _names(path, content, "names"), content.get("ignore")
            whole = isinstance(ignore, int) and not isinstance(ignore, bool)
            if ignore is not None and not (whole and 0 <= ignore <= UNLABELLED):
                msg = f"{path}: expected 'ignore' as a label value from 0 to {UNLABELLED}, got "
                msg += shorten(ignore)
                raise DatasetError(msg)
            return cls.plain(names, ignore, scene)
        try:
            entries = sorted((int(entry["id"]), str(entry["name"])) for entry in content["fine"])
        except (TypeError, KeyError, ValueError, OverflowError):
            msg = f"{path}: expected 'fine' as a list of {{id, name}}, got {shorten(content['fine'])}"
            raise DatasetError(msg) from None
        if [number for number, _ in entries] != list(range(len(entries))) or len(entries) > UNLABELLED:
            ids = [number for number, _ in entries]
            msg = f"{path}: expected ids 0..n-1 with n <= {UNLABELLED}, got {ids}"
            raise DatasetError(msg)
        fine = cls.plain([name for _, name in entries], scene=scene)
        if "coarse_names" not in content:
            _need_fine(path, classes)
        return fine if classes == "fine" else fine._coarse(path, content)

    def _coarse(self, path: Path, content: Mapping[str, Any]) -> ClassTable:
        names = tuple(_names(path, content, "coarse_names"))
        mapping = content.get("fine_to_coarse")
        fits = isinstance(mapping, list) and len(mapping) == self.label_count
        if not fits or not all(isinstance(m, int) and 0 <= m < len(names) for m in mapping or ()):
            msg = (
                f"{path}: expected 'fine_to_coarse' with {self.label_count} indices below {len(names)}, "
                f"got {shorten(mapping)}"
            )
            raise DatasetError(msg)
        table = np.full(256, UNLABELLED, dtype=np.uint8)
        table[: self.label_count] = np.asarray(mapping, dtype=np.uint8)
        return ClassTable(names, table, self.label_count, self.scene_names, label_names=self.label_names)


def boxes_of_label(
    label: npt.NDArray[np.uint8], minimum_area: int = MINIMUM_COMPONENT_AREA
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Boxes around the 8-connected components of every foreground class.

    Args:
        label: uint8 (H, W), class index, 0 = background, 255 = unlabelled.
        minimum_area: components of fewer pixels are left out.

    Returns:
        Boxes float32 (n, 4), xyxy in pixels, and their class indices int64 (n,); by class, then from top to
        bottom, then from left to right.
    """
    boxes: list[tuple[int, int, int, int]] = []
    class_ids: list[int] = []
    for class_id in np.unique(label):
        if class_id in (0, UNLABELLED):
            continue
        mask = (label == class_id).astype(np.uint8)
        count, _, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        # OpenCV counts them by blocks of two rows, or as the version at hand does.
        for x, y, width, height, area in sorted(stats[1:count].tolist(), key=lambda row: (row[1], row[0])):
            if area >= minimum_area:
                boxes.append((x, y, x + width, y + height))
                class_ids.append(int(class_id))
    return np.array(boxes, dtype=np.float32).reshape(-1, 4), np.array(class_ids, dtype=np.int64)


def known_boxes_of_label(
    label: npt.NDArray[np.uint8],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]] | tuple[None, None]:
    """As `boxes_of_label`; None where no pixel is known: that does not say that there is no object."""
    return (None, None) if bool((label == UNLABELLED).all()) else boxes_of_label(label)


def read_json(path: Path) -> Any:
    """Parse a JSON file; DatasetError when it is missing or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))  # some editors begin a file with a mark
    except (OSError, ValueError, RecursionError) as error:
        msg = f"{path}: expected a JSON file, got {error}"
        raise DatasetError(msg) from None


def _names(path: Path, content: Mapping[str, Any], key: str) -> list[str]:
    """A list of names of classes; empty without the key."""
    names = content.get(key, [])
    if not isinstance(names, list) or len(names) > UNLABELLED:
        msg = f"{path}: expected {key!r} as a list of at most {UNLABELLED} names, got {shorten(names)}"
        raise DatasetError(msg)
    return [str(name) for name in names]


def _need_fine(path: Path, classes: str) -> None:
    if classes != "fine":
        msg = f"{path}: expected 'coarse_names' and 'fine_to_coarse' for coarse classes, got neither"
        raise DatasetError(msg)


def shorten(value: object, limit: int = 120) -> str:
    """A value as text of at most `limit` characters, for a message."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."
