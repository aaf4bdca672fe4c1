"""Reads the real launch file where `launch` is not installed. This is not launch.

The Python wheels of ROS hold no `launch`. The stand-ins below understand just what `launch/fusion.launch.py`
uses: they check arguments against their choices as launch does and turn each `Node` into the command line
that launch_ros would run, from the executables installed in lib/robust_perception. Where launch_ros exists,
test_real_launch.py uses it.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml


@dataclass
class DeclareLaunchArgument:
    """An argument as declared."""

    name: str
    default_value: str
    description: str
    choices: Any = None


@dataclass
class OpaqueFunction:
    """A function that returns actions once the arguments are known."""

    function: Any


@dataclass
class LaunchConfiguration:
    """The value of an argument."""

    name: str

    def perform(self, context: Context) -> str:
        """The value in a context."""
        return context.launch_configurations[self.name]


@dataclass
class Context:
    """Every argument with the value it has."""

    launch_configurations: dict[str, str]


@dataclass
class LaunchDescription:
    """What a launch file returns."""

    entities: list[Any]


@dataclass
class Node:
    """A node as described."""

    package: str
    executable: str
    name: str
    namespace: str = ""
    parameters: list[Any] = field(default_factory=list)
    remappings: list[tuple[str, str]] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)
    output: str = "log"

    def command(self, prefix: Path, scratch: Path) -> list[str]:
        """The command line launch_ros builds, in its order."""
        words = [str(prefix / "lib" / self.package / self.executable), *self.arguments, "--ros-args"]
        words += ["-r", f"__node:={self.name}"]
        namespace = f"/{self.namespace.strip('/')}"
        words += ["-r", f"__ns:={namespace}"]
        full_name = f"{namespace.rstrip('/')}/{self.name}"
        for number, source in enumerate(self.parameters):
            if isinstance(source, dict):
                file = scratch / f"{self.name}_{number}.yaml"
                file.write_text(yaml.safe_dump({full_name: {"ros__parameters": source}}), encoding="utf-8")
                source = str(file)
            words += ["--params-file", source]
        for pair in self.remappings:
            words += ["-r", ":=".join(pair)]
        return words


@contextmanager
def stand_ins() -> Iterator[None]:
    """Make `launch` and `launch_ros` importable with the classes above, for the time of one import."""
    modules = {name: types.ModuleType(name) for name in ("launch", "launch.actions", "launch.substitutions")}
    modules |= {name: types.ModuleType(name) for name in ("launch_ros", "launch_ros.actions")}
    modules["launch"].__dict__.update(LaunchDescription=LaunchDescription)
    modules["launch.actions"].__dict__.update(
        DeclareLaunchArgument=DeclareLaunchArgument, OpaqueFunction=OpaqueFunction
    )
    modules["launch.substitutions"].__dict__.update(LaunchConfiguration=LaunchConfiguration)
    modules["launch_ros.actions"].__dict__.update(Node=Node)
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def describe(launch_file: Path) -> LaunchDescription:
    """What the launch file declares."""
    with stand_ins():
        spec = importlib.util.spec_from_file_location("launch_file_under_test", launch_file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    description = module.generate_launch_description()
    assert isinstance(description, LaunchDescription)
    return description


def nodes(launch_file: Path, said: Mapping[str, str], around: str | None = None) -> list[Node]:
    """The nodes that `ros2 launch <file> name:=value ...` would start; `around` is a group's namespace."""
    description = describe(launch_file)
    declared = {e.name: e for e in description.entities if isinstance(e, DeclareLaunchArgument)}
    unknown = set(said) - set(declared)
    if unknown:
        raise ValueError(f"arguments that the launch file does not declare: {sorted(unknown)}")
    values = {name: said.get(name, argument.default_value) for name, argument in declared.items()}
    for name, argument in declared.items():
        if argument.choices is not None and values[name] not in argument.choices:
            raise ValueError(f"{name}:={values[name]} is not one of {list(argument.choices)}")
    if around is not None:
        values["ros_namespace"] = around  # as PushRosNamespace leaves it
    functions = [e.function for e in description.entities if isinstance(e, OpaqueFunction)]
    return [node for function in functions for node in function(Context(values))]
