"""The bags below a folder, or those that a list names.

A folder with `metadata.yaml` is a bag, and so is every `.mcap` and `.db3` file, plain or with zstd, that lies
in no such folder. A list is a text file with a path a line, relative to the list; empty lines and what comes
after a `#` do not count.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from robust_perception.bags.view import is_storage, storage_files
from robust_perception.fleet.errors import FleetError

METADATA = "metadata.yaml"


class Bag(NamedTuple):
    """A bag and what it is called in the report: its path below the folder, or as the list has it."""

    name: str
    path: Path


def find_bags(source: Path) -> list[Bag]:
    """The bags of a folder by name, or those of a list in its order.

    Args:
        source: folder, bag, or list.

    Raises:
        FleetError: there is no such thing, no bag in it, or the list names one twice.
    """
    if source.is_file() and not is_storage(source):
        return _listed(source)
    if not source.exists():
        msg = f"{source}: expected a folder with bags or a text file that lists them, got nothing"
        raise FleetError(msg)
    if source.is_file() or (source / METADATA).is_file():
        return [Bag(source.name, source)]
    below = sorted(_below(source, {source.resolve()}))
    found = [Bag(path.relative_to(source).as_posix(), path) for path in below]
    if not found:
        msg = f"{source}: expected bags (folders with {METADATA}, .mcap or .db3 files), got none"
        raise FleetError(msg)
    return found


def _below(folder: Path, seen: set[Path]) -> Iterator[Path]:
    """Bags of a folder, each once: a link to one that is there too, or in a circle, is passed over."""
    files = storage_files(folder)
    for path in sorted(folder.iterdir(), key=lambda path: (path.is_symlink(), path)):
        place = path.resolve()
        if place in seen or not (path.is_dir() or path in files):
            continue
        seen.add(place)
        if path in files or (path / METADATA).is_file():
            yield path
        else:
            yield from _below(path, seen)


def _listed(source: Path) -> list[Bag]:
    try:
        lines = source.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{source}: expected a text file that lists bags, got {error}"
        raise FleetError(msg) from None
    names = [name for name in (line.partition("#")[0].strip() for line in lines) if name]
    if not names:
        msg = f"{source}: expected a bag a line, got none"
        raise FleetError(msg)
    bags = [Bag(name, source.parent / Path(name).expanduser()) for name in names]
    places = [bag.path.resolve() for bag in bags]
    twice = sorted({bag.name for bag, place in zip(bags, places, strict=True) if places.count(place) > 1})
    if twice:
        msg = f"{source}: expected every bag once, got {', '.join(twice)} more than once"
        raise FleetError(msg)
    return bags
