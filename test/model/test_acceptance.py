"""The ten statements that the composed method has to keep, and where each is shown.

What the test of a part shows plainly is named and not repeated. Here is what needs the whole network, as the
study trains it with everything switched on and with the adapters of every pattern.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
import yaml
from measurements import SIZE, raw_inputs, shake
from torch import Tensor

from robust_perception.model.adapter_bank import AdapterBank, AdapterConfig, attach, merge
from robust_perception.model.adapters import KINDS
from robust_perception.model.network import Network
from robust_perception.model.network_config import NetworkConfig
from robust_perception.vocabulary import ALL_PATTERNS, MODALITIES, Modality, Pattern

HERE = Path(__file__).parent
FULL = Pattern.of(MODALITIES)
POORER = tuple(p for p in ALL_PATTERNS if p != FULL)
BUDGET = 0.007

SHOWN: dict[str, tuple[str, ...]] = {
    "1 an absent sensor's raw input changes no bit of the output, under all patterns": (
        "model/test_acceptance.py::test_1_an_absent_sensors_raw_input_changes_no_bit",
        "model/test_acceptance.py::test_1_nor_of_a_batch_in_which_others_have_the_sensor",
        "model/test_composition.py::test_an_absent_sensors_raw_input_changes_no_bit",
        "model/test_composition.py::test_graphs_answer_as_the_network_does_and_absent_latents_change_no_bit",
        "model/test_network.py::test_absent_latents_change_no_bit",
        "engine/test_default_model.py::test_absent_latents_may_hold_anything",
    ),
    "2 adapters change nothing at first; folded scale and shift are the unfolded within 1e-5": (
        "model/test_acceptance.py::test_2_scale_and_shift_change_nothing_at_first_and_fold",
        "model/test_adapters.py::test_at_first_nothing_changes",
        "model/test_adapters.py::test_rows_count_and_merge",
    ),
    "3 the full pattern calls no translator; sound alone gives finite maps": (
        "model/test_acceptance.py::test_3_sound_alone_gives_finite_maps",
        "model/test_composition.py::test_the_full_pattern_calls_no_translator_and_sound_alone_calls_its_own",
        "model/test_completion.py::test_nothing_is_translated_when_everything_is_there",
    ),
    "4 both directions of a translator share storage: 6 networks a level for 4 sensors": (
        "model/test_acceptance.py::test_4_both_directions_share_storage",
        "model/test_translation.py::test_six_networks_for_four_sensors_serve_both_directions",
    ),
    "5 KL >= 0, 0 at the standard normal, its gradient reaches the probabilistic head": (
        "training/test_acceptance_of_training.py::test_5_the_kl_teaches_the_head_through_the_whole_objective",
        "model/test_bottleneck.py::test_kl_is_that_of_the_library_and_never_negative",
        "model/test_bottleneck.py::test_kl_of_the_standard_normal_is_zero",
        "model/test_embedding.py::test_the_kl_has_a_gradient_with_respect_to_every_part_of_the_head",
    ),
    "6 no gradient through positive weights; supervised contrast and InfoNCE are the two ends": (
        "model/test_alignment.py::test_the_contrast_learns_as_if_its_weights_were_given",
        "model/test_alignment.py::test_all_labelled_is_the_supervised_contrast",
        "model/test_alignment.py::test_no_label_and_no_likely_positive_is_infonce",
        "model/test_alignment.py::test_a_batch_without_labels_is_infonce_in_both_directions",
    ),
    "7 inference says the same twice": ("model/test_acceptance.py::test_7_inference_says_the_same_twice",),
    "8 a pattern's adapters cost at most 0.7 % of the parameters; LoRA of rank 4 everywhere does not": (
        "model/test_acceptance.py::test_8_a_pattern_trains_at_most_its_share",
        "model/test_acceptance.py::test_8_lora_of_rank_4_on_all_layers_breaks_the_budget",
        "model/test_adapters.py::test_every_pattern_of_the_real_network_keeps_its_budget",
    ),
    "9 with swap, gamma, alpha and hard combinations off, the curves are those of the base": (
        "training/test_acceptance_of_training.py::test_9_with_the_methods_off_the_objective_is_the_task",
        "training/test_acceptance_of_training.py::test_9_what_is_idle_leaves_the_curve_of_the_plain_network",
        "training/test_methods.py::test_what_is_off_leaves_the_training_as_it_was",
    ),
    "10 the order of the variances agrees over two windows before hard combinations count": (
        "training/test_acceptance_of_training.py::test_10_hard_combinations_wait_for_an_order_that_stays",
        "model/test_embedding.py::test_the_order_is_believed_from_a_correlation_above_seven_tenths",
        "model/test_embedding.py::test_combinations_that_never_occur_do_not_agree_with_themselves",
        "model/test_embedding.py::test_windows_in_which_nothing_was_drawn_do_not_count",
    ),
}


def test_all_that_is_named_exists() -> None:
    assert [statement.split()[0] for statement in SHOWN] == [str(number) for number in range(1, 11)]
    for names in SHOWN.values():
        for file, test in (name.split("::") for name in names):
            assert f"def {test}(" in (HERE.parent / file).read_text(), f"{file}::{test}"


@pytest.fixture(scope="module")
def whole() -> Network:
    """The network of the study's row `joint`, for four sensors; every path of it is used."""
    study = yaml.safe_load((HERE.parents[1] / "config" / "study" / "mm5.yaml").read_text())
    parts = study["rows"]["joint"]["network"]
    assert all(parts[name] for name in ("bottleneck", "shared", "probabilistic", "auxiliary"))
    assert parts["translation"] == "mean"
    torch.manual_seed(0)
    names = {"class_names": ("background", *"abcdefghij"), "scene_names": ("quiet", "ticks", "hum")}
    built = Network(NetworkConfig(MODALITIES, **{**names, **parts}))
    shake(built.fusion)
    shake(built.representers)
    return built.eval()


@pytest.fixture(scope="module")
def adapted(whole: Network) -> Network:
    """The same with rows of its own for every pattern but the full one, within the budget."""
    own = copy.deepcopy(whole)
    learn(attach(own, AdapterConfig("ssf", leave_out=True), POORER, MODALITIES))
    return own


def learn(bank: AdapterBank) -> None:
    """Rows as training might leave them."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for pattern in bank.patterns:
            for row in bank.parameters_of(pattern):
                row.add_(0.02 * torch.randn(row.shape, generator=generator))


@torch.no_grad()
def answer(network: Network, inputs: dict[Modality, Tensor], pattern: Pattern) -> tuple[Tensor, ...]:
    found = network(inputs, torch.tensor([pattern.bits]))
    return (found.segmentation, *found.detections, found.scene)


def same_bits(one: tuple[Tensor, ...], other: tuple[Tensor, ...]) -> bool:
    pairs = zip(one, other, strict=True)
    return all(torch.equal(a.view(torch.int32), b.view(torch.int32)) for a, b in pairs)


@pytest.fixture(scope="module")
def answers(adapted: Network) -> dict[Pattern, tuple[Tensor, ...]]:
    return {pattern: answer(adapted, raw_inputs(SIZE), pattern) for pattern in ALL_PATTERNS}


@pytest.mark.parametrize("pattern", ALL_PATTERNS, ids=str)
def test_1_an_absent_sensors_raw_input_changes_no_bit(
    pattern: Pattern, adapted: Network, answers: Mapping[Pattern, tuple[Tensor, ...]]
) -> None:
    inputs, others = raw_inputs(SIZE), raw_inputs(SIZE, seed=1)
    broken = {m: torch.full_like(x, 0 if m is Modality.RGB else torch.nan) for m, x in inputs.items()}
    for strange in (others, broken):
        mixed = {m: inputs[m] if m in pattern else strange[m] for m in MODALITIES}
        assert same_bits(answer(adapted, mixed, pattern), answers[pattern])
    for m in pattern:
        changed = answer(adapted, {**inputs, m: others[m]}, pattern)
        assert not same_bits(changed, answers[pattern]), f"{m.value} is there and does not count"


def test_1_nor_of_a_batch_in_which_others_have_the_sensor(adapted: Network) -> None:
    """Alone, what nobody has is skipped; here each sample stands beside others that have it, norms at rest.

    Norms that learn are told who has what, see `test_network`.
    """
    inputs, others = (raw_inputs(SIZE, batch=len(ALL_PATTERNS), seed=seed) for seed in (0, 1))
    bits = torch.tensor([pattern.bits for pattern in ALL_PATTERNS])
    there = {m: torch.tensor([m in pattern for pattern in ALL_PATTERNS]) for m in MODALITIES}
    broken = {m: torch.full_like(x, 0 if m is Modality.RGB else torch.nan) for m, x in inputs.items()}

    @torch.no_grad()
    def of(strange: Mapping[Modality, Tensor]) -> tuple[Tensor, ...]:
        shown = {m: there[m].reshape(-1, *[1] * (inputs[m].ndim - 1)) for m in MODALITIES}
        found = adapted({m: torch.where(shown[m], inputs[m], strange[m]) for m in MODALITIES}, bits)
        return (found.segmentation, *found.detections, found.scene)

    expected = of(inputs)
    assert all(bool(torch.isfinite(x).all()) for x in expected)
    assert same_bits(of(others), expected) and same_bits(of(broken), expected)


def test_2_scale_and_shift_change_nothing_at_first_and_fold(whole: Network) -> None:
    own, inputs = copy.deepcopy(whole), raw_inputs(SIZE)
    bank = attach(own, AdapterConfig("ssf", leave_out=True), POORER, MODALITIES)
    frozen = {pattern: answer(whole, inputs, pattern) for pattern in POORER}
    for pattern in POORER:
        assert bank.count(pattern) > 0
        assert same_bits(answer(own, inputs, pattern), frozen[pattern]), str(pattern)
    learn(bank)
    for pattern in POORER:
        alive, folded = answer(own, inputs, pattern), answer(merge(own, pattern), inputs, pattern)
        for before, one, other in zip(frozen[pattern], alive, folded, strict=True):
            assert not torch.equal(before, one), str(pattern)
            assert float((one - other).abs().max()) <= 1e-5 * max(1.0, float(one.abs().max())), str(pattern)


def test_3_sound_alone_gives_finite_maps(answers: Mapping[Pattern, tuple[Tensor, ...]]) -> None:
    for alone, everything in zip(answers[Pattern.of([Modality.AUDIO])], answers[FULL], strict=True):
        assert alone.shape == everything.shape
        assert bool(torch.isfinite(alone).all())


def test_4_both_directions_share_storage(whole: Network) -> None:
    for completion in whole.fusion.completions.values():
        translators = completion.translators
        x = {
            m: torch.randn(1, completion.translated, *((2, 2) if m.is_image else (1, 1))) for m in MODALITIES
        }
        reached = {}
        for source in MODALITIES:
            for target in MODALITIES:
                if source is not target:
                    translators.zero_grad(set_to_none=True)
                    out = translators.translate(x[source], source, target)
                    out.sum().backward()
                    learnt = [p for p in translators.parameters() if p.grad is not None]
                    reached[source, target] = frozenset(p.data_ptr() for p in learnt)
        translators.zero_grad(set_to_none=True)
        assert all(storage and reached[v, u] == storage for (u, v), storage in reached.items())
        different = set(reached.values())
        assert len(different) == 6
        assert len(frozenset().union(*different)) == sum(map(len, different)), "pairs share nothing"
        assert sum(map(len, different)) == len(list(translators.parameters()))


def test_7_inference_says_the_same_twice(
    adapted: Network, answers: Mapping[Pattern, tuple[Tensor, ...]]
) -> None:
    torch.manual_seed(99)
    adapted.train()
    answer(adapted, raw_inputs(SIZE, seed=5), FULL)
    adapted.eval()
    for pattern in ALL_PATTERNS:
        assert same_bits(answer(adapted, raw_inputs(SIZE), pattern), answers[pattern]), str(pattern)


def served(network: Network) -> int:
    """Parameters without those that only training needs."""
    return sum(p.numel() for n, p in network.named_parameters() if not n.startswith("auxiliary."))


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_8_a_pattern_trains_at_most_its_share(kind: str, whole: Network) -> None:
    own = copy.deepcopy(whole)
    bank = attach(own, AdapterConfig(kind, leave_out=True), POORER, MODALITIES)
    rows = {p: {id(row) for row in bank.parameters_of(p)} for p in POORER}
    trained = {id(p): p.numel() for p in own.parameters() if p.requires_grad}
    assert trained.keys() == frozenset().union(*rows.values())
    for pattern, mine in rows.items():
        assert 0 < sum(trained[row] for row in mine) <= BUDGET * served(whole), str(pattern)
    assert not bank.parameters_of(FULL)


def test_8_lora_of_rank_4_on_all_layers_breaks_the_budget(whole: Network) -> None:
    unbounded = AdapterConfig("lora", budget=1.0, rank=4, frozen=())
    bank = attach(copy.deepcopy(whole), unbounded, POORER, MODALITIES)
    share = {pattern: bank.count(pattern) / served(whole) for pattern in POORER}
    assert [str(p) for p in POORER if share[p] <= BUDGET] == ["audio"], "its encoder is the small one"
    bounded = dataclasses.replace(unbounded, budget=BUDGET, leave_out=True)
    bank = attach(copy.deepcopy(whole), bounded, POORER, MODALITIES)
    for pattern in POORER:
        assert bank.count(pattern) <= BUDGET * sum(p.numel() for p in whole.served_parameters())
        assert (bank.ranks[pattern] == 4) is (str(pattern) == "audio")
