"""Slices that give back a part of a concatenation are gone from graphs, others stay, and no bit changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxscript import ir

from robust_perception.model.graph_slices import without_slices_of_parts

PARTS = (2, 3, 4)


def graph_of(start: int, end: int, axis: int = 1, step: int = 1) -> onnx.ModelProto:
    """A concatenation of 2, 3 and 4 channels, of which a slice is multiplied."""
    shapes = [[1, channels, 2, 2] for channels in PARTS]
    numbers = {"starts": start, "ends": end, "axes": axis, "steps": step}
    given = [numpy_helper.from_array(np.array([value]), name) for name, value in numbers.items()]
    given.append(numpy_helper.from_array(np.float32(3.0), "three"))
    nodes = [
        helper.make_node("Concat", ["a", "b", "c"], ["whole"], axis=1),
        helper.make_node("Slice", ["whole", "starts", "ends", "axes", "steps"], ["cut"]),
        helper.make_node("Mul", ["cut", "three"], ["product"]),
    ]
    inputs = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in zip("abc", shapes, strict=True)
    ]
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("whole", "product")]
    graph = helper.make_graph(nodes, "test", inputs, outputs, given)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def run(model: onnx.ModelProto) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    generator = np.random.default_rng(0)
    shapes = {name: (1, channels, 2, 2) for name, channels in zip("abc", PARTS, strict=True)}
    return list(session.run(None, {n: generator.random(s, np.float32) for n, s in shapes.items()}))


@pytest.mark.parametrize(
    ("start", "end", "axis", "step", "gone"),
    [
        (0, 2, 1, 1, 1),
        (2, 5, 1, 1, 1),
        (5, 9, -3, 1, 1),
        (0, 3, 1, 1, 0),
        (1, 2, 1, 1, 0),
        (0, 5, 1, 1, 0),
        (2, 5, 1, 2, 0),
        (0, 2, 2, 1, 0),
    ],
)
def test_only_whole_parts_are_taken(start: int, end: int, axis: int, step: int, gone: int) -> None:
    before = graph_of(start, end, axis, step)
    model = ir.from_proto(before)
    assert without_slices_of_parts(model.graph) == gone
    after = ir.to_proto(model)
    assert [node.op_type for node in after.graph.node].count("Slice") == 1 - gone
    assert {i.name for i in after.graph.initializer} == {
        name for node in after.graph.node for name in node.input
    } - set("abc") - {"whole", "cut"}
    for one, other in zip(run(before), run(after), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_default_models_encoders_have_none(repository: Path) -> None:
    for path in sorted((repository / "models" / "default").glob("encoder_*.onnx")):
        assert without_slices_of_parts(ir.load(path).graph) == 0, path.name
