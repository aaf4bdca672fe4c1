"""A fault script by file or by the name of one of the package's."""

from __future__ import annotations

from pathlib import Path

from robust_perception.environment import share_folder
from robust_perception.faults.errors import ScriptNotFoundError
from robust_perception.faults.script import FaultScript


def find_script(name: str) -> FaultScript:
    """Read a script.

    Args:
        name: a file, the name of a script in config/faults, or empty for no faults.

    Raises:
        ScriptNotFoundError: neither.
        FaultError: the script is not valid; the message names file, line and key.
    """
    if not name:
        return FaultScript()
    folder = share_folder() / "config" / "faults"
    try:
        path = Path(name).expanduser()
        if not path.is_file() and path.name == name and not path.suffix:
            path = folder / f"{name}.yaml"
        there = path.is_file()
    except (OSError, RuntimeError):  # too long, not to be entered, or the home of nobody
        there = False
    if not there:
        known = ", ".join(sorted(file.stem for file in folder.glob("*.yaml")))
        msg = f"faults: expected a file, or one of {known}, got {name!r}"
        raise ScriptNotFoundError(msg)
    return FaultScript.load(path)
