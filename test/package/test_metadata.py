"""What pip, colcon and rosdep read agrees with itself."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import operator
import os
import re
import runpy
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
import setuptools

FORBIDDEN_WHEELS = ("launch", "cv-bridge", "cvbridge3")
ROS = r"rclpy|ament_\w+|\w+_msgs|\w+_interfaces|std_srvs"
EXTRA_OF = {
    "benchmarking/torch_network": "train", "card": "evaluate", "demo": "demo", "export": "train",
    "exporting": "train", "fleet": "fleet", "model": "train", "simulation": "sim", "train": "train",
    "training": "train",
}  # fmt: skip
"""Room or file -> the extra that whoever uses it has installed."""


@pytest.fixture
def setup_arguments(repository: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What setup.py hands to setuptools."""
    seen: dict[str, Any] = {}
    monkeypatch.setattr(setuptools, "setup", lambda **arguments: seen.update(arguments))
    monkeypatch.chdir(repository)
    runpy.run_path("setup.py")
    return seen


def test_versions_are_equal(repository: Path, setup_arguments: dict[str, Any]) -> None:
    manifest = ElementTree.parse(repository / "package.xml").getroot()
    assert manifest.get("format") == "3"
    assert manifest.findtext("name") == setup_arguments["name"]
    assert manifest.findtext("version") == setup_arguments["version"]
    assert manifest.findtext("export/build_type") == "ament_python"
    assert f"{setup_arguments['version']} (" in (repository / "CHANGELOG.rst").read_text(encoding="utf-8")


def test_package_manifest_is_valid(repository: Path) -> None:
    package = pytest.importorskip("catkin_pkg.package")
    parsed = package.parse_package(str(repository / "package.xml"))
    assert {"rclpy", "vision_msgs", "audio_common_msgs", "launch_ros"} < {d.name for d in parsed.exec_depends}


def test_what_tests_import_is_a_test_dependency(repository: Path) -> None:
    depends = set(re.findall(r"<test_depend>([\w-]+)<", (repository / "package.xml").read_text("utf-8")))
    assert depends == {"python3-pytest", "python3-pytest-timeout", "python3-hypothesis"}


def test_the_ros_packages_imported_are_the_dependencies(repository: Path) -> None:
    text = (repository / "package.xml").read_text(encoding="utf-8")
    depends = set(re.findall(rf"<exec_depend>({ROS})</exec_depend>", text))
    imported: set[str] = set()
    for file in (repository / "robust_perception").rglob("*.py"):
        imported |= set(re.findall(rf"^\s*(?:from|import) ({ROS})\b", file.read_text(encoding="utf-8"), re.M))
    assert imported == depends


def test_what_a_room_imports_comes_with_the_package_or_the_rooms_extra(
    repository: Path, setup_arguments: dict[str, Any]
) -> None:
    brought_by = importlib.metadata.packages_distributions()
    extras = setup_arguments["extras_require"]
    for file in sorted((repository / "robust_perception").rglob("*.py")):
        parts = file.relative_to(repository / "robust_perception").with_suffix("").parts
        extra = EXTRA_OF.get("/".join(parts), EXTRA_OF.get(parts[0], ""))
        wanted = [*setup_arguments["install_requires"], *extras.get(extra, [])]
        there = {plain_name(requirement) for requirement in wanted}
        for module in imported_at_once(file) - {"robust_perception", *sys.stdlib_module_names}:
            names = {plain_name(name) for name in brought_by.get(module, [])}
            if not re.fullmatch(ROS, module):
                assert names & there, f"{file} imports {module}, which [{extra}] does not bring"


def imported_at_once(file: Path) -> set[str]:
    """First names of the modules that a file imports when it is imported itself."""
    names: set[str] = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module))
    return {name.partition(".")[0] for name in names}


def plain_name(requirement: str) -> str:
    """Name of a distribution without its version, as indexes write it."""
    return re.split(r"[<>=!~;\[ ]", requirement)[0].lower().replace("_", "-")


def test_robot_gets_no_ros_wheels(setup_arguments: dict[str, Any]) -> None:
    base = " ".join(setup_arguments["install_requires"])
    assert "ros-" not in base
    assert "torch" not in base
    everything = [
        *setup_arguments["install_requires"],
        *functools.reduce(operator.iadd, setup_arguments["extras_require"].values(), []),
    ]
    names = {plain_name(requirement) for requirement in everything}
    assert not names & set(FORBIDDEN_WHEELS)


def test_constraints_pin_every_direct_dependency(repository: Path, setup_arguments: dict[str, Any]) -> None:
    lines = (repository / "tools" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.partition("==")[0] for line in lines if "==" in line}
    everything = [
        *setup_arguments["install_requires"],
        *functools.reduce(operator.iadd, setup_arguments["extras_require"].values(), []),
    ]
    for requirement in everything:
        name = plain_name(requirement)
        assert name in pinned or name.startswith("ros-"), (
            f"{name} has no exact version in tools/constraints.txt"
        )


def test_data_files_exist_and_leave_the_interfaces_out(
    repository: Path, setup_arguments: dict[str, Any]
) -> None:
    targets = dict(setup_arguments["data_files"])
    assert all((repository / file).is_file() for files in targets.values() for file in files)
    assert targets["share/ament_index/resource_index/packages"] == ["resource/robust_perception"]
    assert "share/robust_perception/launch" in targets
    assert "config/fastdds.xml" in targets["share/robust_perception/config"]
    assert not [target for target in targets if "interfaces" in target]


def test_every_executable_is_a_script_and_an_entry_point(
    repository: Path, setup_arguments: dict[str, Any]
) -> None:
    scripts = {Path(f).name for f in dict(setup_arguments["data_files"])["lib/robust_perception"]}
    assert scripts == {"fusion_node", "simulation_node", "replay_node", "recorder_node"}
    console = {line.split(" = ")[0] for line in setup_arguments["entry_points"]["console_scripts"]}
    assert console == scripts | {"robust-perception"}
    for name in scripts:
        script = repository / "scripts" / name
        assert os.access(script, os.X_OK), f"{script} is not executable"
        assert f"robust_perception.ros.{name}" in script.read_text(encoding="utf-8")
        assert (repository / "robust_perception" / "ros" / f"{name}.py").is_file()


def test_executable_takes_the_python_of_its_own_prefix(repository: Path, tmp_path: Path) -> None:
    script = tmp_path / "lib" / "robust_perception" / "fusion_node"
    script.parent.mkdir(parents=True)
    script.write_bytes((repository / "scripts" / "fusion_node").read_bytes())
    script.chmod(0o755)
    python = tmp_path / "bin" / "python3"
    python.parent.mkdir()
    python.write_text('#!/bin/sh\necho "prefix python: $@"\n')
    python.chmod(0o755)
    done = subprocess.run([script, "--ros-args", "-r", "a:=b c"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("prefix python: ")
    assert done.stdout.rstrip().endswith("fusion_node --ros-args -r a:=b c")


def test_python_reads_the_executables(repository: Path) -> None:
    for script in (repository / "scripts").iterdir():
        done = subprocess.run(
            [sys.executable, "-c", "import ast, sys; ast.parse(sys.stdin.read())"],
            stdin=script.open(),
            check=False,
        )
        assert done.returncode == 0, script.name
