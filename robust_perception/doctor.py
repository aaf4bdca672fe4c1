"""What this machine has and lacks to run the graph, and how to fix each fault.

    robust-perception doctor [--json]

Exit code 0 when everything the graph needs is here: ROS, the message types, a backend and the model. A
warning does not change it.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal

from robust_perception import environment, extras
from robust_perception.engine import choice, cuda
from robust_perception.engine.errors import EngineError
from robust_perception.engine.manifest import Manifest
from robust_perception.engine.models import find_model

State = Literal["ok", "note", "warning", "fault"]
SHARED_MEMORY = Path("/dev/shm")
SHARED_MEMORY_NEEDED = 4 * 32 << 20
"""Bytes: the segments of fusion, source, recorder and one viewer under config/fastdds.xml."""

LIBRARIES = {
    "numpy": "numpy",
    "cv2": "opencv-python-headless",
    "yaml": "PyYAML",
    "rosbags": "rosbags",
    "mcap": "mcap",
}
"""Module -> the package that brings it where no system package does."""


@dataclass(frozen=True)
class Finding:
    """One thing looked at: its state, what was found and, unless all is well, what to do."""

    subject: str
    state: State
    found: str
    mend: str = ""


def python() -> Iterator[Finding]:
    """The interpreter."""
    found = f"{platform.python_version()} at {sys.prefix}"
    good = sys.version_info >= (3, 10)
    yield Finding("Python", "ok" if good else "fault", found, "" if good else "use Python 3.10 or newer")


def libraries() -> Iterator[Finding]:
    """The libraries every part needs, really imported: OpenCV may lack a system library."""
    for module, package in LIBRARIES.items():
        try:
            loaded = importlib.import_module(module)
        except ImportError as error:
            yield Finding(f"library {module}", "fault", str(error), f"pip install {package}")
        else:
            yield Finding(f"library {module}", "ok", version_of(loaded, package))


def version_of(module: ModuleType, package: str) -> str:
    """Version of an imported module, else of the package it came with, else the word "importable"."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return str(getattr(module, "__version__", None) or importlib.metadata.version(package))
    return "importable"


def ros() -> Iterator[Finding]:
    """Where ROS comes from, its middleware and the middleware's profile."""
    world = environment.ros_world()
    if world == "none":
        mend = "source /opt/ros/<distro>/setup.bash, or without ROS: " + extras.install("ros")
        yield Finding("ROS", "fault", "rclpy cannot be imported", mend)
        return
    distro = os.environ.get("ROS_DISTRO") or "kilted"
    yield Finding("ROS", "ok", f"{distro} from {'apt' if world == 'apt' else 'Python wheels'}")
    middleware = os.environ.get("RMW_IMPLEMENTATION") or "rmw_fastrtps_cpp"
    if middleware != "rmw_fastrtps_cpp":
        mend = "make its buffers larger than an image (0.9 MB at 640x480), or unset RMW_IMPLEMENTATION"
        yield Finding("middleware", "warning", f"{middleware}: config/fastdds.xml does not apply to it", mend)
        return
    yield Finding("middleware", "ok", middleware)
    yield profile(os.environ)


def profile(environ: Mapping[str, str]) -> Finding:
    """Whether Fast DDS will use a profile under which images arrive."""
    try:
        shipped = environment.share_folder(environ) / "config" / "fastdds.xml"
    except FileNotFoundError as error:
        found, _, mend = str(error).partition("; ")
        return Finding("Fast DDS profile", "fault", found, mend)
    said = next((environ[name] for name in environment.PROFILE_VARIABLES if environ.get(name)), "")
    if not said:
        if not shipped.is_file():
            return Finding("Fast DDS profile", "fault", f"{shipped} is missing", "install the package again")
        found = f"unset in this shell; the launch file and `robust-perception` use {shipped}"
        variable = environment.profile_variable(environ)
        mend = f"for `ros2 run` and camera drivers: export {variable}={shipped}"
        return Finding("Fast DDS profile", "warning", found, mend)
    try:
        ElementTree.parse(said)
    except (OSError, ElementTree.ParseError) as error:
        mend = f"unset {' and '.join(environment.PROFILE_VARIABLES)}, or point them at {shipped}"
        return Finding("Fast DDS profile", "fault", f"{said} cannot be read: {error}", mend)
    return Finding("Fast DDS profile", "ok", said)


def shared_memory() -> Iterator[Finding]:
    """Whether the segments of the profile fit."""
    if not SHARED_MEMORY.is_dir():
        mend = "mount a tmpfs on /dev/shm; images go over UDP until then"
        yield Finding("shared memory", "warning", f"{SHARED_MEMORY} is not there", mend)
        return
    free = shutil.disk_usage(SHARED_MEMORY).free
    good = free >= SHARED_MEMORY_NEEDED
    mend = "" if good else "give it more: docker run --shm-size=512m, or mount -o remount,size=512m /dev/shm"
    found = f"{free >> 20} MiB free in {SHARED_MEMORY}, {SHARED_MEMORY_NEEDED >> 20} MiB wanted"
    yield Finding("shared memory", "ok" if good else "warning", found, mend)


def interfaces() -> Iterator[Finding]:
    """Whether the message types are there and are the released ones."""
    table: dict[str, str] = json.loads(
        Path(__file__).with_name("interface_hashes.json").read_text(encoding="utf-8")
    )
    distro = os.environ.get("ROS_DISTRO", "<distro>")
    prefixes = [*os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep), sys.prefix]
    for package in sorted({name.split("/")[0] for name in table}):
        subject = f"interface types {package}"
        if importlib.util.find_spec(package) is None:
            apt = f"sudo apt install ros-{distro}-{package.replace('_', '-')}"
            mend = (
                f"{apt}; without ROS from apt: python tools/interfaces.py in the source tree, or `make demo`"
            )
            yield Finding(subject, "fault", "cannot be imported", mend)
            continue
        wanted = {name: value for name, value in table.items() if name.startswith(f"{package}/")}
        got = {name: type_hash(name, prefixes) for name in wanted}
        wrong = [name for name in wanted if got[name] not in (wanted[name], None)]
        unknown = sum(value is None for value in got.values())
        if wrong:
            mend = "remove the other package of this name: its types do not connect to the released ones"
            yield Finding(subject, "fault", f"another type than the released one: {', '.join(wrong)}", mend)
        elif unknown:
            yield Finding(subject, "ok", f"importable; {unknown} types carry no hash (ROS before Iron)")
        else:
            yield Finding(subject, "ok", f"{len(wanted)} hashes equal the released ones")


def type_hash(name: str, prefixes: Sequence[str]) -> str | None:
    """RIHS01 hash of an installed type such as `vision_msgs/msg/LabelInfo`; None where none is written."""
    for prefix in filter(None, prefixes):
        description = Path(prefix) / "share" / f"{name}.json"
        if description.is_file():
            entries = json.loads(description.read_text(encoding="utf-8"))["type_hashes"]
            return next((str(e["hash_string"]) for e in entries if e["type_name"] == name), None)
    return None


def backends() -> Iterator[Finding]:
    """Every backend, and why it is or is not usable."""
    for name, kind in choice.BACKENDS.items():
        reason = choice.probe(name)
        if reason is None:
            when = "" if kind.automatic else ", when it is named"
            yield Finding(f"backend {name}", "ok", f"runs {', '.join(kind.precisions)}{when}")
            continue
        found, _, mend = reason.removeprefix(f"{name}: ").partition("; ")
        yield Finding(f"backend {name}", "fault" if name == choice.EVERYWHERE else "note", found, mend)
    yield Finding("NVIDIA GPU", "note", gpu())


def gpu() -> str:
    """What the NVIDIA driver says of its first device."""
    reason = cuda.probe()
    if reason is not None:
        return reason.partition("; ")[0]
    try:
        found = cuda.device()
    except EngineError as error:
        return str(error)
    return f"{found}, {found.memory >> 20} MiB, driver {found.driver or 'unknown'}, CUDA {found.driver_cuda}"


def simulation() -> Iterator[Finding]:
    """Whether the simulated rig can render; a robot does without."""
    for module in ("mujoco", "scipy"):
        if importlib.util.find_spec(module) is None:
            mend = extras.install("sim")
            found = f"{module} is not installed; only the simulation needs it"
            yield Finding("simulation", "warning", found, mend)
            return
    devices = egl_devices()
    if not devices:
        mend = f"sudo apt-get install -y {' '.join(environment.GRAPHICS_PACKAGES)}"
        yield Finding("simulation", "warning", "EGL offers no device; only the simulation needs it", mend)
        return
    version = importlib.metadata.version("mujoco")
    yield Finding("simulation", "ok", f"mujoco {version}, EGL offers {devices} device(s)")


def egl_devices() -> int:
    """How many devices EGL offers for rendering without a display."""
    try:
        egl = ctypes.CDLL("libEGL.so.1")
    except OSError:
        return 0
    egl.eglGetProcAddress.restype = ctypes.c_void_p
    address = egl.eglGetProcAddress(b"eglQueryDevicesEXT")
    if not address:
        return 0
    count = ctypes.c_int()
    query = ctypes.CFUNCTYPE(ctypes.c_uint, ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_int))(
        address
    )
    return count.value if query(0, None, ctypes.byref(count)) else 0


def model(name: str) -> Iterator[Finding]:
    """Whether a model is there, with the graphs and references that its manifest describes."""
    try:
        folder = find_model(name)
        manifest = Manifest.load(folder)
    except EngineError as error:
        mend = "install the package again, or make a model: robust-perception train --help"
        yield Finding(f"model {name}", "fault", str(error), mend)
        return
    sensors = "+".join(str(modality) for modality in manifest.modalities)
    found = f"{manifest.name} {manifest.version} for {sensors} in {folder}"
    if manifest.references is None:
        mend = "export it again: robust-perception export --help"
        found += ", graphs as described; without references, what loads it cannot check what it computes"
        yield Finding(f"model {name}", "warning", found, mend)
        return
    yield Finding(f"model {name}", "ok", f"{found}, graphs and references as described")


def examine(model_name: str = "default") -> list[Finding]:
    """Look at everything, in the order in which it is needed."""
    parts: tuple[Callable[[], Iterator[Finding]], ...]
    parts = (
        python,
        libraries,
        ros,
        shared_memory,
        interfaces,
        backends,
        simulation,
        lambda: model(model_name),
    )
    return [finding for part in parts for finding in part()]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the findings; 0 when none is a fault."""
    parser = argparse.ArgumentParser(
        prog="robust-perception doctor", description="What this machine has and lacks, and how to fix it."
    )
    parser.add_argument(
        "--model", default="default", help="model folder or name to check (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    options = parser.parse_args(argv)
    findings = examine(options.model)
    works = all(finding.state != "fault" for finding in findings)
    if options.json:
        print(json.dumps({"works": works, "findings": [asdict(finding) for finding in findings]}, indent=1))
        return 0 if works else 1
    width = max(len(finding.subject) for finding in findings)
    for finding in findings:
        print(f"{finding.state:<8}{finding.subject:<{width + 2}}{finding.found}")
        if finding.mend:
            print(f"{'':<8}{'':<{width + 2}}-> {finding.mend}")
    if works:
        print("everything the graph needs is here")
    else:
        faults = [finding.subject for finding in findings if finding.state == "fault"]
        print(f"something the graph needs is not here, fix first: {', '.join(faults)}")
    return 0 if works else 1


if __name__ == "__main__":
    sys.exit(main())
