"""A selection runs alone what it selects, and gives what it gave, whatever the graph looks like."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from robust_perception.exporting.lazy_selection import select_lazily

SHAPE = [1, 2, 2]
FLAGS = ("p", "q")


def model(nodes: list[onnx.NodeProto], outputs: dict[str, str]) -> onnx.ModelProto:
    """A model of `a`, `b`, a constant `zero` and two flags, with shapes."""
    ends = [helper.make_node("Identity", [value], [name], name) for name, value in outputs.items()]
    floats = [helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE) for name in "ab"]
    flags = [helper.make_tensor_value_info(name, TensorProto.BOOL, [1, 1, 1]) for name in FLAGS]
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE) for name in outputs]
    zero = numpy_helper.from_array(np.float32(0.0), "zero")
    graph = helper.make_graph([*nodes, *ends], "graph", [*floats, *flags], given, [zero])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return onnx.shape_inference.infer_shapes(made)


def run(made: onnx.ModelProto, p: bool, q: bool) -> list[bytes]:
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {"a": np.float32([[[1, 2], [3, -4]]]), "b": np.float32([[[0.5, np.nan], [np.inf, 2]]])}
    feeds |= {"p": np.full((1, 1, 1), p), "q": np.full((1, 1, 1), q)}
    return [value.tobytes() for value in session.run(None, feeds)]


def chain(value: str, names: str) -> list[onnx.NodeProto]:
    """Some nodes, one after the other."""
    inputs = [value, *names]
    return [
        helper.make_node("Tanh", [one], [other], other) for one, other in zip(inputs, names, strict=False)
    ]


def branches(made: onnx.ModelProto) -> list[tuple[list[str], list[str]]]:
    """Names of the nodes in both ways of each branch, as far as the graph had them before."""
    found = []
    for node in made.graph.node:
        if node.op_type == "If":
            ways = {attribute.name: attribute.g for attribute in node.attribute}
            names = [[n.name for n in ways[w].node if len(n.name) == 1] for w in sorted(ways, reverse=True)]
            found.append((names[0], names[1]))
    return found


def test_each_way_has_its_own_nodes_and_no_others() -> None:
    nodes = [*chain("a", "cde"), *chain("c", "f"), helper.make_node("Where", ["p", "e", "f"], ["y"], "y")]
    made = select_lazily(model(nodes, {"out": "y"}))
    assert branches(made) == [(["d", "e"], ["f"])]
    assert [node.name for node in made.graph.node if node.op_type != "If"] == ["c", "out"]


@pytest.mark.parametrize("short", ["a", "zero"])
def test_a_way_that_computes_nothing_gives_the_full_shape(short: str) -> None:
    nodes = [*chain("a", "cde"), helper.make_node("Where", ["p", "e", short], ["y"], "y")]
    before = model(nodes, {"out": "y"})
    after = select_lazily(before)
    assert branches(after) == [(["c", "d", "e"], [])]
    assert all(run(after, p, True) == run(before, p, True) for p in (True, False))


def test_what_is_needed_elsewhere_and_what_is_too_little_stays() -> None:
    nodes = [*chain("a", "cde"), helper.make_node("Where", ["p", "e", "b"], ["y"], "y")]
    assert branches(select_lazily(model(nodes, {"out": "y", "too": "e"}))) == []
    few = [*chain("a", "cd"), helper.make_node("Where", ["p", "d", "b"], ["y"], "y")]
    assert branches(select_lazily(model(few, {"out": "y"}))) == []


def test_a_choice_of_every_pixel_stays() -> None:
    nodes = [helper.make_node("Greater", ["a", "b"], ["flags"], "flags"), *chain("a", "cde")]
    nodes.append(helper.make_node("Where", ["flags", "e", "b"], ["y"], "y"))
    assert branches(select_lazily(model(nodes, {"out": "y"}))) == []


@st.composite
def graphs(draw: st.DrawFn) -> onnx.ModelProto:
    values, nodes = ["a", "b"], []
    for number in range(draw(st.integers(3, 16))):
        kind = draw(st.sampled_from(["Where", "Where", "Add", "Tanh"]))
        one, other = draw(st.sampled_from(values)), draw(st.sampled_from([*values, "zero"]))
        flag = draw(st.sampled_from(FLAGS))
        inputs = {"Where": [flag, one, other], "Add": [one, other], "Tanh": [one]}[kind]
        nodes.append(helper.make_node(kind, inputs, [f"v{number}"], f"n{number}"))
        values.append(f"v{number}")
    ends = draw(st.lists(st.sampled_from(values[2:]), min_size=1, max_size=2, unique=True))
    return model(nodes, {f"out{number}": value for number, value in enumerate(ends)})


@settings(deadline=None)
@given(before=graphs())
def test_any_graph_gives_what_it_gave(before: onnx.ModelProto) -> None:
    after = select_lazily(before)
    for p in (True, False):
        for q in (True, False):
            assert run(after, p, q) == run(before, p, q)


@pytest.mark.parametrize(("channels", "side"), [(64, 3), (2, 1)])
def test_a_convolution_takes_its_weights_into_the_branch_and_has_its_bits(channels: int, side: int) -> None:
    generator = np.random.default_rng(1)
    weights = generator.normal(size=(channels, channels, side, side)).astype(np.float32)
    window = numpy_helper.from_array(weights, "window")
    zero = numpy_helper.from_array(np.float32(0.0), "zero")
    shape = [1, channels, 15, 20]
    nodes = [
        *chain("a", "cd"),
        helper.make_node("Conv", ["d", "window"], ["e"], "e", pads=[side // 2] * 4),
        helper.make_node("Where", ["p", "e", "zero"], ["y"], "y"),
    ]
    taken = [
        helper.make_tensor_value_info("a", TensorProto.FLOAT, shape),
        helper.make_tensor_value_info("p", TensorProto.BOOL, [1, 1, 1, 1]),
    ]
    given_by_it = [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)]
    graph = helper.make_graph(nodes, "graph", taken, given_by_it, [zero, window])
    whole = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    before = onnx.shape_inference.infer_shapes(whole)
    after = select_lazily(before)
    assert branches(after) == [(["c", "d", "e"], [])]
    assert [constant.name for constant in after.graph.initializer] == ["zero"]
    feeds = {"a": generator.normal(size=shape).astype(np.float32), "p": np.full((1, 1, 1, 1), True)}
    made = [
        onnxruntime.InferenceSession(m.SerializeToString(), providers=["CPUExecutionProvider"])
        for m in (before, after)
    ]
    one, other = (session.run(None, feeds)[0] for session in made)
    assert one.tobytes() == other.tobytes()
