"""Missing latents are filled in, and what is not there leaves no trace."""

from __future__ import annotations

import pytest
import torch

from robust_perception.model.completion import Completion, Swap, draw_swap
from robust_perception.vocabulary import MODALITIES, Modality

RGB, DEPTH, THERMAL, AUDIO = MODALITIES
IMAGES = (RGB, DEPTH, THERMAL)


def completion(shared: bool = True, rule: str = "mean") -> Completion:
    torch.manual_seed(0)
    made = Completion(MODALITIES, 4, shared, rule)
    with torch.no_grad():
        for table in (made.there, made.filled, made.null):
            for parameter in table.values():
                parameter.normal_()
    return made


def latents() -> dict[Modality, torch.Tensor]:
    return {m: torch.randn(2, 4, 3, 3) if m.is_image else torch.randn(2, 4, 1, 1) for m in MODALITIES}


def presence(*patterns: tuple[Modality, ...]) -> dict[Modality, torch.Tensor]:
    return {m: torch.tensor([m in p for p in patterns]) for m in MODALITIES}


def test_what_is_there_passes_and_what_is_missing_has_a_null_half() -> None:
    made, known = completion(), latents()
    tokens = made(known, presence((RGB,), (RGB, DEPTH)), IMAGES)
    torch.testing.assert_close(tokens[RGB], known[RGB] + made.there["rgb"][:, None, None])
    torch.testing.assert_close(tokens[DEPTH][1], known[DEPTH][1] + made.there["depth"][:, None, None])
    null = made.null["depth"] + made.filled["depth"][2:]
    torch.testing.assert_close(tokens[DEPTH][0, 2:], null[:, None, None].expand(2, 3, 3))
    guess = made.translators.translate(known[RGB][:1, :2], RGB, DEPTH)
    torch.testing.assert_close(tokens[DEPTH][:1, :2], guess + made.filled["depth"][:2, None, None])


@pytest.mark.parametrize("shared", [True, False])
def test_a_missing_latent_leaves_no_trace(shared: bool) -> None:
    made, known = completion(shared), latents()
    there = presence((RGB,), (THERMAL, AUDIO))
    spoilt = {m: torch.where(there[m][:, None, None, None], x, torch.nan) for m, x in known.items()}
    before, after = made(known, there, MODALITIES), made(spoilt, there, MODALITIES)
    for m in MODALITIES:
        assert torch.isfinite(after[m]).all()
        assert torch.equal(before[m], after[m])


def test_nothing_is_translated_when_everything_is_there() -> None:
    made = completion()
    for translator in made.translators.pairs.values():
        translator.register_forward_hook(lambda *_: pytest.fail("a translator was called"))
    made(latents(), presence(MODALITIES, MODALITIES), MODALITIES)


def test_a_swapped_latent_is_its_translation() -> None:
    made, known = completion(), latents()
    there = presence(MODALITIES, MODALITIES)
    swap = draw_swap(there, 1.0, torch.Generator().manual_seed(0))
    assert all(bool(replaced.all()) for replaced in swap.replaced.values())
    changed = {**known, DEPTH: known[DEPTH] + 100.0}
    before, after = made(known, there, (DEPTH,), swap=swap), made(changed, there, (DEPTH,), swap=swap)
    torch.testing.assert_close(before[DEPTH], after[DEPTH])  # it is made of the others alone


def test_a_pass_with_swaps_fills_in_what_is_missing_and_uses_no_more_than_it_may() -> None:
    made, known = completion(), latents()
    there = presence((RGB, DEPTH, THERMAL), (RGB, THERMAL))
    no, yes = torch.tensor([False, False]), torch.tensor([True, True])
    replaced = {m: torch.tensor([True, False]) if m is DEPTH else no for m in MODALITIES}
    usable = {RGB: yes, THERMAL: torch.tensor([False, True]), AUDIO: no}
    tokens = made(known, there, (DEPTH,), swap=Swap(replaced, {DEPTH: usable}))
    guesses = {m: made.translators.translate(known[m][:, :2], m, DEPTH) for m in (RGB, THERMAL)}
    expected = torch.stack([guesses[RGB][0], (guesses[RGB][1] + guesses[THERMAL][1]) / 2])
    torch.testing.assert_close(tokens[DEPTH][:, :2], expected + made.filled["depth"][:2, None, None])


def test_what_is_missing_and_not_swapped_is_made_of_all_that_is_there() -> None:
    there = presence((RGB, DEPTH, THERMAL), MODALITIES)
    for seed in range(20):
        swap = draw_swap(there, 0.5, torch.Generator().manual_seed(seed))
        for target in MODALITIES:
            kept = ~swap.replaced[target]
            for source, usable in swap.usable[target].items():
                assert torch.equal(usable[kept], there[source][kept])


def test_swaps_leave_a_lonely_sensor_alone_and_use_only_what_is_there() -> None:
    there = presence((RGB,), (RGB, DEPTH), MODALITIES)
    seen: set[tuple[bool, ...]] = set()
    for seed in range(60):
        swap = draw_swap(there, 0.5, torch.Generator().manual_seed(seed))
        assert not bool(swap.replaced[RGB][0])
        for target in MODALITIES:
            assert not bool((swap.replaced[target] & ~there[target]).any())
            for source, usable in swap.usable[target].items():
                assert not bool((usable & ~there[source]).any())
            replaced = swap.replaced[target]
            some = torch.stack(list(swap.usable[target].values())).any(dim=0)
            assert bool((some | ~replaced).all())
        if bool(swap.replaced[RGB][2]):
            seen.add(tuple(bool(u[2]) for u in swap.usable[RGB].values()))
    assert seen == {(True, False, False), (False, True, False), (False, False, True), (True, True, True)}


def test_no_swap_at_probability_zero() -> None:
    swap = draw_swap(presence(MODALITIES), 0.0, torch.Generator().manual_seed(0))
    assert not any(bool(replaced.any()) for replaced in swap.replaced.values())
