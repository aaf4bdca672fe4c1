"""Parts of a graph that a lower precision must tell apart."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import onnx

TABLE = "adapter.table_"
"""In the names of a bank's tables: `model.adapters` registers them so."""

PATTERN = "pattern"

PRODUCTS = ("Conv", "Gemm", "MatMul")
"""Layers with weights: a product of the last axis is a 1x1 convolution whose channels come last."""


def made_by(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    """The node that makes each value."""
    return {value: node for node in graph.node for value in node.output}


def after_last_convolution(graph: onnx.GraphProto, outputs: Iterable[str]) -> list[str]:
    """Names of the nodes between the last convolutions and these outputs."""
    return [node.name for node in _upstream(graph, outputs, ("Conv",)) if node.op_type != "Conv"]


def last_layers(graph: onnx.GraphProto, outputs: Iterable[str]) -> list[str]:
    """Names of the last convolutions or products before these outputs, and of all that follows them."""
    return [node.name for node in _upstream(graph, outputs, PRODUCTS)]


def first_convolutions(graph: onnx.GraphProto, count: int) -> list[str]:
    """Names of the first convolutions and of what clips their outputs, in the graph's order."""
    makers = made_by(graph)
    first = [node for node in graph.node if node.op_type == "Conv"][:count]
    names = [node.name for node in first]
    clipping = [
        node.name
        for node in graph.node
        if node.op_type in ("Clip", "Relu") and makers.get(node.input[0]) in first
    ]
    return names + clipping


def adapter_nodes(graph: onnx.GraphProto) -> list[str]:
    """Names of the nodes by which adapters change what a layer gives: their side paths.

    That are the nodes that take a value gathered from a bank's tables, and the sum that ends a low-rank path.
    """
    known = {initial.name for initial in graph.initializer} | {PATTERN, ""}  # before any sensor's values are
    gathered = {name for name in known if TABLE in name}
    found: dict[str, onnx.NodeProto] = {}
    products: set[str] = set()
    for node in graph.node:  # in an order in which they can be run
        of_tables = any(value in gathered for value in node.input)
        if all(value in known for value in node.input):
            known |= {*node.output}
            gathered |= {*node.output} if of_tables else set()
        elif of_tables:
            found[node.name] = node
            if node.op_type in PRODUCTS:
                products |= {*node.output}
        elif node.op_type == "Add" and any(value in products for value in node.input):
            found[node.name] = node
    return list(found)


def _upstream(graph: onnx.GraphProto, outputs: Iterable[str], ends: Collection[str]) -> list[onnx.NodeProto]:
    """Nodes that these outputs depend on, as far as the nearest of these kinds and with them."""
    makers = made_by(graph)
    found: dict[str, onnx.NodeProto] = {}
    values = [name for name in outputs if name in makers]
    while values:
        node = makers[values.pop()]
        if node.name in found:
            continue
        found[node.name] = node
        if node.op_type not in ends:
            values += [value for value in node.input if value in makers]
    return list(found.values())
