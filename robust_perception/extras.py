"""How to install what an extra of this package brings.

The package is on no public index, so an extra is installed from the source tree. On a robot, where colcon has
installed the package and apt has installed ROS, a few packages are named themselves. setup.py says what an
extra brings; the installed metadata repeat it.
"""

from __future__ import annotations

import importlib.metadata
import re

from robust_perception import environment

SHORT = 4
"""Most packages that are named one by one."""


def install(*extras: str) -> str:
    """The command that installs extras, in words.

    Args:
        extras: names out of `EXTRAS` of setup.py; none for what the package itself needs.
    """
    if environment.ros_world() != "apt":
        return f"pip install {_quoted(extras)} in the source tree"
    # The wheels of ROS never go over a robot's own ROS.
    wanted = tuple(extra for extra in extras if extra != "ros")
    if not wanted:
        return "see 'On a robot' in README.md"
    found = packages(*wanted)
    if 0 < len(found) <= SHORT:
        return "pip install " + " ".join(f"'{package}'" for package in found)
    return f"pip install {_quoted(wanted)} -c tools/constraints-apt.txt in the source tree"


def packages(*extras: str) -> list[str]:
    """What extras bring, names with versions; empty where no installed metadata say it."""
    try:
        said = importlib.metadata.requires(environment.NAME) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    brought = [
        requirement.partition(";")[0].strip()
        for requirement in said
        if (found := re.search(r"""extra == ["']([\w-]+)["']""", requirement)) and found[1] in extras
    ]
    return list(dict.fromkeys(brought))


def _quoted(extras: tuple[str, ...]) -> str:
    return f"'.[{','.join(extras)}]'" if extras else "."
