"""How recordings lie in folders, and when their frames were taken.

| layout                             | example        | times                                       |
|------------------------------------|----------------|---------------------------------------------|
| `<root>/<split>/{rgb,depth,..}`    | MM5, RoadScene | `times.json` of the split, else none        |
| `<root>/{rgb,depth,..}`, no splits | 7-Scenes       | `times.json` or `poses.json` of the root    |

`times.json` is `{NAME: ns}`, as `bag to-dataset` writes it; `poses.json` is `{"frames": [{"frame",
"stamp"}]}` with the number that a file's name spells, and seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from robust_perception.datasets import DatasetError, FolderDataset
from robust_perception.labels import read_json, shorten
from robust_perception.vocabulary import MODALITIES

FLAT = "."
"""The split of a folder without splits."""


def open_folder(
    root: Path, split: str, classes: str = "fine", class_names: Sequence[str] | None = None
) -> FolderDataset:
    """A split of a folder, or all of one that has none; DatasetError when it is neither."""
    flat = not (root / split).is_dir() and any((root / m.value).is_dir() for m in MODALITIES)
    return FolderDataset(root, FLAT if flat else split, classes, class_names)


def times_of(dataset: FolderDataset) -> dict[str, int] | None:
    """When each frame was taken, ns from the first; None where the folder does not say.

    Raises:
        DatasetError: a file that should say it is not of its form, or leaves a frame out.
    """
    for name, read in (("times.json", _times), ("poses.json", _poses)):
        path = dataset.folder / name
        if path.is_file():
            found = read(path, dataset.names)
            missing = [sample for sample in dataset.names if sample not in found]
            if missing:
                msg = f"{path}: expected a time of every frame, got none of {shorten(missing)}"
                raise DatasetError(msg)
            first = min(found[sample] for sample in dataset.names)
            return {sample: found[sample] - first for sample in dataset.names}
    return None


def _times(path: Path, names: Sequence[str]) -> dict[str, int]:
    del names
    content = read_json(path)
    if not isinstance(content, dict) or not all(_whole(value) for value in content.values()):
        msg = f"{path}: expected {{NAME: nanoseconds}}, got {shorten(content)}"
        raise DatasetError(msg)
    return {str(name): value for name, value in content.items()}


def _poses(path: Path, names: Sequence[str]) -> dict[str, int]:
    content = read_json(path)
    try:
        stamps = {int(entry["frame"]): round(float(entry["stamp"]) * 1e9) for entry in content["frames"]}
    except (KeyError, TypeError, ValueError) as error:
        msg = f"{path}: expected frames with 'frame' and 'stamp' in seconds, got {error!r} while reading them"
        raise DatasetError(msg) from None
    numbers = {name: int(name) for name in names if name.isdecimal()}
    return {name: stamps[number] for name, number in numbers.items() if number in stamps}


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
