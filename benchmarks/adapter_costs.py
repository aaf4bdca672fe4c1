"""What adapters cost: parameters of every pattern and kind, and time in exported graphs.

    python benchmarks/adapter_costs.py [--joint]
    python benchmarks/adapter_costs.py --joint --latency --json docs/results/adapter_costs.json

The first prints per kind the parameters, their share of the frozen network, the rank of lora, and `-n` where
the n dearest of the pattern's layers were left out for the budget.

The second exports the network with random weights at 320x240, once with all adapters of a pattern folded in
and once with a bank of random rows, and runs both in turns in ONNX Runtime. A ratio is the median over rounds
of bank to folded in the same round. The encoders of the three image sensors are alike but for their first
convolution, so that of colour is timed for all: `frame` is three times its time, the sound's and the
fusion's. Times are the processor's, which other load on the machine moves little; on a machine at rest
`--clock wall` takes those on the wall. The folded graph runs twice a round: the ratio of the two is noise.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from robust_perception import arguments
from robust_perception.benchmarking import machine
from robust_perception.benchmarking.turns import paired_ratio
from robust_perception.model.adapter_bank import AdapterBank, AdapterConfig, adapter_state, attach
from robust_perception.model.adapters import KINDS
from robust_perception.model.graphs import write_graphs
from robust_perception.model.network import Network
from robust_perception.model.network_config import NetworkConfig
from robust_perception.training.adaptation import bank_config
from robust_perception.training.method_config import AdaptationConfig
from robust_perception.vocabulary import ALL_PATTERNS, MODALITIES, Array, Pattern

JOINT: dict[str, Any] = {
    "bottleneck": 128, "translation": "mean", "shared": True, "probabilistic": True, "auxiliary": True,
}  # fmt: skip

SIZE = (240, 320)
FRAME = {"encoder_rgb": 3, "encoder_audio": 1, "fusion": 1}
"""Graphs that are timed, and how often a frame of all sensors runs one like it."""

PATTERN = Pattern.parse("rgb+depth+thermal")
CLOCKS: Mapping[str, Callable[[], float]] = {"cpu": time.process_time, "wall": time.perf_counter}

EVERYWHERE = {"finest_stride": 1, "wide": True}
CASES: Mapping[str, dict[str, Any]] = {
    "ssf": {"kind": "ssf"},
    "bitfit": {"kind": "bitfit"},
    "lora": {"kind": "lora"},
    "lora from stride 32": {"kind": "lora", "finest_stride": 32},
    "ssf in fusion": {"kind": "ssf", "places": ("fusion",)},
    "ssf everywhere": {"kind": "ssf", "budget": 1.0, **EVERYWHERE},
}
"""Sections `adapters` of a training, by what the table calls them."""


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(description="Parameters and time of adapters by kind.")
    parser.add_argument("--budget", type=float, default=AdapterConfig.budget, help="default: %(default)s")
    parser.add_argument("--classes", type=int, default=11, help="with the background (default: %(default)s)")
    parser.add_argument("--joint", action="store_true", help="the network with the parts of all four papers")
    parser.add_argument("--latency", action="store_true", help="time in exported graphs instead")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), help="default: all")
    parser.add_argument("--rounds", type=arguments.positive, default=100, help="default: %(default)s")
    parser.add_argument("--threads", type=arguments.positive, default=2, help="default: %(default)s")
    parser.add_argument("--clock", choices=CLOCKS, default="cpu", help="default: %(default)s")
    parser.add_argument("--graphs", type=Path, help="keep the graphs in this folder, and use those there")
    parser.add_argument("--json", type=Path, help="write the ratios here")
    given = parser.parse_args(argv)
    arguments.make_way(given.json)
    names = tuple(f"class {i}" for i in range(given.classes))
    shape = NetworkConfig(MODALITIES, names, ("scene a", "scene b", "scene c"))
    torch.manual_seed(0)
    network = Network(dataclasses.replace(shape, **JOINT) if given.joint else shape).eval()
    if not given.latency:
        print(parameters(network, given.budget))
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(given.graphs or scratch)
        ratios = latency(network, given.cases, folder, given.rounds, given.threads, CLOCKS[given.clock])
    print(table(ratios))
    if given.json is not None:
        about = {
            "device": machine.describe(),
            "versions": machine.versions("onnxruntime", "torch"),
            "threads": given.threads,
            "clock": given.clock,
            "rounds": given.rounds,
        }
        given.json.write_text(json.dumps({**about, "ratios": ratios}, indent=1) + "\n", encoding="utf-8")
    return 0


def parameters(network: Network, budget: float) -> str:
    """The table of parameters."""
    patterns = ALL_PATTERNS[1:]  # the full one needs none
    columns = {}
    for kind in KINDS:
        config = dataclasses.replace(bank_config(AdaptationConfig(kind)), budget=budget)
        bank = attach(copy.deepcopy(network), config, patterns, MODALITIES)
        everything = dataclasses.replace(config, budget=1.0, rank=1)
        whole = attach(copy.deepcopy(network), everything, patterns, MODALITIES)
        assert all(bank.count(p) <= budget * bank.base for p in patterns)
        columns[kind] = [
            f"{bank.count(p):6d} {bank.share(p):6.3%}"
            + (f" r={bank.ranks[p]}" if kind == "lora" else "")
            + (f" -{left}" if (left := layers(whole, p) - layers(bank, p)) else "")
            for p in patterns
        ]
    total = sum(parameter.numel() for parameter in network.served_parameters())
    lines = [
        f"frozen network {total} parameters, budget {budget:.2%} = {int(budget * total)}",
        f"{'pattern':20}" + "".join(f"{kind:26}" for kind in columns),
    ]
    for index, pattern in enumerate(patterns):
        lines.append(f"{pattern!s:20}" + "".join(f"{column[index]:26}" for column in columns.values()))
    return "\n".join(lines)


def layers(bank: AdapterBank, pattern: Pattern) -> int:
    """How many have a row for the pattern."""
    return sum(bool(adapter.row(pattern)) for adapter in bank.adapters.values())


def latency(
    network: Network,
    cases: Sequence[str],
    folder: Path,
    rounds: int,
    threads: int,
    clock: Callable[[], float],
) -> dict[str, dict[str, float]]:
    """By case and graph, and for a whole `frame`, the bank's time as a multiple of the folded network's."""
    folded = sessions(network, folder / "folded", threads)
    found: dict[str, dict[str, float]] = {}
    for case in cases:
        bank = sessions(adapted(network, CASES[case]), folder / case.replace(" ", "_"), threads)
        runs = {"folded": folded, "folded again": folded, case: bank}
        spent = race(runs, rounds, clock)
        base = spent["folded"]
        for name, graphs in spent.items():
            if name != "folded":
                ratios = {graph: paired_ratio(times, base[graph]) for graph, times in graphs.items()}
                ratios["frame"] = paired_ratio(whole_frame(graphs), whole_frame(base))
                found[name if name == case else f"noise beside {case}"] = ratios
    return found


def whole_frame(graphs: Mapping[str, Array]) -> Array:
    """Time of a frame of all sensors, float64 (rounds,), from those of the graphs like its own."""
    total: Array = np.sum([times * graphs[graph] for graph, times in FRAME.items()], axis=0)
    return total


def adapted(network: Network, section: Mapping[str, Any]) -> Network:
    """A copy with rows of chance for every pattern but the full one."""
    own = copy.deepcopy(network)
    attach(own, bank_config(AdaptationConfig(**section)), ALL_PATTERNS[1:], MODALITIES)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for row in adapter_state(own).values():
            row.add_(torch.randn(row.shape, generator=generator) * 0.05)
    return own


def sessions(network: Network, folder: Path, threads: int) -> dict[str, onnxruntime.InferenceSession]:
    """A session a graph, as `engine.onnxruntime` opens them."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {name: folder / f"{name}.onnx" for name in FRAME}
    write_graphs(network, SIZE, folder, only=[name for name, path in files.items() if not path.is_file()])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return {
        name: onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        for name, path in files.items()
    }


def race(
    runs: Mapping[str, Mapping[str, onnxruntime.InferenceSession]],
    rounds: int,
    clock: Callable[[], float],
) -> dict[str, dict[str, Array]]:
    """Seconds of every round, by run and graph; the runs take turns graph by graph, in both orders."""
    feeds = {name: {g: feed(session) for g, session in graphs.items()} for name, graphs in runs.items()}
    spent: dict[str, dict[str, list[float]]] = {
        name: {g: [] for g in graphs} for name, graphs in runs.items()
    }
    order = list(runs)
    for index in range(-2, rounds):  # two to warm up
        order = [*order[1:], order[0]]
        for graph in FRAME:
            for name in order:
                start = clock()
                runs[name][graph].run(None, feeds[name][graph])
                if index >= 0:
                    spent[name][graph].append(clock() - start)
    return {name: {g: np.array(times) for g, times in graphs.items()} for name, graphs in spent.items()}


def feed(session: onnxruntime.InferenceSession) -> dict[str, Array]:
    """Noise: what a frame shows costs nothing."""
    generator = np.random.default_rng(0)
    values: dict[str, Array] = {}
    for tensor in session.get_inputs():
        if tensor.name == "pattern":
            values[tensor.name] = np.array([PATTERN.bits], np.int64)
        elif tensor.type == "tensor(uint8)":
            values[tensor.name] = generator.integers(0, 256, tensor.shape, dtype=np.uint8)
        else:
            mean = 295.0 if tensor.name == "thermal" else 0.0
            values[tensor.name] = generator.normal(mean, 1.0, tensor.shape).astype(np.float32)
    return values


def table(ratios: Mapping[str, Mapping[str, float]]) -> str:
    """The ratios as text."""
    graphs = (*FRAME, "frame")
    lines = [f"{'':32}" + "".join(f"{graph:>17}" for graph in graphs)]
    for case, found in ratios.items():
        lines.append(f"{case:32}" + "".join(f"{found[graph]:17.3f}" for graph in graphs))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
