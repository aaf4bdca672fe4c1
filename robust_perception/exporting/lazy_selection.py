"""What a selection by pattern does not select is not computed.

    y = where(c, f(a), g(b))    ->    y = if c then f(a) else g(b)          c: one flag

A graph of all patterns holds both ways, and runs both: what a sensor that is there was translated from, what
one that is not brings to a level. With a branch of its own each way is run under the patterns that take it.
The nodes stay as they are, and so does, bit by bit, what comes out; the weights of convolutions and products
go with them: a runtime that finds them outside takes another kernel, which is slower and rounds otherwise.
For runtimes of CPUs: a GPU's captured graph has no branches, and its cores have nothing better to do.
"""

from __future__ import annotations

import math

import onnx
from onnxscript import ir

from robust_perception.exporting.graph_nodes import PRODUCTS

LEAST_NODES = 3
"""A branch itself costs about as much time as two small nodes."""


def select_lazily(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model of which each selection by one flag runs alone what it selects.

    Args:
        model: with the static shapes of its values.
    """
    changed = ir.from_proto(model)
    # From the last to the first: what belongs to a selection, other selections too, goes into its branch.
    for node in reversed(list(changed.graph)):
        if node.graph is changed.graph and _by_one_flag(node):
            ways = [_alone(node, operand) for operand in (1, 2)]
            if sum(map(len, ways)) >= LEAST_NODES:
                _branch(changed.graph, node, ways)
    result = ir.to_proto(changed)
    onnx.checker.check_model(result)
    return result


def _by_one_flag(node: ir.Node) -> bool:
    if node.op_type != "Where" or node.domain != "":
        return False
    flag, whole = node.inputs[0], node.outputs[0].shape
    if flag is None or flag.shape is None or whole is None:
        return False
    return flag.shape.is_static() and math.prod(flag.shape.numpy()) == 1 and whole.is_static()


def _alone(selection: ir.Node, operand: int) -> list[ir.Node]:
    """The nodes that run for nobody but one operand of a selection, in the graph's order."""
    found: dict[ir.Node, None] = {}

    def has_no_other_taker(node: ir.Node) -> bool:
        return all(
            not value.is_graph_output()
            and all(
                taker in found or (taker is selection and position == operand)
                for taker, position in value.uses()
            )
            for value in node.outputs
        )

    grown = True
    while grown:  # a node may have to wait for a taker that is met later
        grown = False
        values = [selection.inputs[operand], *(value for node in found for value in node.inputs)]
        for value in values:
            node = value.producer() if value is not None else None
            if node is not None and node not in found and has_no_other_taker(node):
                found[node] = None
                grown = True
    assert selection.graph is not None
    return [node for node in selection.graph if node in found]


def _branch(graph: ir.Graph, selection: ir.Node, ways: list[list[ir.Node]]) -> None:
    """Put a branch in the place of a selection."""
    flag, *operands = selection.inputs
    whole = selection.outputs[0]
    branches = {}
    for branch, operand, nodes in zip(("then_branch", "else_branch"), operands, ways, strict=True):
        assert operand is not None
        graph.remove(nodes)
        name = f"{whole.name}_{branch}"
        last = _as_output(operand, whole, operand.producer() in nodes, name)
        given = last[-1].outputs[0] if last else operand
        weights = _taken_along(graph, nodes, name)
        branches[branch] = ir.Graph([], [given], nodes=[*nodes, *last], initializers=weights, name=name)
    node = ir.node("If", [flag], branches, name=f"{selection.name}_lazily")
    chosen = node.outputs[0]
    chosen.name, chosen.shape, chosen.type = whole.name, whole.shape, whole.type
    ir.convenience.replace_nodes_and_values(graph, selection, [selection], [node], [whole], [chosen])


def _taken_along(graph: ir.Graph, nodes: list[ir.Node], branch: str) -> list[ir.Value]:
    """Copies of the constants of a branch's products, in the places of the originals."""
    copies: dict[str, ir.Value] = {}
    for node in nodes:
        weight = node.inputs[1] if node.op_type in PRODUCTS else None
        if weight is None or weight.const_value is None:
            continue
        for position, value in enumerate(node.inputs[1:], start=1):
            if value is None or value.name is None or value.name not in graph.initializers:
                continue
            if value.name not in copies:
                name, constant = f"{branch}_{value.name}", graph.initializers[value.name].const_value
                assert constant is not None
                copies[value.name] = ir.Value(
                    name=name,
                    shape=value.shape,
                    type=value.type,
                    const_value=ir.tensor(constant.numpy(), name=name),  # a name belongs to one tensor
                )
            node.replace_input_with(position, copies[value.name])
            if not value.uses():
                graph.initializers.pop(value.name)
    return list(copies.values())


def _as_output(value: ir.Value, whole: ir.Value, inside: bool, name: str) -> list[ir.Node]:
    """The nodes that make a value of a branch its output: none where it is made inside, in the full shape."""
    assert whole.shape is not None
    output = ir.Value(name=name, shape=whole.shape, type=whole.type)
    if value.shape != whole.shape:
        sides = ir.Value(name=f"{name}_shape")
        size = ir.node(
            "Constant", [], {"value_ints": list(whole.shape.numpy())}, outputs=[sides], name=sides.name
        )
        return [size, ir.node("Expand", [value, sides], outputs=[output], name=name)]
    return [] if inside else [ir.node("Identity", [value], outputs=[output], name=name)]
