"""A fault script by file or by the name of one of the package's."""

from __future__ import annotations

from pathlib import Path

from robust_perception.environment import share_folder
from robust_perception.ros.errors import ParameterError
from robust_perception.simulation.errors import FaultError
from robust_perception.simulation.faults import FaultScript


def load_script(name: str) -> FaultScript:
    """Read a script.

    Args:
        name: a file, the name of a script in config/faults, or empty for no faults.

    Raises:
        ParameterError: neither, or the script is not valid; the message names file, line and key.
    """
    if not name:
        return FaultScript()
    path = Path(name).expanduser()
    folder = share_folder() / "config" / "faults"
    if not path.is_file() and path.name == name and not path.suffix:
        path = folder / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in folder.glob("*.yaml")))
        raise ParameterError("faults", f"a file, or one of {known}", name)
    try:
        return FaultScript.load(path)
    except FaultError as error:
        raise ParameterError("faults", "a valid script", str(error)) from None
