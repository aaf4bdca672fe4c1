"""A graph in eight bits, by static quantisation with real frames (after Jacob et al. 2018).

A value x of a tensor with range [lo, hi] becomes q, and counts as x' from then on:

    s = (hi - lo) / 255;          q = clip( round(x / s) + z, 0, 255 );  x' = s (q - z)   for CPUs
    s = max(|lo|, |hi|) / 127;    q = clip( round(x / s), -127, 127 );   x' = s q         for GPUs

Weights always have the second form, with one s a channel. The graph says so by pairs of
QuantizeLinear and DequantizeLinear, which a runtime turns into integer kernels.

What is quantised [X]: convolutions, matrix products, sums of maps, and for CPUs the clipping between them, so
that whole chains of an encoder stay integers. What is not:

    the last layers and what follows them    one step of a box's edge would be several pixels
    an encoder's first block                 of its few channels some span a hundredth of others: left as it
                                             is, the error of all latents of colour was half as large
    the fusion's sums, on a CPU              between them is what is left in floating point: integers would be
                                             made and unmade again
    sums of anything but maps                cells and edges of boxes, gates of sound
    layer norms, exponentials of gates       short in time, wide in range
    adapters                                 a change by another row would need another scale; their sources
                                             are graphs in which the weights stay constants
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from robust_perception.engine.manifest import MAP, SCORES
from robust_perception.exporting.graph_nodes import (
    PRODUCTS,
    adapter_nodes,
    after_last_convolution,
    first_convolutions,
    last_layers,
)
from robust_perception.vocabulary import Array

CLIPPING = ("Clip", "Relu")
"""Folded into the kernel before them where activations are unsigned: their lower end is the zero point."""

MAPS = (SCORES, MAP, "confidence", "box_scores", "boxes")
"""Outputs of the fusion that come of maps by convolutions of their own."""

FIRST = 3
"""Convolutions of an encoder's first block."""


class _Frames(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    def __init__(self, feeds: Iterable[Mapping[str, Array]]) -> None:
        self._feeds: Iterator[Mapping[str, Array]] = iter(feeds)

    def get_next(self) -> Mapping[str, Array] | None:
        return next(self._feeds, None)


def write_quantised(
    source: Path, target: Path, feeds: Iterable[Mapping[str, Array]], symmetric: bool = False
) -> None:
    """Quantise a graph.

    Args:
        source: fp32; with adapters one with constant weights (`model.graphs.write_graphs`, `fixed`).
        target: file to write.
        feeds: inputs of the graph that show what ranges its tensors have: real frames, under every pattern.
        symmetric: both signed and around zero, as TensorRT takes them, instead of what CPUs are quick at.
    """
    with tempfile.TemporaryDirectory() as scratch, _errors_only():
        prepared = Path(scratch) / "prepared.onnx"
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        model = onnx.load(prepared)
        left = {*last_layers(model.graph, MAPS), *after_last_convolution(model.graph, ["scene"])}
        left |= {*adapter_nodes(model.graph)}
        kinds: tuple[str, ...] = (*PRODUCTS, "Add") if symmetric else (*PRODUCTS, "Add", *CLIPPING)
        if not any(output.name in MAPS for output in model.graph.output):
            left |= {*first_convolutions(model.graph, FIRST)}
        elif not symmetric:
            kinds = PRODUCTS
        ranks = _ranks(model)
        chosen = [
            node.name
            for node in model.graph.node
            if node.op_type in kinds
            and node.name not in left
            and (node.op_type in PRODUCTS or ranks.get(node.output[0]) == 4)
        ]
        options: dict[str, object] = {"ActivationSymmetric": symmetric, "WeightSymmetric": True}
        if symmetric:
            # TensorRT wants its bias in floating point, and pairs only before what computes in integers.
            options |= {"QuantizeBias": False, "OpTypesToExcludeOutputQuantization": list(kinds)}
        quantize_static(
            prepared,
            target,
            _Frames(feeds),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(kinds),
            nodes_to_quantize=chosen,
            per_channel=True,
            activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options=options,
        )


def _ranks(model: onnx.ModelProto) -> dict[str, int]:
    """Number of axes by value."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    known = (*inferred.value_info, *inferred.input, *inferred.output)
    return {value.name: len(value.type.tensor_type.shape.dim) for value in known}


@contextlib.contextmanager
def _errors_only() -> Iterator[None]:
    """The quantiser advises on preparing what is prepared already."""
    log = logging.getLogger()
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)
