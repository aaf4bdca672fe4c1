"""Generate the interface types that the ROS wheels lack, once, into a virtual environment.

    python tools/interfaces.py --python .venv/bin/python

The wheels hold the message generators of ROS 2 but neither vision_msgs nor audio_common_msgs. This makes the
few types of `config/interfaces` with gcc and cmake in an environment of its own, compares their hashes with
those of the released packages, keeps the result under `.cache/interfaces/<key>` and copies it into the
environment. It does nothing where the real packages can be imported. Needs the standard library only.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO

REPOSITORY = Path(__file__).resolve().parents[1]
INTERFACES = REPOSITORY / "config" / "interfaces"
HASHES = REPOSITORY / "robust_perception" / "interface_hashes.json"
CACHE = REPOSITORY / ".cache" / "interfaces"
PACKAGES = ("audio_common_msgs", "vision_msgs")
MARK = "generated_by_robust_perception.json"

# The wheels do not name what they need to build, so all of it stands here.
GENERATORS = (
    "ros-kilted-rosidl-default-generators==1.7.1",
    "ros-kilted-rosidl-core-generators==0.3.1",
    "ros-kilted-ament-cmake==2.7.3",
    "ros-kilted-ament-cmake-include-directories==2.7.3",
    "ros-kilted-ament-cmake-ros-core==0.14.5",
    "ros-kilted-ament-package==0.17.2",
    "ros-kilted-std-msgs==5.5.1",
    "ros-kilted-geometry-msgs==5.5.1",
    "catkin_pkg==1.1.1",
    "empy==4.2.1",
    "lark-parser==0.12.0",
    "setuptools==79.0.1",
)

CMAKE_LISTS = """\
cmake_minimum_required(VERSION 3.16)
project({package})
find_package(ament_cmake REQUIRED)
find_package(rosidl_default_generators REQUIRED)
find_package(std_msgs REQUIRED)
find_package(geometry_msgs REQUIRED)
file(GLOB messages RELATIVE ${{CMAKE_CURRENT_SOURCE_DIR}} msg/*.msg)
rosidl_generate_interfaces(${{PROJECT_NAME}} ${{messages}} DEPENDENCIES std_msgs geometry_msgs)
ament_package()
"""

PACKAGE_XML = """\
<?xml version="1.0"?>
<package format="3">
  <name>{package}</name>
  <version>0.0.0</version>
  <description>Types of {package} for machines without the released package.</description>
  <maintainer email="robust-perception@users.noreply.github.com">The robust_perception authors</maintainer>
  <license>Apache-2.0</license>
  <buildtool_depend>ament_cmake</buildtool_depend>
  <buildtool_depend>rosidl_default_generators</buildtool_depend>
  <depend>std_msgs</depend>
  <depend>geometry_msgs</depend>
  <exec_depend>rosidl_default_runtime</exec_depend>
  <member_of_group>rosidl_interface_packages</member_of_group>
  <export><build_type>ament_cmake</build_type></export>
</package>
"""

# Run by the target's Python: what it is, and which of the packages it already has and from where.
FACTS = """
import importlib.util, json, sys, sysconfig
spec = {p: importlib.util.find_spec(p) for p in sys.argv[1:]}
print(json.dumps({
    "prefix": sys.prefix, "include": sysconfig.get_paths()["include"],
    "cache_tag": sys.implementation.cache_tag, "platform": sysconfig.get_platform(),
    "numpy": __import__("importlib.metadata", fromlist=["version"]).version("numpy"),
    "found": {p: (s.submodule_search_locations or [s.origin])[0] for p, s in spec.items() if s},
}))
"""


class InterfacesError(Exception):
    """The types could not be generated; the message says what is missing or where the log is."""


@dataclass(frozen=True)
class Facts:
    """An interpreter: its folders, its platform and the interface packages it can already import."""

    prefix: Path
    include: Path
    cache_tag: str
    platform: str
    numpy: str
    found: dict[str, str]


def facts_of(python: Path) -> Facts:
    """Version, platform, folders and already importable interface packages of an interpreter."""
    done = subprocess.run([python, "-c", FACTS, *PACKAGES], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        msg = f"{python} does not run or has no numpy: {done.stderr.strip()[-300:]}"
        raise InterfacesError(msg)
    facts = json.loads(done.stdout)
    return Facts(**facts | {"prefix": Path(facts["prefix"]), "include": Path(facts["include"])})


def key_of(facts: Facts) -> str:
    """Name of the cache entry: the same files, generators, Python and numpy give the same types."""
    digest = hashlib.sha256()
    for file in sorted([*INTERFACES.glob("*/msg/*.msg"), HASHES, Path(__file__)]):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    digest.update(json.dumps([facts.cache_tag, facts.platform, facts.numpy]).encode())
    return f"{facts.cache_tag}-{digest.hexdigest()[:16]}"


def check_hashes(prefix: Path) -> None:
    """Compare the generated types with the released ones; InterfacesError names every difference."""
    expected: dict[str, str] = json.loads((HASHES).read_text(encoding="utf-8"))
    wrong = []
    for name, hash_string in expected.items():
        package, _, message = name.split("/")
        description = json.loads(
            (prefix / "share" / package / "msg" / f"{message}.json").read_text(encoding="utf-8")
        )
        got = {entry["type_name"]: entry["hash_string"] for entry in description["type_hashes"]}[name]
        if got != hash_string:
            wrong.append(f"{name}: expected {hash_string}, got {got}")
    if wrong:
        msg = (
            "the generated types differ from the released ones and would not connect to a robot:\n"
            + "\n".join(wrong)
        )
        raise InterfacesError(msg)


def missing_tools(facts: Facts) -> list[str]:
    """Debian packages that building needs and this machine lacks."""
    missing = []
    if shutil.which("g++") is None:
        missing.append("g++")
    if shutil.which("cmake") is None:
        missing.append("cmake")
    if shutil.which("make") is None:
        missing.append("make")
    if not (facts.include / "Python.h").is_file():
        missing.append(f"{facts.include.name}-dev")
    return missing


def generate(python: Path, facts: Facts, entry: Path) -> Path:
    """Build both packages; returns the folder to copy into the environment (`entry`/prefix)."""
    missing = missing_tools(facts)
    if missing:
        msg = (
            f"the message types are compiled once and this machine lacks {', '.join(missing)}; "
            f"install: sudo apt-get install {' '.join(missing)}"
        )
        raise InterfacesError(msg)
    shutil.rmtree(entry, ignore_errors=True)
    entry.mkdir(parents=True)
    build, log = entry / "build", entry / "log.txt"
    with log.open("w", encoding="utf-8") as out:
        _run([python, "-m", "venv", build], out, None)
        tool = build / "bin" / "python"
        _run([tool, "-m", "pip", "install", "-q", f"numpy=={facts.numpy}", *GENERATORS], out, None)
        _mend_exported_paths(build, facts)
        for package in PACKAGES:
            _build_package(package, build, entry / "prefix", out)
    check_hashes(entry / "prefix")
    shutil.rmtree(build)
    return entry / "prefix"


def _mend_exported_paths(build: Path, facts: Facts) -> None:
    """The wheels' CMake files name the Python they were built with; put this one's folders there."""
    numpy_include = next(build.glob("lib/python*/site-packages/numpy/_core/include"))
    for file in build.glob("share/**/*.cmake"):
        text = file.read_text(encoding="utf-8")
        mended = re.sub(r'/opt/python/cp[^;"\s)]*/numpy/_core/include', str(numpy_include), text)
        mended = re.sub(r'/opt/python/cp[^;"\s)]*/include/python[^;"\s)/]*', str(facts.include), mended)
        if mended != text:
            file.write_text(mended, encoding="utf-8")


def _build_package(package: str, build: Path, prefix: Path, out: IO[str]) -> None:
    source, binary = build / "source" / package, build / "binary" / package
    shutil.copytree(INTERFACES / package / "msg", source / "msg")
    (source / "CMakeLists.txt").write_text(CMAKE_LISTS.format(package=package), encoding="utf-8")
    (source / "package.xml").write_text(PACKAGE_XML.format(package=package), encoding="utf-8")
    # Nothing of the caller's environment: a sourced ROS or another environment's libraries would be found
    # first.
    environ = {
        "PATH": f"{build / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "HOME": os.environ.get("HOME", "/"),
        "AMENT_PREFIX_PATH": str(build),
    }
    options: dict[str, str | Path] = {
        "CMAKE_PREFIX_PATH": build,
        "CMAKE_INSTALL_PREFIX": prefix,
        "Python3_EXECUTABLE": build / "bin" / "python3",
        "CMAKE_BUILD_TYPE": "Release",
        "BUILD_TESTING": "OFF",
    }
    _run(
        ["cmake", "-S", source, "-B", binary, *(f"-D{name}={value}" for name, value in options.items())],
        out,
        environ,
    )
    jobs = str(len(os.sched_getaffinity(0)))
    _run(["cmake", "--build", binary, "-j", jobs, "--target", "install"], out, environ)


def _run(command: list[str | Path], out: IO[str], environ: dict[str, str] | None) -> None:
    words = [str(word) for word in command]
    done = subprocess.run(words, stdout=out, stderr=subprocess.STDOUT, env=environ, check=False)
    if done.returncode != 0:
        log = Path(out.name)
        tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
        msg = f"`{' '.join(words[:4])} ...` ended with {done.returncode}; the end of {log}:\n{tail}"
        raise InterfacesError(msg)


def install(prefix: Path, target: Path, key: str) -> None:
    """Copy a generated prefix into an environment, taking out what an earlier one left there."""
    mark = target / "share" / MARK
    if mark.is_file():
        for name in json.loads(mark.read_text(encoding="utf-8"))["files"]:
            (target / name).unlink(missing_ok=True)
    names = sorted(
        str(f.relative_to(prefix)) for f in prefix.rglob("*") if f.is_file() and "include" not in f.parts
    )
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(prefix / name, target / name)
    mark.write_text(json.dumps({"key": key, "files": names}, indent=1), encoding="utf-8")


def ensure(python: Path, cache: Path = CACHE) -> str:
    """Make the types importable for `python`; returns one line that says what was done.

    Raises:
        InterfacesError: a tool is missing, the build failed or a hash differs.
    """
    facts = facts_of(python)
    target, key = facts.prefix, key_of(facts)
    mark = target / "share" / MARK
    complete = len(facts.found) == len(PACKAGES)
    if complete and not mark.is_file():
        return f"interface types: the real packages are there ({', '.join(sorted(facts.found.values()))})"
    if complete and json.loads(mark.read_text(encoding="utf-8"))["key"] == key:
        return "interface types: already generated"
    entry = cache / key
    fresh = not (entry / "complete").is_file()
    if fresh:
        print(
            "generating the message types of vision_msgs and audio_common_msgs (once, about a minute) ...",
            flush=True,
        )
        generate(python, facts, entry)
        (entry / "complete").touch()
    install(entry / "prefix", target, key)
    return (
        f"interface types: {'generated' if fresh else 'taken from the cache'}, hashes equal the released ones"
    )


def main() -> int:
    """Command line; see the head of this file."""
    parser = argparse.ArgumentParser(description="Generate the interface types that the ROS wheels lack.")
    parser.add_argument(
        "--python", type=Path, default=Path(sys.executable), help="interpreter of the environment"
    )
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder that keeps generated types")
    options = parser.parse_args()
    try:
        print(ensure(options.python, options.cache))
    except InterfacesError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
