"""Reads fault scripts: YAML to `Fault`s, with every mistake named by file, line and key.

    seed: 7                     # optional, of what is left to chance
    faults:
      - {at: 2.0, until: 4.0, sensor: rgb, fault: loss}
      - {at: 5.0, sensor: [depth, thermal], fault: noise, sigma: 0.2}   # open: until a return, or for good
      - {at: 9.0, sensor: depth, fault: return}
      - {at: 10.0, until: 12.0, sensor: all, fault: smoke, density: 0.8}

`sensor` is a sensor, a list of sensors, or `all`, which means every sensor the fault fits.
"""

from __future__ import annotations

import contextlib
import math
import sys
from typing import Any

import yaml

from robust_perception.faults.errors import FaultError
from robust_perception.faults.kinds import KINDS, Fault
from robust_perception.vocabulary import MODALITIES, Modality

_TOP = ("seed", "faults")
_COMMON = ("at", "until", "sensor", "fault")
_SENSORS = ", ".join(m.value for m in MODALITIES)


def parse(text: str, name: str) -> tuple[tuple[Fault, ...], int]:
    """Read a script.

    Args:
        text: the YAML.
        name: what messages call the file.

    Returns:
        The windows in the order of the file, one for each sensor named, and the seed.

    Raises:
        FaultError: it is not valid.
    """
    reader = _Reader(text, name)
    top = reader.mapping(reader.root, "the file", _TOP)
    seed = reader.value(top["seed"]) if "seed" in top else 0
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise reader.error(top["seed"], "seed", "an integer >= 0", seed)
    listed = top.get("faults")
    if not isinstance(listed, yaml.SequenceNode):
        got = "none" if listed is None else reader.value(listed)
        raise reader.error(listed or reader.root, "faults", "a list", got)
    faults: list[Fault] = []
    for node in listed.value:
        _add(reader, node, faults)
    return tuple(faults), seed


def _add(reader: _Reader, node: yaml.Node, faults: list[Fault]) -> None:
    every = (*_COMMON, *dict.fromkeys(key for kind in KINDS.values() for key, _, _ in kind.keys))
    entry = reader.mapping(node, "a fault", every)
    for key in ("at", "sensor", "fault"):
        if key not in entry:
            raise reader.error(node, key, "this key", "none")
    kind_name = reader.value(entry["fault"])
    if not isinstance(kind_name, str) or kind_name not in KINDS:
        raise reader.error(entry["fault"], "fault", f"one of {', '.join(KINDS)}", kind_name)
    kind = KINDS[kind_name]
    own = [key for key, _, _ in kind.keys]
    allowed = ("at", "sensor", "fault") if kind_name == "return" else (*_COMMON, *own)
    for key in entry:
        if key not in allowed:
            raise reader.error(entry[key], key, f"for {kind_name} only the keys {', '.join(allowed)}", key)
    at = reader.number(entry["at"], "at", 0.0, math.inf)
    values = {}
    for key, low, high in kind.keys:
        if key not in entry:
            raise reader.error(node, key, f"a number from {low:g} to {high:g} for {kind_name}", "none")
        values[key] = reader.number(entry[key], key, low, high)
    sensors = _sensors(reader, entry["sensor"], kind_name)
    if kind_name == "return":
        _return(reader, node, faults, sensors, at)
        return
    until = math.inf
    if "until" in entry:
        until = reader.number(entry["until"], "until", 0.0, math.inf)
        if until <= at:
            raise reader.error(entry["until"], "until", f"seconds after at = {at:g}", until)
    faults += [Fault(at, until, sensor, kind_name, dict(values)) for sensor in sensors]


def _return(
    reader: _Reader, node: yaml.Node, faults: list[Fault], sensors: tuple[Modality, ...], at: float
) -> None:
    ended = False
    for index, fault in enumerate(faults):
        if fault.sensor in sensors and fault.at < at and fault.until == math.inf:
            faults[index] = Fault(fault.at, at, fault.sensor, fault.kind, fault.values)
            ended = True
    if not ended:
        names = ", ".join(s.value for s in sensors)
        raise reader.error(node, "fault", f"an earlier fault of {names} without 'until' to end", "none")


def _sensors(reader: _Reader, node: yaml.Node, kind_name: str) -> tuple[Modality, ...]:
    fits = KINDS[kind_name].sensors
    named = reader.value(node)
    if named == "all":
        return fits
    names = named if isinstance(named, list) and named else [named]
    sensors = []
    for given in names:
        if given not in [m.value for m in MODALITIES]:
            raise reader.error(node, "sensor", f"one of {_SENSORS}, a list of them, or all", given)
        if Modality(given) not in fits:
            raise reader.error(
                node, "sensor", f"one of {', '.join(m.value for m in fits)} for {kind_name}", given
            )
        sensors.append(Modality(given))
    return tuple(dict.fromkeys(sensors))


class _Reader:
    """YAML nodes, which know their lines, and the messages about them."""

    def __init__(self, text: str, name: str) -> None:
        self._name = name
        try:
            self._loader = yaml.SafeLoader(text)
            root = self._loader.get_single_node()
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = f":{mark.line + 1}" if mark is not None else ""
            problem = getattr(error, "problem", None) or error
            msg = f"{name}{line}: expected YAML, got a mistake in it: {problem}"
            raise FaultError(msg) from None
        except RecursionError:
            msg = f"{name}: expected YAML of a few levels, got some nested too deeply to be read"
            raise FaultError(msg) from None
        if root is None:
            msg = f"{name}:1: expected 'faults' with a list, got an empty file"
            raise FaultError(msg)
        self.root: yaml.Node = root

    def value(self, node: yaml.Node) -> Any:
        try:
            return self._loader.construct_object(node, deep=True)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise self.error(node, "value", "plain YAML", getattr(error, "problem", error)) from None

    def number(self, node: yaml.Node, key: str, low: float, high: float) -> float:
        value = self.value(node)
        if isinstance(value, str) and isinstance(node, yaml.ScalarNode) and node.style is None:
            with contextlib.suppress(ValueError):
                value = float(value)  # YAML 1.1 reads 1e1 as text
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            span = f"from {low:g} to {high:g}" if high < math.inf else f">= {low:g}"
            raise self.error(node, key, f"a number {span}", value)
        if not value <= sys.float_info.max:  # a whole number may be larger than any float
            raise self.error(node, key, "a finite number", value if value == math.inf else "one too large")
        return float(value)

    def mapping(self, node: yaml.Node, what: str, allowed: tuple[str, ...]) -> dict[str, yaml.Node]:
        if not isinstance(node, yaml.MappingNode):
            raise self.error(node, what, f"keys and values, out of {', '.join(allowed)}", self.value(node))
        found: dict[str, yaml.Node] = {}
        for key_node, value_node in node.value:
            key = self.value(key_node)
            if key not in allowed:
                raise self.error(key_node, str(key), f"one of the keys {', '.join(allowed)}", key)
            if key in found:
                raise self.error(key_node, key, "each key once", "it twice")
            found[key] = value_node
        return found

    def error(self, node: yaml.Node, key: str, expected: str, got: object) -> FaultError:
        shown = got if got in ("none", "it twice", "one too large") else repr(got)
        return FaultError(f"{self._name}:{node.start_mark.line + 1}: {key}: expected {expected}, got {shown}")
