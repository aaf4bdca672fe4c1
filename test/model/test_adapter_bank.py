"""A bank of adapters as a file, and what it refuses."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from adapted import (
    TWO,
    adapted_small,
    bits,
    kinds,
    perturb,
    pictures,
    small,
)

from robust_perception.model.adapter_bank import (
    AdapterConfig,
    adapter_state,
    attach,
    plan,
)
from robust_perception.model.errors import ModelError
from robust_perception.vocabulary import Pattern, patterns_of


@kinds
def test_rows_are_what_the_network_has_beside_its_base(kind: str) -> None:
    network, bank = adapted_small(kind)
    state = adapter_state(network)
    assert sum(row.numel() for row in state.values()) == sum(bank.count(p) for p in bank.patterns)
    assert network.state_dict().keys() - state.keys() == small().state_dict().keys()


def test_a_plan_says_what_is_attached_and_changes_nothing() -> None:
    network, config, patterns = small(), AdapterConfig(budget=0.3), patterns_of(TWO)[1:]
    before, modules = copy.deepcopy(network.state_dict()), [type(m) for m in network.modules()]
    planned = plan(network, config, patterns, TWO)
    assert [type(m) for m in network.modules()] == modules
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.requires_grad for parameter in network.parameters())
    bank = attach(network, config, patterns, TWO)
    assert {name for names, _ in planned.patterns.values() for name in names} == set(bank.adapters)


def test_a_copy_follows_its_own_rows() -> None:
    network, bank = adapted_small("ssf")
    x, pattern = pictures(2), bits(*bank.patterns)
    before, twin = network(x, pattern), copy.deepcopy(network)
    perturb(twin, 0.5)
    assert torch.equal(network(x, pattern), before)
    assert not torch.equal(twin(x, pattern), before)


def test_rows_start_alike_whatever_else_is_trained() -> None:
    one, two = (Pattern.parse("rgb"), Pattern.parse("audio"))
    alone, beside = small(), small()
    config = AdapterConfig("lora", budget=0.3)
    first = attach(alone, config, [two], TWO).parameters_of(two)
    second = attach(beside, config, [one, two], TWO).parameters_of(two)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    third = attach(small(), AdapterConfig("lora", budget=0.3, seed=1), [two], TWO).parameters_of(two)
    assert not all(torch.equal(a, b) for a, b in zip(first, third, strict=True))
    down = first[0].detach()
    bound = 1.0 / math.sqrt(down[0].numel())
    assert 0.5 * bound < float(down.abs().max()) <= bound


def test_what_cannot_be_selected_is_refused() -> None:
    network, bank = adapted_small("ssf")
    with pytest.raises(ModelError, match="no pattern was selected"):
        network.fusion["deep"](torch.zeros(2, 8))
    for wrong, words in (
        (torch.zeros(2), r"int64 \(B,\), got torch.float32"),
        (torch.tensor([[1]]), r"got torch.int64 \(1, 1\)"),
        (torch.tensor([1, 16]), r"from 0 to 15, got \[1, 16\]"),
        (torch.tensor([-1]), r"got \[-1\]"),
        (torch.zeros(0, dtype=torch.int64), r"got \[\]"),
    ):
        with pytest.raises(ModelError, match=words), bank.selection.of(wrong):
            pass
    with pytest.raises(ModelError, match=r"2 samples .* sees 5"), bank.selection.of(bits(*bank.patterns)):
        network.fusion["deep"](torch.zeros(5, 8))
    assert bank.selection.pattern is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "prefix"}, "one of lora, ssf, bitfit, got 'prefix'"),
        ({"budget": 0.0}, r"share in \(0, 1\], got 0"),
        ({"budget": float("nan")}, "got nan"),
        ({"rank": 0}, "at least 1, got 0"),
        ({"alpha_over_rank": float("inf")}, "positive, got inf"),
        ({"places": ()}, "at least one part"),
        ({"finest_stride": 0}, "finest_stride is at least 1, got 0"),
    ],
)
def test_wrong_configuration_is_refused(change: Mapping[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        AdapterConfig(**change)


def test_what_does_not_fit_the_network_is_refused() -> None:
    network, config = small(), AdapterConfig(budget=1.0)
    for patterns in ([], [Pattern.parse("rgb+depth")]):
        with pytest.raises(ModelError, match=r"one or more out of rgb\+audio, got"):
            attach(network, config, patterns, TWO)
    with pytest.raises(ModelError, match=r"place 'decoder'.*'encoders', 'representers', 'fusion'"):
        attach(network, AdapterConfig(budget=1.0, places=("fusion", "decoder")), patterns_of(TWO), TWO)
    with pytest.raises(ModelError, match=r"no layer in places \['encoders.rgb'\] serves audio"):
        attach(network, AdapterConfig(budget=1.0, places=("encoders.rgb",)), patterns_of(TWO), TWO)
    attach(network, config, patterns_of(TWO), TWO)
    with pytest.raises(ModelError, match="has adapters already"):
        attach(network, config, patterns_of(TWO), TWO)
