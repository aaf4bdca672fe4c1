"""Adapters: nothing changes before training, training one pattern moves no other, all forms say the same."""

from __future__ import annotations

import copy

import pytest
import torch
from adapted import (
    FULL,
    SOME,
    TRAINED,
    adapted,
    adapted_small,
    bits,
    flat,
    kinds,
    perturb,
    pictures,
    run,
    small,
)
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from measurements import SIZE, raw_inputs
from torch import Tensor, nn

from robust_perception.model.adapter_bank import (
    AdapterConfig,
    adapter_state,
    adapters_of,
    attach,
    detach,
    merge,
)
from robust_perception.model.adapters import KINDS
from robust_perception.model.errors import ModelError
from robust_perception.model.network import Network
from robust_perception.model.network_config import NetworkConfig
from robust_perception.vocabulary import ALL_PATTERNS, MODALITIES, Modality, Pattern


@kinds
def test_at_first_nothing_changes(kind: str, network: Network) -> None:
    own, bank = adapted(network, kind, ALL_PATTERNS)
    for pattern in ALL_PATTERNS:
        assert bank.count(pattern) > 0
        for before, after in zip(run(network, pattern), run(own, pattern), strict=True):
            assert torch.equal(before, after), str(pattern)


@kinds
@pytest.mark.parametrize("which", ["plain", "joint"])
def test_rows_count_and_merge(kind: str, which: str, request: pytest.FixtureRequest) -> None:
    network: Network = request.getfixturevalue(which)
    own, _ = adapted(network, kind)
    perturb(own, 0.02)
    for pattern in SOME if which == "plain" else SOME[1:4:2]:
        frozen, alive, merged = run(network, pattern), run(own, pattern), run(merge(own, pattern), pattern)
        for before, after, folded in zip(frozen, alive, merged, strict=True):
            assert torch.equal(before, after) is (pattern == FULL), str(pattern)
            assert float((after - folded).abs().max()) <= 1e-5 * max(1.0, float(after.abs().max()))


@kinds
def test_a_merged_network_is_a_plain_one(kind: str) -> None:
    network, bank = adapted_small(kind)
    state = copy.deepcopy(network.state_dict())
    for pattern in bank.patterns:
        plain = merge(network, pattern)
        assert plain.state_dict().keys() == small().state_dict().keys()
        assert [type(m) for m in plain.modules()] == [type(m) for m in small().modules()]
        x = pictures(3)
        torch.testing.assert_close(
            plain(x, bits(pattern)), network(x, bits(pattern)), atol=1e-5, rtol=1e-5, msg=str(pattern)
        )
    for name, value in network.state_dict().items():
        assert torch.equal(value, state[name]), f"merging moved {name}"


@kinds
def test_detaching_leaves_the_frozen_network(kind: str) -> None:
    network, bank = adapted_small(kind)
    detach(network)
    assert adapters_of(network) == {}
    x, pattern = pictures(2), bits(bank.patterns[0]).expand(2)
    assert torch.equal(network(x, pattern), small()(x, pattern))
    assert network.train().encoders["rgb"][1].training


@pytest.fixture(scope="module")
def real() -> Network:
    """The network as it is trained by default."""
    torch.manual_seed(0)
    return Network(
        NetworkConfig(MODALITIES, ("background", *"abcdefghij"), ("quiet", "ticks", "hum"), 64, 128)
    )


@kinds
def test_every_pattern_of_the_real_network_keeps_its_budget(kind: str, real: Network) -> None:
    own = copy.deepcopy(real)
    total = sum(p.numel() for p in real.parameters())
    config = AdapterConfig(kind, leave_out=True)
    bank = attach(own, config, TRAINED, MODALITIES)
    assert bank.base == total
    for pattern in TRAINED:
        named = [n for n, _ in own.named_parameters() if n.endswith(f".{pattern.bits}")]
        rows = [own.get_parameter(name) for name in named]
        cost = sum(row.numel() for row in rows)
        assert {id(row) for row in rows} == {id(row) for row in bank.parameters_of(pattern)}
        assert 0 < cost == bank.count(pattern) <= config.budget * total
        assert bank.share(pattern) == cost / total
        absent = {m.value for m in MODALITIES if m not in pattern}
        assert not [n for n in named if not absent.isdisjoint(n.split("."))], "an absent sensor costs nothing"
        assert not [n for n in named for part in config.frozen if part in n]
        if kind == "lora" and len(pattern) == 1:
            unit, rank = cost // bank.ranks[pattern], bank.ranks[pattern]
            assert rank == config.rank or (rank + 1) * unit > config.budget * total, "one more rank would fit"
    assert bank.count(FULL) == 0


def test_a_pattern_beyond_the_budget_is_refused_or_loses_its_dearest_layers(real: Network) -> None:
    pattern = Pattern.parse("rgb+depth+thermal")
    own = copy.deepcopy(real)
    with pytest.raises(
        ModelError, match=r"ssf for rgb\+depth\+thermal: costs \d+ .*1\.\d+%.*budget is \d+ \(0\.70%\)"
    ):
        attach(own, AdapterConfig("ssf"), [pattern], MODALITIES)
    assert all(p.requires_grad for p in own.parameters())
    assert adapters_of(own) == {}
    whole = attach(copy.deepcopy(real), AdapterConfig("ssf", budget=0.02), [pattern], MODALITIES)
    bank = attach(own, AdapterConfig("ssf", leave_out=True), [pattern], MODALITIES)
    left_out = whole.adapters.keys() - bank.adapters.keys()
    sizes = {name: sum(row.numel() for row in a.row(pattern)) for name, a in whole.adapters.items()}
    assert max(sizes[name] for name in bank.adapters) < min(sizes[name] for name in left_out)
    for modality in ("depth", "thermal"):
        layers = {n.replace(modality, "rgb") for n in bank.adapters if modality in n}
        assert layers == {n for n in bank.adapters if "rgb" in n}, "sensors are treated alike"
    with pytest.raises(ModelError, match="or set leave_out"):
        attach(copy.deepcopy(real), AdapterConfig("ssf", budget=1e-6, leave_out=True), [pattern], MODALITIES)


def cannot_learn(name: str, kind: str, pattern: Pattern) -> bool:
    """Rows without effect: a gate with nothing to weigh against, a matrix that is only given zeros, and a
    translation to sound at a level where sound is not asked for."""
    if "completions.p4" in name and "audio" in name and Modality.AUDIO not in pattern:
        return True
    images = sum(m.is_image for m in pattern)
    zeros = (".mix." in name and images == 0) or (".sound." in name and Modality.AUDIO not in pattern)
    return (".gates." in name and images == 1) or (kind == "lora" and zeros)


@kinds
@pytest.mark.parametrize("which", ["plain", "joint"])
def test_gradient_reaches_the_rows_of_the_pattern_and_nothing_else(
    kind: str, which: str, request: pytest.FixtureRequest
) -> None:
    network: Network = request.getfixturevalue(which)
    own, bank = adapted(network, kind)
    perturb(own, 0.02)
    own.train()
    for pattern in (Pattern.parse("depth+audio"), Pattern.parse("rgb+depth+thermal"), Pattern.parse("audio")):
        own.zero_grad(set_to_none=True)
        outputs = flat(own(raw_inputs(SIZE), bits(pattern)))
        torch.stack([(o * torch.randn(o.shape)).mean() for o in outputs]).sum().backward()
        mine = {id(row) for row in bank.parameters_of(pattern)}
        moved = {n: p for n, p in own.named_parameters() if p.grad is not None and bool((p.grad != 0).any())}
        assert all(id(p) in mine for p in own.parameters() if p.grad is not None)
        idle = {n for n, p in own.named_parameters() if id(p) in mine and n not in moved}
        assert {n for n in idle if not cannot_learn(n, kind, pattern)} == set(), str(pattern)
        assert len(idle) < 0.2 * len(mine)


@kinds
def test_training_some_patterns_moves_no_bit_of_the_rest(kind: str) -> None:
    network, bank = adapted_small(kind)
    rgb, audio = bank.patterns
    frozen = {n: v.clone() for n, v in network.state_dict().items() if n not in adapter_state(network)}
    adam = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], 0.1, weight_decay=0.5)

    def step(*patterns: Pattern) -> None:
        network.train()
        adam.zero_grad()
        loss = network(pictures(len(patterns)), bits(*patterns)).pow(2).sum()
        if loss.requires_grad:
            loss.backward()
        adam.step()

    def rows(pattern: Pattern) -> list[Tensor]:
        return [row.detach().clone() for row in bank.parameters_of(pattern)]

    step(rgb, audio)  # both have moments now
    for trained, rest in ((rgb, audio), (audio, rgb)):
        before, others = rows(trained), rows(rest)
        step(trained, trained)
        step(trained, FULL)  # a mixed batch, one of them without rows
        assert all(torch.equal(a, b) for a, b in zip(others, rows(rest), strict=True))
        assert not any(torch.equal(a, b) for a, b in zip(before, rows(trained), strict=True))
    for name, value in frozen.items():
        assert torch.equal(value, network.state_dict()[name]), f"training moved {name}"


def test_batch_statistics_stay_frozen_in_training_mode(network: Network) -> None:
    own, _ = adapted(network, "ssf")
    plain = copy.deepcopy(network).train()
    pattern = Pattern.parse("rgb+thermal")
    expected, buffers = run(own, pattern), {n: b.clone() for n, b in own.named_buffers()}
    own.train()
    for one, two in zip(expected, run(own, pattern), strict=True):
        assert torch.equal(one, two)
    assert buffers and all(torch.equal(b, buffers[n]) for n, b in own.named_buffers())
    run(plain, pattern)
    assert any(not torch.equal(b, buffers[n]) for n, b in plain.named_buffers()), "they would have moved"


@seed(0)
@settings(max_examples=40, database=None)
@given(st.lists(st.integers(1, 15), min_size=1, max_size=6), st.sampled_from(sorted(KINDS)))
def test_a_mixed_batch_is_its_samples_one_by_one(masks: list[int], kind: str) -> None:
    network, _ = adapted_small(kind)
    x, pattern = pictures(len(masks)), torch.tensor(masks)
    together = network(x, pattern)
    for index in range(len(masks)):
        alone = network(x[index : index + 1], pattern[index : index + 1])
        torch.testing.assert_close(together[index], alone[0], atol=1e-5, rtol=1e-5)


def test_lora_is_what_the_library_peft_does() -> None:
    peft = pytest.importorskip("peft", reason="peft is not installed: `make test` installs it")

    class Reference(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.ModuleDict(
                {
                    "conv": nn.Conv2d(3, 8, 3, 2, 1, bias=False),
                    "one": nn.Linear(8, 16),
                    "two": nn.Linear(16, 4),
                }
            )

        def forward(self, x: Tensor) -> Tensor:
            h = torch.relu(self.body["conv"](x)).mean(dim=(2, 3))
            out: Tensor = self.body["two"](torch.relu(self.body["one"](h)))
            return out

    torch.manual_seed(0)
    network, pattern = Reference(), Pattern.parse("rgb")
    theirs = peft.get_peft_model(
        copy.deepcopy(network),
        peft.LoraConfig(r=3, lora_alpha=6, target_modules=["conv", "one", "two"], init_lora_weights=False),
    ).eval()
    config = AdapterConfig("lora", budget=1.0, rank=3, alpha_over_rank=2.0, places=("body",))
    bank = attach(network, config, [pattern], MODALITIES)
    assert bank.ranks == {pattern: 3}
    with torch.no_grad():
        for name, adapter in bank.adapters.items():
            down, up = adapter.row(pattern)
            layer = theirs.base_model.model.get_submodule(name)
            down.copy_(layer.lora_A["default"].weight)
            up.copy_(layer.lora_B["default"].weight)
        assert sum(p.numel() for n, p in theirs.named_parameters() if "lora_" in n) == bank.count(pattern)
        x = pictures(4)
        with bank.selection.of(bits(pattern)):
            torch.testing.assert_close(network(x), theirs(x), atol=1e-6, rtol=1e-5)
        mine, merged = merge(network, pattern).state_dict(), theirs.merge_and_unload().state_dict()
    assert mine.keys() == merged.keys()
    for name, value in mine.items():
        torch.testing.assert_close(value, merged[name], atol=1e-6, rtol=1e-5, msg=name)
