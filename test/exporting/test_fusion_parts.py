"""The parts of a fusion say together what the whole says, whatever the graph looks like."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from robust_perception.engine.manifest import (
    COARSE,
    COMMON,
    FINE,
    MAP_PART,
    OBJECTS_PART,
    PARTS,
    STAGES,
    Manifest,
)
from robust_perception.engine.model_files import GraphSpec
from robust_perception.engine.models import find_model
from robust_perception.exporting.fusion_parts import write_parts
from robust_perception.exporting.graph_nodes import made_by

SHAPE = [1, 2, 3, 2]
INPUTS = ("a", "b", "pattern")


class Whole:
    """A fusion of values of one shape; `outputs` is by name what it gives."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.values = ["a", "b"]
        rows = np.linspace(-1, 1, 16 * 12, dtype=np.float32).reshape(16, *SHAPE[1:])
        window = np.linspace(-0.3, 0.2, 4 * 9, dtype=np.float32).reshape(2, 2, 3, 3)
        table, window = numpy_helper.from_array(rows, "table"), numpy_helper.from_array(window, "window")
        flags = numpy_helper.from_array((np.arange(16) % 2 == 1).reshape(16, 1, 1, 1), "flags")
        scale = numpy_helper.from_array(np.float32(0.05), "scale")
        zero = numpy_helper.from_array(np.uint8(128), "zero")
        square = numpy_helper.from_array(np.float32([[0.7, -0.4], [0.2, 0.9]]), "square")
        self.constants = [table, window, flags, scale, zero, square]
        self.node("Gather", ["table", "pattern"])
        self.nodes.append(helper.make_node("Gather", ["flags", "pattern"], ["flag"], "flag of the pattern"))

    def node(self, kind: str, inputs: list[str], name: str | None = None) -> str:
        name = name or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], f"n{len(self.nodes)}"))
        self.values.append(name)
        return name

    def convolved(self, value: str) -> str:
        """With a window of more than one pixel."""
        name = self.node("Conv", [value, "window"])
        self.nodes[-1].attribute.append(helper.make_attribute("pads", [1, 1, 1, 1]))
        return name

    def rounded(self, value: str) -> str:
        """Through eight bits and back."""
        count = len(self.nodes)
        integer = f"q{count}"
        self.nodes.append(
            helper.make_node("QuantizeLinear", [value, "scale", "zero"], [integer], f"n{count}")
        )
        return self.node("DequantizeLinear", [integer, "scale", "zero"])

    def write(self, folder: Path, outputs: dict[str, str]) -> Manifest:
        """The graph as the fusion of the shipped model's manifest, which nothing else is looked at of."""
        for name, value in outputs.items():
            self.node("Identity", [value], name)
        floats = [helper.make_tensor_value_info(n, TensorProto.FLOAT, SHAPE) for n in ("a", "b")]
        pattern = helper.make_tensor_value_info("pattern", TensorProto.INT64, [1])
        given = [helper.make_tensor_value_info(n, TensorProto.FLOAT, SHAPE) for n in outputs]
        graph = helper.make_graph(self.nodes, "whole", [*floats, pattern], given, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, folder / "fusion.onnx")
        return Manifest.load(find_model("default"), check_files=False)


def run(path: Path, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    taken = {value.name: feeds[value.name] for value in session.get_inputs()}
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, taken), strict=True))


def in_parts(
    folder: Path, parts: dict[str, GraphSpec], feeds: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    known, given = dict(feeds), {}
    for stage in STAGES:
        made = [run(folder / parts[part].file, known) for part in stage if part in parts]
        for outputs in made:
            known, given = known | outputs, given | outputs
    return given


@st.composite
def graphs(draw: st.DrawFn) -> tuple[Whole, dict[str, str]]:
    whole = Whole()
    for _ in range(draw(st.integers(1, 18))):
        one, other = draw(st.sampled_from(whole.values)), draw(st.sampled_from(whole.values))
        kind = draw(st.sampled_from(["Add", "Sub", "Max", "Tanh", "Where", "Conv", "eight bits"]))
        if kind == "eight bits":
            whole.rounded(one)
        elif kind == "Conv":
            whole.convolved(one)
        else:
            whole.node(kind, {"Tanh": [one], "Where": ["flag", one, other]}.get(kind, [one, other]))
    names = ("class_scores", "confidence", "box_scores", "boxes")
    return whole, {name: draw(st.sampled_from(whole.values)) for name in names}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(graph=graphs(), bits=st.integers(1, 15))
def test_parts_of_any_graph_say_what_it_says(
    tmp_path: Path, graph: tuple[Whole, dict[str, str]], bits: int
) -> None:
    whole, outputs = graph
    parts = write_parts(tmp_path, whole.write(tmp_path, outputs), "fp32")
    generator = np.random.default_rng(bits)
    feeds: dict[str, np.ndarray] = {n: generator.normal(size=SHAPE).astype(np.float32) for n in ("a", "b")}
    feeds["pattern"] = np.array([bits], np.int64)
    if not parts:
        return
    assert set(parts) <= set(PARTS)
    expected, got = run(tmp_path / "fusion.onnx", feeds), in_parts(tmp_path, parts, feeds)
    assert {name: got[name].tobytes() for name in outputs} == {
        name: value.tobytes() for name, value in expected.items()
    }


def test_nothing_in_common_is_not_cut(tmp_path: Path) -> None:
    whole = Whole()
    row = whole.values[-1]  # of the pattern alone
    left, right = whole.node("Add", ["a", row]), whole.node("Add", ["b", row])
    outputs = {"class_scores": left, "boxes": right}
    assert write_parts(tmp_path, whole.write(tmp_path, outputs), "fp32") == {}
    assert not list(tmp_path.glob("fusion_*"))


def test_eight_bits_are_made_beside_the_layer_that_takes_them(tmp_path: Path) -> None:
    whole = Whole()
    shared = whole.node("Tanh", ["a"])
    rounded = whole.rounded(shared)
    outputs = {"class_scores": whole.node("Add", [rounded, "b"]), "boxes": whole.node("Tanh", [rounded])}
    parts = write_parts(tmp_path, whole.write(tmp_path, outputs), "fp32")
    assert [t.name for t in parts[COARSE].outputs] == [shared]
    for part in (MAP_PART, OBJECTS_PART):
        kinds = [node.op_type for node in onnx.load(tmp_path / parts[part].file).graph.node]
        assert kinds[:2] == ["QuantizeLinear", "DequantizeLinear"], part


@pytest.mark.parametrize("kind", ["convolution", "rounding", "sum", "scale"])
def test_what_a_runtime_makes_in_one_step_is_not_cut(tmp_path: Path, kind: str) -> None:
    whole = Whole()
    made = whole.convolved("a")
    if kind == "rounding":
        made = whole.rounded(made)
    right = whole.node("Tanh", [made])
    if kind == "sum":
        made = whole.node("Max", [made, "b"])
        right = whole.node("Add", [made, whole.convolved("b")])
    if kind == "scale":
        made = whole.node("Mul", ["a", "scale"])
        right = whole.node("MatMul", [made, "square"])
    outputs = {"class_scores": whole.node("Max", [made, "a"]), "boxes": right}
    assert write_parts(tmp_path, whole.write(tmp_path, outputs), "fp32") == {}


def test_what_waits_for_a_convolution_is_made_beside_it(tmp_path: Path) -> None:
    whole = Whole()
    fine, coarse = whole.node("Tanh", ["a"]), whole.node("Tanh", [whole.convolved("b")])
    both = whole.node("Add", [fine, coarse])
    left = whole.node("Max", [both, whole.node("Tanh", [both])])
    outputs = {"class_scores": left, "boxes": whole.node("Sub", [both, coarse])}
    parts = write_parts(tmp_path, whole.write(tmp_path, outputs), "fp32")
    given = {part: [tensor.name for tensor in spec.outputs] for part, spec in parts.items()}
    assert given == {
        COARSE: [coarse],
        FINE: [fine],
        COMMON: [both],
        MAP_PART: ["class_scores"],
        OBJECTS_PART: ["boxes"],
    }


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_shipped_model_has_every_part_and_every_node_once(precision: str) -> None:
    folder = find_model("default")
    manifest = Manifest.load(folder, check_files=False)
    parts = {name: onnx.load(folder / spec.file) for name, spec in manifest.parts[precision].items()}
    assert set(parts) == set(PARTS)
    whole = made_by(onnx.load(folder / manifest.graphs_of(precision)["fusion"].file).graph)
    kept = [value for part in parts.values() for node in nodes(part.graph) for value in node.output]
    assert set(whole) <= set(kept)
    again = {whole[value].op_type for value in kept if value in whole and kept.count(value) > 1}
    # What follows from the pattern, pairs of types, and a sound's numbers.
    assert "Conv" not in again
    assert "LayerNormalization" not in again
    assert len(kept) < 1.2 * len(whole)


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Those of a graph and of its branches."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from nodes(attribute.g)
