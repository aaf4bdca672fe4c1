"""What depends on what in a graph, and where it may be cut.

Two kinds of values are never cut through, since whoever needs them makes them anew for nothing: light ones,
which follow from constants and the pattern alone, and those between QuantizeLinear and DequantizeLinear,
which a runtime takes for integers only together with the layer after them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable

import onnx

from robust_perception.exporting.graph_nodes import PATTERN, PRODUCTS, made_by

TYPES = ("QuantizeLinear", "DequantizeLinear")
"""Nodes that change the type of a value and nothing else."""


class GraphFlow:
    """The values of a graph.

    Args:
        graph: nodes in an order in which they can be run, static shapes.

    Attributes:
        outputs: names of what the graph gives.
    """

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._nodes = list(graph.node)
        self._makers = made_by(graph)
        self._shapes: dict[str, tuple[int, ...]] = {c.name: tuple(c.dims) for c in graph.initializer}
        self.outputs = [value.name for value in graph.output]
        self._inputs = [value.name for value in graph.input if value.name not in self._shapes]
        self._light = {*self._shapes, PATTERN, ""}
        for value in (*graph.input, *graph.value_info, *graph.output):
            self._shapes[value.name] = tuple(side.dim_value for side in value.type.tensor_type.shape.dim)
        for node in self._nodes:
            if all(value in self._light for value in node.input):
                self._light |= {*node.output}

    def upstream(self, ends: Iterable[str], begins: Collection[str] = ()) -> set[str]:
        """Values that these depend on, and they themselves, as far as others at which to stop."""
        found: set[str] = set()
        values = list(ends)
        while values:
            value = values.pop()
            if value and value not in found:
                found.add(value)
                if value in self._makers and value not in begins:
                    values += self._makers[value].input
        return found

    def downstream(self, begins: Iterable[str]) -> set[str]:
        """Values that depend on these, and they themselves."""
        found = set(begins)
        for node in self._nodes:
            if not found.isdisjoint(node.input):
                found |= {*node.output}
        return found

    def deep(self) -> set[str]:
        """Values that a convolution with a window of more than one pixel went into."""
        return self.downstream(
            value
            for node in self._nodes
            if node.op_type == "Conv" and math.prod(self._shapes.get(node.input[1], ())[2:]) > 1
            for value in node.output
        )

    def meeting(self, others: Collection[str]) -> list[str]:
        """Pictures that are none of these values and meet one of them in every node that takes them."""
        meets: dict[str, bool] = {}
        for node in self._nodes:
            if node.op_type in TYPES:
                continue
            met = any(value in others for value in node.input)
            for value in map(self._before_types, node.input):
                meets[value] = meets.get(value, True) and met
        return [value for value, always in meets.items() if always and self._is_picture(value, others)]

    def crossing(self, owners: Collection[str], takers: Collection[str]) -> list[str]:
        """What has to be handed on where one part makes `owners` and others make `takers`, in their order."""
        found: dict[str, None] = {}
        for node in self._nodes:
            if node.op_type not in TYPES and not {*node.output}.isdisjoint(takers):
                values = map(self._before_types, node.input)
                found |= dict.fromkeys(v for v in values if v in owners and self._heavy(v))
        return list(found)

    def of_one_step(self, value: str) -> bool:
        """Whether a runtime may make one step of a product and of what is done with this value.

        That is a product's own result, whatever takes it, a value to which one is added, and one that a
        single number scales before a product: done apart they come out otherwise.
        """
        if self._is_product(value):
            return True
        if self._is_scaled(value) and any(n.op_type == "MatMul" and value in n.input for n in self._nodes):
            return True
        sums = (node for node in self._nodes if node.op_type == "Add" and value in node.input)
        return any(self._is_product(other) for node in sums for other in node.input)

    def _is_product(self, value: str) -> bool:
        return value in self._makers and self._makers[value].op_type in PRODUCTS

    def _is_scaled(self, value: str) -> bool:
        maker = self._makers.get(value)
        if maker is None or maker.op_type not in ("Mul", "Div"):
            return False
        return any(v in self._light and math.prod(self._shapes.get(v, (0,))) == 1 for v in maker.input)

    def taken(self, ends: Iterable[str], begins: Iterable[str]) -> list[str]:
        """What a part with these ends takes of the graph's inputs and of values that are there already."""
        begins = list(begins)
        needed = self.upstream(ends, begins)
        return [name for name in (*self._inputs, *begins) if name in needed]

    def _before_types(self, value: str) -> str:
        while value in self._makers and self._makers[value].op_type in TYPES:
            value = self._makers[value].input[0]
        return value

    def _heavy(self, value: str) -> bool:
        return value in self._makers and value not in self._light

    def _is_picture(self, value: str, others: Collection[str]) -> bool:
        return value not in others and self._heavy(value) and math.prod(self._shapes.get(value, ())[2:]) > 1
