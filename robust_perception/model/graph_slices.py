"""A slice of a concatenation that is one of its parts is that part.

    slice( concat(a, b) ; from 0 to |a| ) = a

Translators take the shared half of a latent (`alignment`), of which the whole is an output: a graph would put
the halves together to cut them apart. Between the two an eight-bit graph turns the layout of the pixels round
and back, twenty times in all, and a float graph lays its blocks out anew.
"""

from __future__ import annotations

from onnxscript import ir


def without_slices_of_parts(graph: ir.Graph) -> int:
    """Let those who take such a slice take the part; how many slices are gone.

    Args:
        graph: with static shapes; it is changed.
    """
    gone = 0
    for node in list(graph):
        part = _part(node) if node.op_type == "Slice" and node.domain == "" else None
        if part is None or node.outputs[0].is_graph_output():
            continue
        ir.convenience.replace_all_uses_with(node.outputs[0], part)
        numbers = [value for value in node.inputs[1:] if value is not None]
        graph.remove(node, safe=True)
        for value in numbers:
            if value.name is not None and not value.uses() and value.name in graph.initializers:
                del graph.initializers[value.name]
        gone += 1
    return gone


def _part(node: ir.Node) -> ir.Value | None:
    """The input of the concatenation that a slice gives back; None where it gives anything else."""
    numbers = [None if v is None else ir.convenience.get_const_tensor(v) for v in node.inputs[1:]]
    source = node.inputs[0].producer() if node.inputs[0] is not None else None
    if len(numbers) < 3 or None in numbers[:3] or source is None or source.op_type != "Concat":
        return None
    starts, ends, axes, *steps = ([int(i) for i in n.numpy().ravel()] for n in numbers if n is not None)
    axis = source.attributes["axis"].as_int()
    rank = len(source.inputs[0].shape) if source.inputs[0] is not None and source.inputs[0].shape else 0
    if len(axes) != 1 or axes[0] % rank != axis % rank or steps not in ([], [[1]]):
        return None
    before = 0
    for value in source.inputs:
        size = value.shape[axis] if value is not None and value.shape is not None else None
        if not isinstance(size, int):
            return None
        if (starts[0], ends[0]) == (before, before + size):
            return value
        before += size
    return None
