"""What adapters cost: parameters of every pattern and kind on the network as it is trained by default.

    python benchmarks/adapter_costs.py [--joint]

Per kind the parameters, their share of the frozen network, the rank of lora, and `-n` where the n dearest of
the pattern's layers were left out for the budget.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

from robust_perception.model.adapter_bank import AdapterBank, AdapterConfig, attach
from robust_perception.model.adapters import KINDS
from robust_perception.model.network import Network
from robust_perception.model.network_config import NetworkConfig
from robust_perception.vocabulary import ALL_PATTERNS, MODALITIES, Pattern

JOINT: dict[str, Any] = {
    "bottleneck": 128, "translation": "mean", "shared": True, "probabilistic": True, "auxiliary": True,
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Parameters of adapters by pattern and kind.")
    parser.add_argument("--budget", type=float, default=AdapterConfig.budget, help="default: %(default)s")
    parser.add_argument("--classes", type=int, default=11, help="with the background (default: %(default)s)")
    parser.add_argument("--joint", action="store_true", help="the network with the parts of all four papers")
    given = parser.parse_args(argv)
    names = tuple(f"class {i}" for i in range(given.classes))
    shape = NetworkConfig(MODALITIES, names, ("scene a", "scene b", "scene c"))
    network = Network(dataclasses.replace(shape, **JOINT) if given.joint else shape)
    patterns = ALL_PATTERNS[1:]  # the full one needs none
    columns = {}
    for kind in KINDS:
        config = AdapterConfig(kind, given.budget, leave_out=True)
        bank = attach(copy.deepcopy(network), config, patterns, MODALITIES)
        everything = AdapterConfig(kind, budget=1.0, rank=1)
        whole = attach(copy.deepcopy(network), everything, patterns, MODALITIES)
        assert all(bank.count(p) <= given.budget * bank.base for p in patterns)
        columns[kind] = [
            f"{bank.count(p):6d} {bank.share(p):6.3%}"
            + (f" r={bank.ranks[p]}" if kind == "lora" else "")
            + (f" -{left}" if (left := layers(whole, p) - layers(bank, p)) else "")
            for p in patterns
        ]
    total = sum(parameter.numel() for parameter in network.parameters())
    print(f"frozen network {total} parameters, budget {given.budget:.2%} = {int(given.budget * total)}")
    print(f"{'pattern':20}" + "".join(f"{kind:26}" for kind in columns))
    for index, pattern in enumerate(patterns):
        print(f"{pattern!s:20}" + "".join(f"{column[index]:26}" for column in columns.values()))
    return 0


def layers(bank: AdapterBank, pattern: Pattern) -> int:
    """How many have a row for the pattern."""
    return sum(bool(adapter.row(pattern)) for adapter in bank.adapters.values())


if __name__ == "__main__":
    sys.exit(main())
