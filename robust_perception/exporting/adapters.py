"""What a manifest says of a network's adapters."""

from __future__ import annotations

from collections import Counter

from robust_perception.engine.manifest import AdapterSpec
from robust_perception.model.adapter_bank import adapters_of
from robust_perception.model.adapters import KINDS
from robust_perception.model.network import Network
from robust_perception.vocabulary import patterns_of


def adapters_in(network: Network) -> AdapterSpec | None:
    """Kind, places and cost of a network's adapters; None without any.

    A pattern whose rows change nothing, as after `AdapterBank.reset`, counts as one without rows.
    """
    adapters = adapters_of(network)
    if not adapters:
        return None
    counts: dict[int, int] = {}
    for pattern in patterns_of(network.config.modalities):
        if any(adapter.changes(pattern) for adapter in adapters.values()):
            rows = [row for adapter in adapters.values() for row in adapter.row(pattern)]
            counts[pattern.bits] = sum(row.numel() for row in rows)
    own = {id(parameter) for adapter in adapters.values() for parameter in adapter.parameters()}
    shared = sum(p.numel() for p in network.served_parameters() if id(p) not in own)
    first = next(iter(adapters.values()))
    kind = next(name for name, kind in KINDS.items() if type(first) is kind)
    return AdapterSpec(kind, dict(Counter(name.split(".")[0] for name in adapters)), counts, shared)
