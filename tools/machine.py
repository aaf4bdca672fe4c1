"""What the machine offers and lacks, before anything is installed. Standard library only."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import urllib.error
import urllib.request
from pathlib import Path

OLDEST, NEWEST = (3, 10), (3, 13)
CPU_TORCH = "https://download.pytorch.org/whl/cpu"


def supported(version: tuple[int, int]) -> bool:
    """Whether every pinned dependency has wheels for this Python."""
    return OLDEST <= version <= NEWEST


def supported_python() -> str | None:
    """The running interpreter if it is supported, else the first supported one on PATH, else None."""
    if supported(sys.version_info[:2]):
        return sys.executable
    for minor in (11, 12, 13, 10):
        found = shutil.which(f"python3.{minor}")
        if found and subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode == 0:
            return found
    return None


def platform_fault() -> str | None:
    """Why the ROS wheels cannot run here, in words, or None."""
    machine = f"{platform.system()} {platform.machine()}"
    if (platform.system(), platform.machine()) == ("Linux", "x86_64"):
        return None
    return (
        f"this machine is {machine}; ROS 2 as Python packages exists for Linux x86_64 only. "
        "Use a machine with ROS 2 from apt (Ubuntu), where `colcon build` installs this package"
    )


def apt_ros() -> str | None:
    """Name of the ROS distribution that is installed from apt and sourced, or None."""
    distro = os.environ.get("ROS_DISTRO")
    if not distro:
        return None
    found = subprocess.run([sys.executable, "-c", "import rclpy"], capture_output=True, check=False)
    return distro if found.returncode == 0 else None


def missing_packages(*, build: bool) -> dict[str, str]:
    """Debian packages this machine lacks, each with what it is for.

    Args:
        build: whether message types have to be compiled, which needs a compiler.
    """
    missing = {}
    if importlib.util.find_spec("ensurepip") is None:
        missing[f"python3.{sys.version_info[1]}-venv"] = "makes the virtual environment"
    if build:
        if shutil.which("g++") is None:
            missing["g++"] = "compiles the message types"
        if shutil.which("cmake") is None:
            missing["cmake"] = "compiles the message types"
        if shutil.which("make") is None:
            missing["make"] = "compiles the message types"
        if not (Path(sysconfig.get_paths()["include"]) / "Python.h").is_file():
            missing[f"python3.{sys.version_info[1]}-dev"] = "headers of Python, for the message types"
    if not loads("libEGL.so.1"):
        missing["libegl1"] = "renders the simulation without a display"
    if not mesa_driver():
        missing["libgl1-mesa-dri"] = "renders the simulation in software where there is no GPU"
    if not (loads("libGL.so.1") or loads("libOpenGL.so.0")):
        missing["libgl1"] = "gives the simulation the functions of OpenGL"
    return missing


def loads(library: str) -> bool:
    """Whether the dynamic loader finds a library."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def mesa_driver() -> bool:
    """Whether Mesa's software renderer is there: as a driver file, or inside libgallium from Mesa 24 on."""
    folders = [f"/usr/lib/{platform.machine()}-linux-gnu", "/usr/lib64", "/usr/lib"]
    names = ["dri/swrast_dri.so", "dri/kms_swrast_dri.so", "libgallium-*.so"]
    return any(any(Path(folder).glob(name)) for folder in folders for name in names)


def cpu_torch_index() -> str | None:
    """Address of torch's index of CPU builds when it answers within 5 s; None leaves the choice to pip."""
    request = urllib.request.Request(f"{CPU_TORCH}/torch/", method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=5):
            return CPU_TORCH
    except (urllib.error.URLError, OSError):
        return None
