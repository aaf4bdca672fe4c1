"""Imports between the rooms point the way docs/architecture.md says."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

FORBIDDEN = {
    "vocabulary.py": {"rclpy", "torch", "robust_perception"},
    "units.py": {"rclpy", "torch"},
    "datasets.py": {"rclpy", "torch"},
    "presence": {
        "rclpy",
        "torch",
        "robust_perception.engine",
        "robust_perception.ros",
        "robust_perception.model",
    },
    "preprocess": {"rclpy", "torch", "robust_perception.engine", "robust_perception.model"},
    "engine": {
        "rclpy",
        "torch",
        "robust_perception.model",
        "robust_perception.training",
        "robust_perception.ros",
    },
    "evaluation": {
        "rclpy",
        "torch",
        "robust_perception.model",
        "robust_perception.training",
        "robust_perception.ros",
    },
    "bags": {"rclpy", "torch", "robust_perception.engine", "robust_perception.ros"},
    "simulation": {
        "rclpy",
        "torch",
        "robust_perception.ros",
        "robust_perception.model",
        "robust_perception.engine",
    },
    "demo": {"rclpy", "torch", "robust_perception.model", "robust_perception.training"},
    "model": {"rclpy", "robust_perception.ros", "robust_perception.training", "robust_perception.engine"},
    "training": {"rclpy", "robust_perception.ros"},
    "ros": {"torch", "robust_perception.model", "robust_perception.training"},
}


def imported_names(file: Path) -> set[str]:
    """Dotted names of every module a source file imports, lazily or not."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("room", FORBIDDEN)
def test_room_imports_only_what_it_may(room: str, repository: Path) -> None:
    place = repository / "robust_perception" / room
    files = [place] if place.suffix == ".py" else sorted(place.rglob("*.py"))
    assert files, f"room {room} has no source files"
    for file in files:
        for name in imported_names(file):
            for banned in FORBIDDEN[room]:
                assert not (name == banned or name.startswith(banned + ".")), f"{file.name} imports {name}"
