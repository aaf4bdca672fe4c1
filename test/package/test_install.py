"""The package installed as a user and as a robot would install it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from robust_perception import environment

EXECUTABLES = {"fusion_node", "simulation_node", "replay_node", "recorder_node"}


@pytest.fixture(scope="module")
def source(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is packaged: building writes beside the sources."""
    copy = tmp_path_factory.mktemp("source") / "robust_perception"
    unwanted = shutil.ignore_patterns(
        ".*", "__pycache__", "build", "install", "log", "runs", "demo_out", "dist"
    )
    shutil.copytree(repository, copy, ignore=unwanted)
    return copy


def clean_environment() -> dict[str, str]:
    """The environment of a child that must not find this repository by accident."""
    return {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "AMENT_PREFIX_PATH")
    }


def run(command: list[str | Path], **options: object) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=clean_environment(), **options
    )  # type: ignore[call-overload]
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout)


def installed_here() -> list[str]:
    """Where this environment's own copy lies; empty where there is none."""
    return [str(d.locate_file("")) for d in importlib.metadata.distributions(name="robust_perception")]


def test_pip_install_is_visible_to_the_ament_index(source: Path, tmp_path: Path) -> None:
    before = installed_here()
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--quiet"]
    # Without the second option pip removes the copy that this environment has.
    run([*pip, "--prefix", tmp_path, "--ignore-installed", source], cwd=tmp_path)
    assert installed_here() == before
    assert {file.name for file in (tmp_path / "lib" / "robust_perception").iterdir()} == EXECUTABLES
    assert all(os.access(tmp_path / "lib" / "robust_perception" / name, os.X_OK) for name in EXECUTABLES)
    assert (tmp_path / "bin" / "robust-perception").is_file()
    share = tmp_path / "share" / "robust_perception"
    assert (share / "launch" / "fusion.launch.py").is_file()
    assert (share / "config" / "fastdds.xml").is_file()
    assert not (share / "config" / "interfaces").exists()
    packages = next(tmp_path.glob("lib/python*/site-packages"))
    assert (packages / "robust_perception" / "py.typed").is_file()
    ask = "from ament_index_python.packages import *; print(get_package_share_directory('robust_perception'))"
    if importlib.util.find_spec("ament_index_python") is not None:
        environ = clean_environment() | {"AMENT_PREFIX_PATH": str(tmp_path)}
        found = subprocess.run(
            [sys.executable, "-c", ask], env=environ, cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert Path(found.stdout.strip()) == share
    where = "from robust_perception import environment; print(environment.share_folder())"
    environ = clean_environment() | {"PYTHONPATH": str(packages), "AMENT_PREFIX_PATH": str(tmp_path)}
    found = subprocess.run(
        [sys.executable, "-c", where], env=environ, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert Path(found.stdout.strip()) == share, "the installed package finds its own data files"


def test_colcon_builds_it_as_an_ament_python_package(source: Path, tmp_path: Path) -> None:
    pytest.importorskip("colcon_ros")
    colcon = [sys.executable, "-m", "colcon"]
    listed = run([*colcon, "list", "--base-paths", source], cwd=tmp_path).strip().splitlines()
    assert len(listed) == 1, f"expected one package, colcon found {listed}"
    assert listed[0].startswith("robust_perception\t")
    assert listed[0].endswith("(ros.ament_python)")
    run([*colcon, "build", "--base-paths", source], cwd=tmp_path)
    prefix = tmp_path / "install" / "robust_perception"
    installed = {file.name for file in (prefix / "lib" / "robust_perception").iterdir()}
    assert installed >= EXECUTABLES
    assert (prefix / "share" / "ament_index" / "resource_index" / "packages" / "robust_perception").is_file()
    assert (prefix / "share" / "robust_perception" / "launch" / "fusion.launch.py").is_file()


def test_share_folder_of_the_source_tree(repository: Path) -> None:
    assert environment.share_folder({}) == repository


def test_preparing_sets_only_what_is_unset() -> None:
    fresh: dict[str, str] = {}
    environment.prepare(fresh)
    assert Path(fresh[environment.profile_variable(fresh)]).is_file()
    assert len([name for name in environment.PROFILE_VARIABLES if name in fresh]) == 1
    said = {"FASTRTPS_DEFAULT_PROFILES_FILE": "/mine.xml", "AMENT_PREFIX_PATH": "/opt/ros/jazzy"}
    kept = dict(said)
    environment.prepare(kept)
    assert kept == said


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_pip_installs_it_into_an_environment_that_has_nothing(
    source: Path, repository: Path, tmp_path: Path
) -> None:
    """As a user does it: dependencies from the index, no ROS, no torch. The rest says what is missing."""
    ours = ("_ROS_WHEELS_BOOTSTRAP_COMPLETE", "LD_LIBRARY_PATH")  # set by the ROS wheels of this environment
    environ = {name: value for name, value in clean_environment().items() if name not in ours}
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True, env=environ)
    pip = [
        venv / "bin" / "python",
        "-m",
        "pip",
        "install",
        "-q",
        "-c",
        repository / "tools" / "constraints.txt",
    ]
    subprocess.run([*pip, source], check=True, env=environ, cwd=tmp_path)
    assert {file.name for file in (venv / "lib" / "robust_perception").iterdir()} == EXECUTABLES
    index = venv / "share" / "ament_index" / "resource_index" / "packages"
    assert (index / "robust_perception").is_file()
    done = subprocess.run(
        [venv / "bin" / "robust-perception", "doctor", "--json"],
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    found = {f["subject"]: f for f in json.loads(done.stdout)["findings"]}
    assert found["ROS"]["state"] == "fault"
    assert "'.[ros]'" in found["ROS"]["mend"]
    assert found["backend onnxruntime"]["state"] == "ok"
    assert all(
        finding["state"] == "ok" for subject, finding in found.items() if subject.startswith("library")
    )
    node = subprocess.run(
        [venv / "lib" / "robust_perception" / "fusion_node"],
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert node.returncode == 1
    assert "Traceback" not in node.stderr
    assert "robust-perception doctor" in node.stderr
