"""The fault script that a node's parameter names."""

from __future__ import annotations

from robust_perception.faults.errors import FaultError, ScriptNotFoundError
from robust_perception.faults.find import find_script
from robust_perception.faults.script import FaultScript
from robust_perception.ros.errors import ParameterError, RosError


def load_script(name: str) -> FaultScript:
    """`faults.find.find_script`; a RosError about the parameter when there is none or it is not valid."""
    try:
        return find_script(name)
    except ScriptNotFoundError as error:
        raise RosError(f"parameter {error}") from None
    except FaultError as error:
        raise ParameterError("faults", "a valid script", str(error)) from None
