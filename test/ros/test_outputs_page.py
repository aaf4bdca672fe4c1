"""docs/outputs.md has every topic, key, state and reason that the nodes can say, and no other key."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from sensors import measure

from robust_perception.engine.engine import Engine
from robust_perception.faults.script import FaultScript
from robust_perception.presence import SensorState, SensorStatus
from robust_perception.ros import diagnostics
from robust_perception.ros.diagnostics import Link
from robust_perception.ros.messages import header
from robust_perception.ros.simulation_node import fault_statuses
from robust_perception.runtime.pacing import Situation
from robust_perception.vocabulary import MODALITIES, FrameSet, Pattern, Reason

PACKAGE = Path(__file__).resolve().parents[2] / "robust_perception"
PAGE = (PACKAGE.parent / "docs" / "outputs.md").read_text(encoding="utf-8")
NO_OUTPUT = ("ros/fusion_node.py", "runtime/pacing.py", "presence/synchronizer.py")
"""Where the reasons why there is no output are worded."""


def keys(*statuses: DiagnosticStatus) -> set[str]:
    names = {pair.key for status in statuses for pair in status.values}
    return {re.sub(r"encode/\w+_ms", "encode/<sensor>_ms", name) for name in names}


def documented(head: str) -> set[str]:
    """What stands in the first column of the tables with this head, within backquotes."""
    tables = re.findall(rf"^\| {head} \|.*\n((?:\|.*\n)+)", PAGE, re.M)
    cells = [row.split("|")[1] for table in tables for row in table.splitlines()]
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def test_keys_of_presence_and_diagnostics(tiny: Path) -> None:
    engine, rng = Engine.load(tiny), np.random.default_rng(0)
    frames = {m: measure(m, rng, 10**9, (64, 96), 1.0) for m in MODALITIES}
    frame_set = FrameSet(Pattern.of(MODALITIES), frames, MODALITIES[0])
    alive = {m: SensorStatus(m, SensorState.ALIVE, None) for m in MODALITIES}
    links = {m: Link() for m in MODALITIES}
    said = diagnostics.presence("fusion", engine.infer(frame_set), alive, engine.info, 1.0)
    running = diagnostics.engine_status("fusion", engine.info, (1.0,), 1)
    told = diagnostics.report("fusion", header(1, ""), Situation(None, "x"), alive, links, running)
    assert documented("key") == keys(*said.status, *told.status)


def test_keys_of_the_faults(tmp_path: Path) -> None:
    script = tmp_path / "noise.yaml"
    script.write_text("faults: [{at: 0.0, sensor: rgb, fault: noise, sigma: 1.0}]")
    assert keys(*fault_statuses(FaultScript.load(script), 1.0)) == {"time_s", "silent", "noise.sigma"}
    for name in ("time_s", "silent", "<fault>.<key>", "noise.sigma"):
        assert f"`{name}`" in PAGE


def test_states_and_reasons() -> None:
    assert documented("state") == {state.value for state in SensorState}
    assert documented("reason") - {"timeout"} >= {reason.value for reason in Reason}


def fixed_parts(node: ast.AST | None) -> list[str]:
    """The words of a string, or of one with values in it, that are always the same."""
    values = node.values if isinstance(node, ast.JoinedStr) else [node]
    return [str(v.value).strip() for v in values if isinstance(v, ast.Constant) and isinstance(v.value, str)]


def no_output_words(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "attr", "") == "_idle":
            yield from fixed_parts(node.value)
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Situation":
            yield from fixed_parts(node.args[1] if len(node.args) > 1 else None)
        elif isinstance(node, ast.FunctionDef) and node.name == "_forbidden":
            for inner in ast.walk(node):
                if isinstance(inner, ast.Return):
                    yield from fixed_parts(inner.value)


@pytest.mark.parametrize("file", NO_OUTPUT)
def test_reasons_why_there_is_no_output(file: str) -> None:
    words = [w for w in no_output_words(ast.parse((PACKAGE / file).read_text(encoding="utf-8"))) if w]
    assert words, "where have they gone?"
    table = "".join(row for row in re.findall(r"^\|.*\n", PAGE, re.M))
    assert [w for w in words if w not in table] == []


@pytest.mark.parametrize("file", ["publishers.py", "fusion_node.py", "simulation_node.py", "replay_node.py"])
def test_topics_and_their_types(file: str) -> None:
    rows = [row for row in PAGE.splitlines() if row.startswith(("|", "`replay_node`", "with the"))]
    found = 0
    for node in ast.walk(ast.parse((PACKAGE / "ros" / file).read_text(encoding="utf-8"))):
        makes = isinstance(node, ast.Call) and re.search(r"make$|_publisher$", ast.unparse(node.func))
        if not makes or len(node.args) != 3 or isinstance(node.args[1], ast.Name):
            continue
        kind, topics = ast.unparse(node.args[0]), fixed_parts(node.args[1])
        assert [row for row in rows if topics[-1] in row and f"/{kind}" in row], (topics, kind)
        found += 1
    assert found


def test_the_readme_leads_to_it() -> None:
    assert "(docs/outputs.md)" in (PACKAGE.parent / "README.md").read_text(encoding="utf-8")
