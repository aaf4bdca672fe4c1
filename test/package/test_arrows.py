"""Imports between the rooms point the way docs/architecture.md says; the page is what is read here."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = "robust_perception"
SOURCE = Path(__file__).resolve().parents[2] / PACKAGE
PAGE = SOURCE.parent / "docs" / "architecture.md"

LEAVES = ("vocabulary", "units", "labels", "coco_boxes", "indexed_png", "sample_files", "datasets")
"""Each may import those before it; every room may import all of them."""
COMMON = {*LEAVES, "arguments", "environment", "extras", "progress"}
ENTRY_POINTS = {"bag", "bench", "build_engine", "cli", "doctor", "evaluate", "export", "train"}
TORCH_ALLOWED = {"model", "training", "exporting", "train", "export"}
TORCH_FILE = Path("benchmarking") / "torch_network.py"
"""The one file elsewhere that may: what it compares exported graphs with."""


class Page(NamedTuple):
    """What the page says: per room what it never imports, and per room the rooms its arrows point to."""

    never: dict[str, set[str]]
    arrows: dict[str, set[str]]


def read_page() -> Page:
    """The table of rooms and the arrows, from the section that holds both."""
    section = PAGE.read_text(encoding="utf-8").partition("## The rooms")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)/` \|.*\| ([^|]*) \|$", section, re.M)
    never = {room: set(re.findall(r"\w+", last)) for room, last in rows}
    arrows = {room: set() for room in never}
    for room, targets in re.findall(r"`(\w+) -> ([\w., ]+)`", section):
        arrows[room] |= set(targets.split(", "))
    return Page(never, arrows)


def imported_names(source: str) -> set[str]:
    """Dotted names of every module a source text imports, lazily or not, and of what it takes from them."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute, so that one look tells where an arrow points"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def within(name: str, module: str) -> bool:
    """Whether a dotted name is a module or lies in it."""
    return name == module or name.startswith(f"{module}.")


def forbidden(room: str, source: str, page: Page) -> list[str]:
    """The imports of one file of a room that the page does not allow."""
    wrong = []
    for name in sorted(imported_names(source)):
        inner = name.removeprefix(f"{PACKAGE}.")
        if inner == name:
            wrong += [name] if name.partition(".")[0] in page.never[room] else []
            continue
        allowed = {room} | COMMON | page.arrows[room]
        version = name == f"{PACKAGE}.__version__"
        if not version and not any(within(inner, target) for target in allowed):
            wrong.append(name)
    return wrong


def rooms() -> list[str]:
    return sorted(f.parent.name for f in SOURCE.glob("*/__init__.py"))


@pytest.fixture(scope="module")
def page() -> Page:
    return read_page()


def test_page_knows_every_room_and_every_leaf(page: Page) -> None:
    assert set(rooms()) <= set(page.never), "docs/architecture.md has no row for a room"
    text = PAGE.read_text(encoding="utf-8")
    files = {file.stem for file in SOURCE.glob("*.py")} - {"__init__"}
    assert files == COMMON | ENTRY_POINTS & files, "a file at the top of the package has no place on the page"
    assert [name for name in sorted(files) if f"`{name}.py`" not in text] == []


@pytest.mark.parametrize("room", rooms())
def test_room_imports_only_what_it_may(room: str, page: Page) -> None:
    for file in sorted((SOURCE / room).rglob("*.py")):
        assert forbidden(room, file.read_text(encoding="utf-8"), page) == [], file


@pytest.mark.parametrize("room", rooms())
def test_every_arrow_of_a_room_is_used(room: str, page: Page) -> None:
    files = (SOURCE / room).rglob("*.py")
    names = {name for file in files for name in imported_names(file.read_text(encoding="utf-8"))}
    inner = {name.removeprefix(f"{PACKAGE}.") for name in names}
    unused = {target for target in page.arrows[room] if not any(within(name, target) for name in inner)}
    assert unused == set()


@pytest.mark.parametrize("leaf", LEAVES)
def test_leaf_imports_only_the_leaves_before_it(leaf: str) -> None:
    earlier = LEAVES[: LEAVES.index(leaf)]
    for name in imported_names((SOURCE / f"{leaf}.py").read_text(encoding="utf-8")):
        inner = name.removeprefix(f"{PACKAGE}.")
        assert inner == name or inner.partition(".")[0] in earlier, f"{leaf}.py imports {name}"


def test_only_one_room_imports_ros_and_few_files_torch() -> None:
    for file in sorted(SOURCE.rglob("*.py")):
        place = file.relative_to(SOURCE).parts[0].removesuffix(".py")
        outside = {name.partition(".")[0] for name in imported_names(file.read_text(encoding="utf-8"))}
        assert place == "ros" or not [n for n in outside if n == "rclpy" or n.endswith("_msgs")], file
        allowed = place in TORCH_ALLOWED or file.relative_to(SOURCE) == TORCH_FILE
        assert allowed or "torch" not in outside, file


@pytest.mark.parametrize(
    ("room", "line", "good"),
    [
        ("training", "from robust_perception.evaluation.segmentation import Confusion", True),
        ("training", "from robust_perception.evaluation import protocol", False),
        ("training", "import robust_perception.ros.qos", False),
        ("presence", "def f():\n    import torch.nn", False),
        ("presence", "from robust_perception.engine.engine import Engine", False),
        ("engine", "from robust_perception import preprocess", True),
        ("model", "from rclpy.node import Node", False),
        ("bags", "from robust_perception.datasets import Sample", True),
    ],
)
def test_the_check_itself(room: str, line: str, good: bool, page: Page) -> None:
    assert (forbidden(room, line, page) == []) is good
