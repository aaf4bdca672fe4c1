"""A graph in half precision: float16 inside, float32 in and out.

Inputs and outputs stay what the manifest says, so that one backend can stand in for another. Some things stay
float32 inside too [X]: the operators that the converter knows not to be safe, and what makes boxes of the
last convolutions, because float16 knows pixels beyond 256 in steps of a quarter alone.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnxruntime.quantization.onnx_model import ONNXModel
from onnxruntime.transformers.float16 import convert_float_to_float16

from robust_perception.exporting.graph_nodes import after_last_convolution


def write_half(source: Path, target: Path) -> None:
    """Convert a graph.

    Args:
        source: fp32.
        target: file to write.
    """
    model = onnx.load(source)
    kept = after_last_convolution(model.graph, ["boxes"])
    converted = convert_float_to_float16(model, keep_io_types=True, node_block_list=kept)
    ordered = ONNXModel(converted)
    ordered.topological_sort()  # the converter appends its casts
    onnx.checker.check_model(ordered.model)
    onnx.save(ordered.model, target)
