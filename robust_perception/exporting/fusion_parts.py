"""The fusion cut into parts, two of which run at a time on a CPU of several cores.

On a CPU an operator of the fusion is too small to be shared out among cores; two graphs are not:

    core 1   coarse | common | map, label map
    core 2   fine   | ahead  | objects

With V(o) the values that an output depends on, C = V(map) and V(objects), and a value called deep where a
convolution with a window went into it,

    fine      F, pictures that are not deep and meet a deep one wherever they are used: the fused fine levels
    coarse    C without what depends on F: completion and fusion of the coarse levels, and their decoder
    common    what is left of C: the decoder of the finest level that map and objects share
    ahead     V(objects) without C, as far as it does without `common`: objects of the coarse levels, scene
    map       V(map) without what is made before: class scores or label map, confidence
    objects   what is left of V(objects): boxes and their scores

A part takes inputs of the fusion and what parts to its left give: the last values before the cut. What costs
nothing is not cut through but made on either side (`graph_flow`), and so are the few numbers of a sound that
all levels take. Nodes that only some patterns need run for those alone (`lazy_selection`). What comes out is
the same bit by bit: neither a sum nor anything else is parted from the convolution before it, for a runtime
makes them one and rounds otherwise. That is why nothing of the map is made ahead; a fusion that would have to
be cut there stays whole.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx.utils import Extractor

from robust_perception.engine.manifest import (
    AHEAD,
    COARSE,
    COMMON,
    FINE,
    MAP,
    MAP_PART,
    OBJECTS_PART,
    SCORES,
    STAGES,
    Manifest,
)
from robust_perception.engine.model_files import GraphSpec
from robust_perception.engine.onnxruntime import describe
from robust_perception.exporting.graph_flow import GraphFlow
from robust_perception.exporting.lazy_selection import select_lazily

OF_THE_MAP = (SCORES, MAP, "confidence")
"""Outputs of the fusion that V(map) is made of; all others are the objects'."""


def write_parts(folder: Path, manifest: Manifest, precision: str) -> dict[str, GraphSpec]:
    """Write the parts of a model's fusion beside it.

    Args:
        folder: of the model.
        manifest: with the whole fusion in that precision.
        precision: which one to cut.

    Returns:
        Those of its parts that have anything to do, for `Manifest.parts`; none where map and objects have
        nothing in common, or a cut would change what comes out.
    """
    source = folder / manifest.graphs_of(precision)["fusion"].file
    model = onnx.shape_inference.infer_shapes(onnx.load(source))
    flow = GraphFlow(model.graph)
    ends = part_ends(flow)
    extractor = Extractor(model)
    parts: dict[str, GraphSpec] = {}
    there: list[str] = []
    for stage in STAGES:
        for part in stage:
            if part not in ends:
                continue
            file = folder / source.name.replace("fusion", part, 1)
            graph = extractor.extract_model(flow.taken(ends[part], there), ends[part])
            onnx.save(select_lazily(graph), file)
            parts[part] = describe(file)
        there += [value for part in stage for value in ends.get(part, ())]
    return parts


def part_ends(flow: GraphFlow) -> dict[str, list[str]]:
    """What each part of a fusion gives, those left out that give nothing; none where it stays whole."""
    of_map = flow.upstream(name for name in flow.outputs if name in OF_THE_MAP)
    of_objects = flow.upstream(name for name in flow.outputs if name not in OF_THE_MAP)
    both = of_map & of_objects
    waiting = {*flow.meeting(flow.deep())} & (of_map | of_objects)
    after = flow.downstream(waiting)

    values: dict[str, set[str]] = {FINE: waiting | (flow.upstream(waiting) - both)}
    values[COARSE] = both - after
    values[COMMON] = both - values[COARSE] - waiting
    objects = of_objects - both - values[FINE]
    values[AHEAD] = objects - flow.downstream(values[COMMON]) if values[COMMON] else set()
    values[OBJECTS_PART] = objects - values[AHEAD]
    values[MAP_PART] = of_map - both - values[FINE]

    ends: dict[str, list[str]] = {}
    later = set().union(*values.values())
    for stage in STAGES:
        later -= set().union(*(values[part] for part in stage))
        for part in stage:
            given = [name for name in flow.outputs if name in values[part]]
            ends[part] = list(dict.fromkeys(given + flow.crossing(values[part], later)))
    handed_on = {value for of in ends.values() for value in of} - {*flow.outputs}
    whole = not (ends[COARSE] or ends[COMMON]) or any(map(flow.of_one_step, handed_on))
    return {} if whole else {part: of for part, of in ends.items() if of}
