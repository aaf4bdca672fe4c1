"""The fusion cut in three: what the map and the objects have in common, and what only one of them needs.

On a CPU an operator of the fusion is too small to be shared out among cores; two graphs are not. With V(o)
the values that an output depends on,

    common    V(map) and V(objects): completion, fusion of the coarse levels, decoder
    map       V(map) without them:   the finest level, class scores or label map, confidence
    objects   V(objects) without them: boxes and their scores, scene

What crosses the cuts are the last common values. Not cut through, but computed on either side, is what costs
nothing: constants, what follows from the pattern alone, and pairs of QuantizeLinear and DequantizeLinear,
which a runtime takes for integers only together with the layer after them. The nodes stay as they are, and so
does, bit by bit, what comes out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import onnx
from onnx.utils import Extractor

from robust_perception.engine.manifest import COMMON, MAP, MAP_PART, OBJECTS_PART, SCORES, Manifest
from robust_perception.engine.model_files import GraphSpec
from robust_perception.engine.onnxruntime import describe
from robust_perception.exporting.graph_nodes import PATTERN, made_by

OF_THE_MAP = (SCORES, MAP, "confidence")
"""Outputs of the fusion that the map's part gives; all others are the objects'."""

TYPES = ("QuantizeLinear", "DequantizeLinear")
"""Nodes that change the type of a value and nothing else."""


def write_parts(folder: Path, manifest: Manifest, precision: str) -> dict[str, GraphSpec]:
    """Write the parts of a model's fusion beside it.

    Args:
        folder: of the model.
        manifest: with the whole fusion in that precision.
        precision: which one to cut.

    Returns:
        Its parts, for `Manifest.parts`; empty where map and objects have nothing in common.
    """
    source = folder / manifest.graphs_of(precision)["fusion"].file
    model = onnx.shape_inference.infer_shapes(onnx.load(source))
    outputs = [value.name for value in model.graph.output]
    of_map = [name for name in outputs if name in OF_THE_MAP]
    of_objects = [name for name in outputs if name not in OF_THE_MAP]
    crossing = _crossing(model.graph, of_map, of_objects)
    if not crossing:
        return {}
    extractor = Extractor(model)
    parts = {}
    for part, ends in ((COMMON, crossing), (MAP_PART, of_map), (OBJECTS_PART, of_objects)):
        taken = _taken(model.graph, ends, () if part == COMMON else crossing)
        file = folder / source.name.replace("fusion", part, 1)
        onnx.save(extractor.extract_model(taken, ends), file)
        parts[part] = describe(file)
    return parts


def _crossing(graph: onnx.GraphProto, of_map: Collection[str], of_objects: Collection[str]) -> list[str]:
    """The last values that both need, in the graph's order."""
    makers = made_by(graph)
    light = _light(graph)
    left, right = _upstream(makers, of_map), _upstream(makers, of_objects)
    common = left & right
    crossing: dict[str, None] = {}
    for node in graph.node:
        if node.op_type in TYPES or {*node.output} <= common or not {*node.output} & (left | right):
            continue
        for value in node.input:
            while value in makers and makers[value].op_type in TYPES:
                value = makers[value].input[0]
            if value in common and value in makers and value not in light:
                crossing[value] = None
    return list(crossing)


def _light(graph: onnx.GraphProto) -> set[str]:
    """Values that follow from constants and the pattern alone."""
    known = {initial.name for initial in graph.initializer} | {PATTERN, ""}
    for node in graph.node:  # in an order in which they can be run
        if all(value in known for value in node.input):
            known |= {*node.output}
    return known


def _upstream(
    makers: Mapping[str, onnx.NodeProto], ends: Iterable[str], begins: Collection[str] = ()
) -> set[str]:
    """Values that these depend on, and they themselves, as far as others at which to stop."""
    found: set[str] = set()
    values = list(ends)
    while values:
        value = values.pop()
        if value and value not in found:
            found.add(value)
            if value in makers and value not in begins:
                values += makers[value].input
    return found


def _taken(graph: onnx.GraphProto, ends: Iterable[str], begins: Collection[str]) -> list[str]:
    """What a part takes: of the whole graph's inputs and of the values it begins with."""
    needed = _upstream(made_by(graph), ends, begins)
    constants = {initial.name for initial in graph.initializer}
    inputs = [value.name for value in graph.input if value.name not in constants]
    return [name for name in (*inputs, *begins) if name in needed]
