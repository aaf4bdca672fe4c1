"""What the process must find in its environment before ROS starts, and where this package's files are.

ROS 2 is configured through environment variables that are read once, when the first node starts. Imports no
rclpy, so that it can run before it.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Literal

NAME = "robust_perception"
PROFILE_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
"""Read by Fast DDS 3 (ROS 2 Kilted on) and by Fast DDS 2 (before)."""

GRAPHICS_PACKAGES = ("libegl1", "libgl1-mesa-dri", "libgl1")
"""Debian packages with which the simulation renders without a display; tools/machine.py looks for each."""

_BEFORE_KILTED = ("humble", "iron", "jazzy")

World = Literal["apt", "wheels", "none"]


def ros_world(environ: Mapping[str, str] = os.environ) -> World:
    """Where rclpy comes from: `apt` (a sourced ROS installation), `wheels` (Python packages) or `none`."""
    if importlib.util.find_spec("rclpy") is None:
        return "none"
    if importlib.util.find_spec("ros_wheels_bootstrapper") is not None:
        return "wheels"
    return "apt" if environ.get("ROS_DISTRO") else "none"


def profile_variable(environ: Mapping[str, str] = os.environ) -> str:
    """The variable that this ROS reads a Fast DDS profile from; Kilted warns of the older one."""
    new, old = PROFILE_VARIABLES
    before = ros_world(environ) == "apt" and environ.get("ROS_DISTRO") in _BEFORE_KILTED
    return old if before else new


def share_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Folder that holds this package's `config`, `launch` and `models`.

    The source tree when the package runs from it, else share/robust_perception below the first prefix that
    has it, out of AMENT_PREFIX_PATH and this Python's own.

    Raises:
        FileNotFoundError: the package is neither a source tree nor installed with its data files.
    """
    source_tree = Path(__file__).resolve().parents[1]
    if (source_tree / "package.xml").is_file() and (source_tree / "setup.py").is_file():
        return source_tree
    prefixes = [*environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep), sys.prefix]
    folders = [Path(prefix) / "share" / NAME for prefix in prefixes if prefix]
    for folder in folders:
        if (folder / "package.xml").is_file():
            return folder
    msg = (
        f"the data files of {NAME} are in none of {', '.join(map(str, folders))}; "
        "install the package with `pip install .` or `colcon build` and source install/setup.bash"
    )
    raise FileNotFoundError(msg)


def prepare(environ: MutableMapping[str, str] = os.environ) -> None:
    """Set what ROS needs where the user set nothing: the Fast DDS profile and the ament index of the wheels.

    Call it before rclpy starts. Variables that have a value are left alone.
    """
    if not any(environ.get(variable) for variable in PROFILE_VARIABLES):
        environ[profile_variable(environ)] = str(share_folder(environ) / "config" / "fastdds.xml")
    if not environ.get("AMENT_PREFIX_PATH") and ros_world(environ) == "wheels":
        environ["AMENT_PREFIX_PATH"] = sys.prefix
