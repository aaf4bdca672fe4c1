"""A bank as part of a graph: merged or as a side path, it says for every pattern what the rows say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from adapted import TRAINED, TWO, adapted_small, bits, kinds, perturb, pictures, small
from torch import Tensor, nn

from robust_perception.exporting.graph_nodes import adapter_nodes
from robust_perception.model import graphs
from robust_perception.model.adapter_bank import AdapterConfig, attach, merge
from robust_perception.model.adapter_merging import Blended, merge_in_graph
from robust_perception.model.errors import ModelError
from robust_perception.vocabulary import ALL_PATTERNS, MODALITIES, Pattern, patterns_of

slow_machine = pytest.mark.timeout(900)
"""The exporter needs seconds of a core of its own, and minutes of a shared one."""

forms = pytest.mark.parametrize("fixed", [False, True], ids=["cheapest", "fixed weights"])


@kinds
@forms
def test_a_copy_for_tracing_says_what_rows_say(kind: str, fixed: bool) -> None:
    network, _ = adapted_small(kind)
    traced = merge_in_graph(network, fixed)
    for pattern in patterns_of(TWO):
        x = pictures(1)
        torch.testing.assert_close(
            traced(x, bits(pattern)), network(x, bits(pattern)), atol=1e-5, rtol=1e-5, msg=str(pattern)
        )
    assert traced.selection.pattern is None, "a run left a pattern selected"
    with pytest.raises(ModelError, match="has tables, not rows"):
        merge(traced, TRAINED[0])
    with pytest.raises(ModelError, match="batches of one, got"):
        traced(pictures(2), bits(*TRAINED[:2]))


def merged_layers(kind: str, fixed: bool, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of the layers that ran with blended weights."""
    network, _ = adapted_small(kind)
    traced = merge_in_graph(network, fixed)
    found: set[str] = set()
    called = torch.func.functional_call

    def spy(module: nn.Module, weights: Mapping[str, Tensor], x: tuple[Tensor]) -> Tensor:
        found.update(name for name, m in traced.named_modules() if m is module)
        output: Tensor = called(module, weights, x)
        return output

    monkeypatch.setattr(torch.func, "functional_call", spy)
    traced(pictures(1), bits(Pattern.parse("rgb+audio")))
    return {name.removesuffix(".layer") for name in found}


def test_what_is_merged_is_what_costs_less_that_way(monkeypatch: pytest.MonkeyPatch) -> None:
    norms = {"encoders.rgb.6", "fusion.mix.1", "fusion.deep.1"}
    # 30 cells: more than the 27 weights of a channel of rgb.0, and than the 8 of rgb.5
    assert merged_layers("ssf", False, monkeypatch) == {*norms, "encoders.rgb.0", "encoders.rgb.5"}
    assert merged_layers("ssf", True, monkeypatch) == norms
    assert merged_layers("bitfit", False, monkeypatch) == norms
    # 27 * 8 / 35 and 8 * 8 / 16 are fewer than 30, 72 * 8 / 80 fewer than 9, and a vector's one cell than 4
    assert merged_layers("lora", False, monkeypatch) == {"encoders.rgb.0", "encoders.rgb.5", "fusion.mix.0"}
    assert merged_layers("lora", True, monkeypatch) == set()


def test_a_convolution_and_its_norm_are_one_layer_and_depthwise_ones_stay() -> None:
    network, _ = adapted_small("ssf")
    layers = dict(merge_in_graph(network).named_modules())
    assert isinstance(layers["encoders.rgb.0"], Blended)
    assert isinstance(layers["encoders.rgb.1"], nn.Identity)
    assert isinstance(layers["encoders.rgb.4"], Blended)
    assert isinstance(layers["encoders.rgb.4.layer"], nn.BatchNorm2d)


def export(network: nn.Module, path: Path) -> onnx.ModelProto:
    graphs._write(network, (pictures(1), torch.tensor([1])), path, ["x", "pattern"], ["y"])
    return onnx.load(path)


def assert_static(model: onnx.ModelProto) -> None:
    """No shape is computed, and nothing is gathered in a way that few runtimes know."""
    constants = {i.name for i in model.graph.initializer}
    constants |= {o for n in model.graph.node if n.op_type == "Constant" for o in n.output}
    computed = [n.name for n in model.graph.node if n.op_type in ("Reshape", "Expand", "Resize")
                and not all(i in constants for i in n.input[1:] if i)]  # fmt: skip
    assert computed == []
    kinds_of = {node.op_type for node in model.graph.node}
    assert kinds_of.isdisjoint({"Shape", "GatherND", "NonZero", "If", "Loop"})


@slow_machine
@kinds
def test_graphs_of_both_forms_answer_as_the_network_does(kind: str, tmp_path: Path) -> None:
    network = small()
    chosen = [p for p in TRAINED if p.bits != 4]
    bank = attach(network, AdapterConfig(kind, budget=0.5, rank=8), chosen, MODALITIES)
    perturb(network, 0.3)
    if kind == "lora":
        assert len(set(bank.ranks.values())) > 1, "ranks differ, so that padding is tried"
    x = pictures(1)
    sessions = []
    for fixed in (False, True):
        path = tmp_path / f"{fixed}.onnx"
        model = export(merge_in_graph(network, fixed), path)
        assert_static(model)
        constants = {i.name for i in model.graph.initializer}
        side = set(adapter_nodes(model.graph))
        loose = [n for n in model.graph.node if n.op_type == "Conv" and n.input[1] not in constants]
        if fixed:
            assert all(node.name in side for node in loose), "a frozen weight is no constant"
        else:
            assert len(loose) >= (0 if kind == "bitfit" else 2)
        sessions.append(onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]))
    moved = set()
    for pattern in ALL_PATTERNS:
        feed = {"x": x.numpy(), "pattern": np.array([pattern.bits], np.int64)}
        with torch.no_grad():
            expected = network(x, bits(pattern)).numpy()
            plain = small()(x, bits(pattern)).numpy()
        found = [session.run(None, feed)[0] for session in sessions]
        for got in found:
            np.testing.assert_allclose(got, expected, atol=1e-5, rtol=1e-4, err_msg=str(pattern))
        np.testing.assert_allclose(found[0], found[1], atol=1e-5, rtol=1e-5, err_msg=str(pattern))
        if not np.allclose(found[0], plain, atol=0.02):
            moved.add(pattern)
    # Under a pattern of other sensors all that layers see is zero, and a product with that stays so.
    seeing = {p for p in chosen if kind != "lora" or any(m in p for m in TWO)}
    assert moved == seeing, "rows are too small to matter: ignored adapters would pass"


@slow_machine
@kinds
def test_a_pattern_leaves_nothing_behind(kind: str, tmp_path: Path) -> None:
    network, _ = adapted_small(kind)
    path = tmp_path / "small.onnx"
    export(merge_in_graph(network), path)
    x = pictures(1).numpy()

    def open_one() -> onnxruntime.InferenceSession:
        return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    session = open_one()
    order = [*patterns_of(TWO), *patterns_of(TWO)[::-1], *ALL_PATTERNS]
    for pattern in order:
        feed = {"x": x, "pattern": np.array([pattern.bits], np.int64)}
        assert session.run(None, feed)[0].tobytes() == open_one().run(None, feed)[0].tobytes(), str(pattern)


def test_a_network_with_rows_is_not_traced() -> None:
    network, _ = adapted_small("ssf")
    with pytest.raises(ModelError, match="trace the copy"):
        torch.export.export(network, (pictures(1), torch.tensor([1])))
