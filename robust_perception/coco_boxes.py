"""Boxes of a data folder that somebody listed: `boxes_coco.json`, in COCO's form.

A box with `iscrowd` 1 is a crowd: there are things of its class in it, and nobody said where each of them is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from robust_perception.labels import ClassTable, DatasetError, read_json, shorten
from robust_perception.vocabulary import UNLABELLED

FARTHEST = 1e6
"""Pixels a listed box may reach: no picture is so large."""


class Boxes(NamedTuple):
    """Boxes and what they show.

    Attributes:
        corners: float32 (n, 4), [x1, y1, x2, y2] in pixels, x2 and y2 exclusive.
        class_ids: int64 (n,), class index of each.
    """

    corners: npt.NDArray[np.float32]
    class_ids: npt.NDArray[np.int64]

    @classmethod
    def of(cls, rows: Sequence[tuple[Sequence[float], int]]) -> Boxes:
        """Of corners and class index of each."""
        corners = np.array([row for row, _ in rows], dtype=np.float32).reshape(-1, 4)
        return cls(corners, np.array([class_id for _, class_id in rows], dtype=np.int64))


NO_BOXES = Boxes.of(())


class CocoBoxes(dict[str, Boxes]):
    """Single things by sample name, and in `crowds` those of which nobody said where each is."""

    def __init__(self) -> None:
        super().__init__()
        self.crowds: dict[str, Boxes] = {}

    @classmethod
    def read(cls, path: Path, table: ClassTable) -> CocoBoxes:
        """Read the file; empty when there is none.

        Raises:
            DatasetError: it is not of its form, lists a picture twice, or names classes otherwise than
                `table` does.
        """
        boxes = cls()
        if not path.is_file():
            return boxes
        content = read_json(path)
        single: dict[str, list[tuple[Sequence[float], int]]] = {}
        crowds: dict[str, list[tuple[Sequence[float], int]]] = {}
        try:
            names = _samples(path, content["images"])
            single = {name: [] for name in names.values()}
            crowds = {name: [] for name in names.values()}
            used = set()
            for annotation in content["annotations"]:
                value, corners = _label_value(path, annotation, table), _corners(path, annotation)
                used.add(value)
                class_id = int(table.label_to_class[value])
                if class_id not in (0, UNLABELLED):
                    found = crowds if annotation.get("iscrowd", 0) else single
                    found[names[annotation["image_id"]]].append((corners, class_id))
            _check_names(path, content.get("categories", ()), used, table)
        except (KeyError, TypeError, AttributeError) as error:
            msg = f"{path}: expected COCO's images and annotations, got {error!r} while reading them"
            raise DatasetError(msg) from None
        boxes.update((name, Boxes.of(rows)) for name, rows in single.items())
        boxes.crowds = {name: Boxes.of(rows) for name, rows in crowds.items() if rows}
        return boxes


def _samples(path: Path, images: Sequence[Mapping[str, Any]]) -> dict[Any, str]:
    """Image id -> name of the sample."""
    files: dict[str, str] = {}
    for image in images:
        name = Path(image["file_name"]).stem
        if name in files:
            msg = f"{path}: expected one image of each sample, got {files[name]!r} and {image['file_name']!r}"
            msg += f" of {name!r}; list its boxes under one of them"
            raise DatasetError(msg)
        files[name] = image["file_name"]
    return {image["id"]: Path(image["file_name"]).stem for image in images}


def _label_value(path: Path, annotation: Mapping[str, Any], table: ClassTable) -> int:
    value = _number(annotation["category_id"])
    if not table.label_count:
        msg = (
            f"{path}: expected the names of its classes in classes.json beside the splits, got no such file; "
        )
        msg += 'write it as {"names": ["background", ...]}, a name for each category_id from 0 on'
        raise DatasetError(msg)
    if not (0 <= value < table.label_count and value.is_integer()):
        msg = f"{path}: expected a whole 'category_id' below {table.label_count}, got "
        msg += shorten(annotation["category_id"])
        raise DatasetError(msg)
    return int(value)


def _corners(path: Path, annotation: Mapping[str, Any]) -> tuple[float, float, float, float]:
    corner_and_size = [_number(v) for v in annotation["bbox"]]
    if len(corner_and_size) != 4 or not np.isfinite(corner_and_size).all():
        msg = f"{path}: expected 'bbox' as [x, y, width, height], got {shorten(annotation['bbox'])}"
        raise DatasetError(msg)
    if max(map(abs, corner_and_size)) > FARTHEST:
        msg = f"{path}: expected 'bbox' within {FARTHEST:g} pixels, got {annotation['bbox']}"
        raise DatasetError(msg)
    x, y, width, height = corner_and_size
    if min(width, height) < 0:
        msg = f"{path}: expected 'bbox' with a width and height >= 0, got {annotation['bbox']}"
        raise DatasetError(msg)
    return x, y, x + width, y + height


def _check_names(
    path: Path, categories: Sequence[Mapping[str, Any]], used: set[int], table: ClassTable
) -> None:
    """The names that the file itself gives to the categories of its boxes are those of the label values.

    Ids are often counted otherwise than label values, from 0 without the background: boxes would get the
    class before theirs, and those of the first one be taken for background.
    """
    for category in categories:
        number, name = _number(category["id"]), category.get("name")
        if number in used and name is not None and name != table.label_names[int(number)]:
            wanted = table.label_names[int(number)]
            msg = f"{path}: expected the category {int(number)} to be {wanted!r}, the name of this label "
            msg += f"value, got {shorten(name)}; give categories the ids and names of the classes in "
            msg += "classes.json"
            raise DatasetError(msg)


def _number(value: object) -> float:
    """A number; NaN for anything else."""
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return math.nan
