"""A bank of adapters as a graph, as tables, as a file; and what it refuses."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from adapted import (
    TRAINED,
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
    load_adapter_state,
    merge,
    tabulate,
)
from robust_perception.model.errors import ModelError, WeightsError
from robust_perception.vocabulary import ALL_PATTERNS, MODALITIES, Pattern, patterns_of


@kinds
@pytest.mark.filterwarnings("ignore::FutureWarning")  # the exporter warns of its own deprecations
def test_exported_graph_gathers_the_row_of_its_pattern(kind: str, tmp_path: Path) -> None:
    network = small()
    chosen = [p for p in TRAINED if p.bits != 4]
    bank = attach(network, AdapterConfig(kind, budget=0.5, rank=8), chosen, MODALITIES)
    perturb(network, 0.3)
    if kind == "lora":
        assert len(set(bank.ranks.values())) > 1, "ranks differ, so that padding is tried"
    x = pictures(1)
    traced = tabulate(network)
    program = torch.onnx.export(
        traced,
        (x, torch.tensor([1])),
        input_names=["x", "pattern"],
        dynamo=True,
        optimize=True,
        verbose=False,
    )
    assert program is not None
    program.save(str(tmp_path / "small.onnx"), external_data=False)
    session = onnxruntime.InferenceSession(tmp_path / "small.onnx", providers=["CPUExecutionProvider"])
    found = {}
    for pattern in ALL_PATTERNS:
        [out] = session.run(None, {"x": x.numpy(), "pattern": np.array([pattern.bits], np.int64)})
        with torch.no_grad():
            np.testing.assert_allclose(out, network(x, bits(pattern)).numpy(), atol=1e-5, rtol=1e-5)
        found[pattern] = out
    assert not np.array_equal(found[Pattern.parse("rgb")], small()(x, torch.tensor([1])).detach().numpy())
    assert traced.selection.pattern is None, "tracing left a pattern selected"
    with pytest.raises(ModelError, match="trace the copy"):
        torch.export.export(network, (x, torch.tensor([1])))


@kinds
def test_tables_say_what_rows_say(kind: str) -> None:
    network, _ = adapted_small(kind)
    traced = tabulate(network)
    assert adapter_state(traced).keys().isdisjoint(adapter_state(network))
    for pattern in patterns_of(TWO):
        x = pictures(1)
        torch.testing.assert_close(
            traced(x, bits(pattern)), network(x, bits(pattern)), atol=1e-5, rtol=1e-5, msg=str(pattern)
        )
    with pytest.raises(ModelError, match="has tables, not rows"):
        merge(traced, TRAINED[0])
    if kind == "lora":
        with pytest.raises(ModelError, match="batches of one, got 2"):
            traced(pictures(2), bits(*TRAINED[:2]))


@kinds
def test_rows_travel_without_the_base(kind: str) -> None:
    network, bank = adapted_small(kind)
    state = {name: row.clone() for name, row in adapter_state(network).items()}
    assert sum(row.numel() for row in state.values()) == sum(bank.count(p) for p in bank.patterns)
    assert network.state_dict().keys() - state.keys() == small().state_dict().keys()
    other = small()
    attach(other, bank.config, bank.patterns, TWO)
    x, pattern = pictures(2), bits(*bank.patterns)
    assert not torch.equal(other(x, pattern), network(x, pattern))
    load_adapter_state(other, state)
    assert torch.equal(other(x, pattern), network(x, pattern))
    name = next(iter(state))
    with pytest.raises(WeightsError, match=r"1 missing .*0 unknown"):
        load_adapter_state(other, {k: v for k, v in state.items() if k != name})
    with pytest.raises(WeightsError, match="expected shape"):
        load_adapter_state(other, state | {name: torch.zeros(1, 1, 1)})


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
