"""The fault script that a node's parameter names."""

from __future__ import annotations

from robust_perception.faults.errors import FaultError
from robust_perception.faults.find import find_script
from robust_perception.faults.script import FaultScript
from robust_perception.ros.errors import ParameterError


def load_script(name: str) -> FaultScript:
    """`faults.find.find_script`; a ParameterError when there is no such script or it is not valid."""
    try:
        return find_script(name)
    except FaultError as error:
        expected = "a file, or the name of a script in config/faults"
        raise ParameterError("faults", expected, str(error)) from None
