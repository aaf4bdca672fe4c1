"""How near a frame comes to what the processor can: multiply-adds a second, and a matrix product's.

    python benchmarks/arithmetic.py --json docs/results/arithmetic.json
    python benchmarks/performance_page.py docs/results/arithmetic.json docs/performance.md

A frame of all sensors takes M multiply-adds: those of the convolutions and matrix products of its float32
graphs, counted from their shapes. With its time t it runs at M / t. A product of two square matrices that is
large enough to amortise everything has the most that the same library makes of this processor; nothing that
is made of such products gets beyond it. So

    M / rate(product) <= t(frame)

whatever is done about layouts, caches and threads, and `times as long`, which is torch's time by ONNX
Runtime's, cannot exceed t(torch) rate(product) / M. Depthwise convolutions, norms and activations count next
to nothing and take time: no network comes close. The engine runs as it does on a robot; torch is that of
`robust-perception bench --torch`, and all take turns.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from benchmarks.performance_page import arithmetic_figures  # noqa: E402
from robust_perception import arguments  # noqa: E402
from robust_perception.benchmarking import machine  # noqa: E402
from robust_perception.benchmarking.frames import Frames  # noqa: E402
from robust_perception.benchmarking.torch_network import TorchBackend, prepare  # noqa: E402
from robust_perception.benchmarking.turns import order, paired_ratio, steady, timed  # noqa: E402
from robust_perception.engine.engine import Engine  # noqa: E402
from robust_perception.engine.manifest import Manifest  # noqa: E402
from robust_perception.engine.precision import FP32  # noqa: E402
from robust_perception.engine.threads import usable_cores  # noqa: E402
from robust_perception.progress import ProgressLine  # noqa: E402

SIDE = 1536
"""Of the product's matrices: 3.6 G multiply-adds, as long as a frame."""

ENGINE, TORCH = "onnxruntime", "torch"


def multiply_adds(graph: onnx.ModelProto) -> int:
    """Of a graph's convolutions and matrix products; its shapes are static."""
    graph = onnx.shape_inference.infer_shapes(graph)
    there = [*graph.graph.value_info, *graph.graph.input, *graph.graph.output]
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in there}
    shapes.update({one.name: list(one.dims) for one in graph.graph.initializer})
    total = 0
    for node in graph.graph.node:
        if node.op_type == "Conv":  # weights are (out, in / groups, h, w)
            total += math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[1]][1:])
        elif node.op_type in ("MatMul", "Gemm"):
            shape = shapes[node.input[0]]
            across = any(one.name == "transA" and one.i for one in node.attribute)
            total += math.prod(shapes[node.output[0]]) * shape[0 if across else -1]
    return total


def product_session(side: int, threads: int) -> onnxruntime.InferenceSession:
    """ONNX Runtime's product of an input `x` with a constant, both float32 (side, side)."""
    weights = np.random.default_rng(0).standard_normal((side, side)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (side, side))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (side, side))],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def measure(folder: Path, threads: int, rounds: int) -> dict[str, Any]:
    """Times of a frame and of a product in ONNX Runtime and in torch, taking turns, and what follows."""
    manifest = Manifest.load(folder)
    graphs = manifest.graphs_of(FP32)
    counts = {name: multiply_adds(onnx.load(folder / spec.file)) for name, spec in graphs.items()}
    total = sum(counts.values())
    frames = Frames(manifest.modalities, manifest.size)
    prepare(threads)
    engines = {
        ENGINE: Engine.load(folder, ENGINE, threads, FP32),
        TORCH: Engine.of(TorchBackend(folder, manifest, compiled=False), manifest, folder),
    }
    session = product_session(SIDE, threads)
    matrix = np.random.default_rng(1).standard_normal((SIDE, SIDE)).astype(np.float32)
    tensor, weights = torch.from_numpy(matrix), torch.from_numpy(matrix.T.copy())
    products = {ENGINE: lambda _: session.run(None, {"x": matrix}), TORCH: lambda _: tensor @ weights}
    spent: dict[str, dict[str, list[float]]] = {
        kind: {ENGINE: [], TORCH: []} for kind in ("frame", "product")
    }
    told = ProgressLine(sys.stderr, unit="rounds")
    for turn in range(rounds):
        for index in order(2, turn):
            name = (ENGINE, TORCH)[index]
            for kind, work in (("frame", engines[name].infer), ("product", products[name])):
                # What ran before has filled the caches and its threads may look for work: one is not counted.
                given = [frames.frame_set(manifest.patterns[0]) for _ in range(2)]
                work(given[0])
                spent[kind][name].append(timed(steady, work, given[1])[0])
        told(turn + 1, rounds)
    seconds = {kind: {n: float(np.median(times)) for n, times in of.items()} for kind, of in spent.items()}
    rates = {
        kind: {name: work / s / 1e9 for name, s in seconds[kind].items()}
        for kind, work in (("frame", total), ("product", SIDE**3))
    }
    torch_frame = spent["frame"][TORCH]
    at_most = paired_ratio(torch_frame, spent["product"][ENGINE]) * SIDE**3 / total
    return {
        "device": machine.describe(),
        "versions": machine.versions(TORCH),
        "threads": threads,
        "rounds": rounds,
        "model": {"name": manifest.name, "version": manifest.version, "sha256": manifest.sha256},
        "multiply_adds": counts,
        "seconds": seconds,
        "giga_multiply_adds_a_second": rates,
        "times_as_long": paired_ratio(torch_frame, spent["frame"][ENGINE]),
        "times_as_long_at_most": at_most,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="A frame's multiply-adds a second, and a matrix product's.")
    parser.add_argument("--model", type=Path, default=REPOSITORY / "models/default", help="a model folder")
    parser.add_argument("--threads", type=arguments.positive, help="default: the cores there are")
    parser.add_argument("--rounds", type=arguments.positive, default=40, help="default: %(default)s")
    parser.add_argument("--json", type=Path, help="write the figures here")
    given = parser.parse_args(argv)
    arguments.make_way(given.json)
    found = measure(given.model, given.threads or usable_cores(), given.rounds)
    print(arithmetic_figures(found))
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
