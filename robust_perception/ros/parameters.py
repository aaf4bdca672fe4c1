"""Parameters of a node as a table: a row gives the descriptor, the check, the reason of a refusal, the docs.

When a parameter may change:
    live          at any time; the node acts on the new value
    configured    only before `configure`, or after `cleanup`: something was built from it
    start         only before the node starts (read-only to ROS)
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    ParameterType,
    SetParametersResult,
)
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.parameter import Parameter as RosParameter

from robust_perception.ros.errors import ParameterError

Value = bool | int | float | str | list[str]
Change = Literal["live", "configured", "start"]

_KINDS: dict[type, tuple[int, str]] = {
    bool: (ParameterType.PARAMETER_BOOL, "bool"),
    int: (ParameterType.PARAMETER_INTEGER, "int"),
    float: (ParameterType.PARAMETER_DOUBLE, "double"),
    str: (ParameterType.PARAMETER_STRING, "string"),
    list: (ParameterType.PARAMETER_STRING_ARRAY, "string[]"),
}
_WHEN = {
    "live": "any time",
    "configured": "while unconfigured",
    "start": "at start only",
}
_FOREIGN = ("qos_overrides.", "use_sim_time", "start_type_description_service")


@dataclass(frozen=True)
class Parameter:
    """One row of the table."""

    name: str
    default: Value
    description: str
    """One sentence with the unit."""
    change: Change = "live"
    low: float | None = None
    """Least value, inclusive."""
    high: float | None = None
    """Greatest value, inclusive."""
    choices: tuple[str, ...] = ()
    """Allowed strings, or allowed entries of a list of strings; empty allows any."""

    @property
    def kind(self) -> str:
        """The type's name in ROS."""
        return _KINDS[type(self.default)][1]

    @property
    def allowed(self) -> str:
        """The allowed values in words."""
        if self.choices:
            names = ", ".join(choice or "''" for choice in self.choices)
            return f"any of {names}" if isinstance(self.default, list) else f"one of {names}"
        if self.low is None and self.high is None:
            return f"a {self.kind}"
        if self.high is None:
            return f"at least {self.low:g}"
        if self.low is None:
            return f"at most {self.high:g}"
        return f"{self.low:g} to {self.high:g}"

    def descriptor(self) -> ParameterDescriptor:
        """What `ros2 param describe` shows."""
        constraints = f"{self.allowed}; changes {_WHEN[self.change]}"
        descriptor = ParameterDescriptor(
            name=self.name,
            type=_KINDS[type(self.default)][0],
            description=self.description,
            additional_constraints=constraints,
            read_only=self.change == "start",
        )
        if self.low is None and self.high is None:
            return descriptor
        if isinstance(self.default, float):
            low = -math.inf if self.low is None else self.low
            high = math.inf if self.high is None else self.high
            descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
        else:
            low_int = -(1 << 63) if self.low is None else int(self.low)
            high_int = (1 << 63) - 1 if self.high is None else int(self.high)
            descriptor.integer_range = [IntegerRange(from_value=low_int, to_value=high_int, step=1)]
        return descriptor

    def check(self, value: object) -> None:
        """ParameterError unless the value is allowed."""
        whole = type(self.default)
        if whole is float and isinstance(value, float) and not math.isfinite(value):
            raise ParameterError(self.name, f"a finite {self.kind}", value)
        if isinstance(self.default, list):
            entries = list(value) if isinstance(value, (list, tuple)) else None
            if entries is None or not all(isinstance(entry, str) for entry in entries):
                raise ParameterError(self.name, f"a {self.kind}", value)
            if self.choices and not set(entries) <= {*self.choices, ""}:
                raise ParameterError(self.name, self.allowed, value)
            return
        if type(value) is not whole:
            raise ParameterError(self.name, f"a {self.kind}", value)
        if self.choices and value not in self.choices:
            raise ParameterError(self.name, self.allowed, value)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            below = self.low is not None and value < self.low
            above = self.high is not None and value > self.high
            if below or above:
                raise ParameterError(self.name, self.allowed, value)


def path_of(name: str, text: str) -> Path:
    """The path that a parameter says, `~` and `~user` written out; ParameterError for the home of nobody."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ParameterError(name, "a path", f"{text} ({error})") from None


class ParameterTable:
    """The parameters of one node: declares them, guards changes, hands out values.

    Args:
        node: the node that owns them.
        rows: the table.
        locked: whether `configured` parameters may not change now.
        changed: called with name and value for every live change that was accepted.

    Raises:
        ParameterError: a value given at start is not allowed; the message says which are.
    """

    def __init__(
        self,
        node: Any,
        rows: Sequence[Parameter],
        locked: Callable[[], bool] = lambda: False,
        changed: Callable[[str, Any], None] = lambda name, value: None,
    ) -> None:
        self._rows = {row.name: row for row in rows}
        self._locked, self._changed = locked, changed
        self._values: dict[str, Any] = {}
        for row in rows:
            self._values[row.name] = self._declare(node, row)
        self._warn_of_unknown(node)
        node.add_on_set_parameters_callback(self._on_set)

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def _declare(self, node: Any, row: Parameter) -> Any:
        try:
            value = node.declare_parameter(row.name, row.default, row.descriptor()).value
        except InvalidParameterTypeException as error:
            given = self._given(node, row.name, error)
            whole = isinstance(row.default, float) and type(given) is int
            expected = f"a {row.kind}, as {given}.0 is one" if whole else f"a {row.kind}"
            raise ParameterError(row.name, expected, given) from None
        except InvalidParameterValueException as error:
            raise ParameterError(row.name, row.allowed, self._given(node, row.name, error)) from None
        if isinstance(row.default, list):
            # An empty list has no type in a params file, and comes as a parameter that is not set.
            value = list(value or ())
        row.check(value)
        return value

    @staticmethod
    def _given(node: Any, name: str, error: Exception) -> object:
        """What command line or params file say; rclpy keeps it private, hence the fallback."""
        given = getattr(node, "_parameter_overrides", {}).get(name)
        return str(error) if given is None else given.value

    def _warn_of_unknown(self, node: Any) -> None:
        # rclpy keeps what command line and params file gave and says nothing about names nobody declares.
        given: Iterable[str] = getattr(node, "_parameter_overrides", {})
        for name in given:
            if name not in self._rows and not name.startswith(_FOREIGN):
                near = difflib.get_close_matches(name, self._rows, n=1)
                hint = f"; did you mean {near[0]}?" if near else ""
                node.get_logger().warning(
                    f"parameter {name} is not known to this node and has no effect{hint}"
                )

    def _on_set(self, parameters: Sequence[RosParameter]) -> SetParametersResult:
        known = [parameter for parameter in parameters if parameter.name in self._rows]
        for parameter in known:
            row = self._rows[parameter.name]
            try:
                row.check(parameter.value)
            except ParameterError as error:
                return SetParametersResult(successful=False, reason=str(error))
            # Whoever loads a whole file sets what has not changed, too.
            if row.change == "configured" and self._locked() and self._differs(parameter):
                reason = (
                    f"parameter {row.name}: changes only while the node is unconfigured; "
                    "deactivate and clean it up first"
                )
                return SetParametersResult(successful=False, reason=reason)
        for parameter in known:
            self._values[parameter.name] = parameter.value
            self._changed(parameter.name, parameter.value)
        return SetParametersResult(successful=True)

    def _differs(self, parameter: RosParameter) -> bool:
        now = self._values[parameter.name]
        return bool(list(parameter.value) != now if isinstance(now, list) else parameter.value != now)


def to_markdown(title: str, rows: Sequence[Parameter]) -> str:
    """The table as Markdown."""
    lines = [
        f"## {title}",
        "",
        "| name | type | default | allowed | changes | meaning |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        default = str(row.default).lower() if isinstance(row.default, bool) else str(row.default) or "''"
        allowed = "" if row.allowed == f"a {row.kind}" else row.allowed
        cells = (f"`{row.name}`", row.kind, f"`{default}`", allowed, _WHEN[row.change], row.description)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])
