"""CyIN's translators and the missing-latent rule."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from robust_perception.model.errors import ModelError
from robust_perception.model.translation import (
    LEAST_VARIANCE,
    ResidualTranslator,
    Translators,
    pair_name,
    pairs_of,
)
from robust_perception.vocabulary import MODALITIES

RGB, DEPTH, THERMAL, AUDIO = MODALITIES
YES, NO = torch.tensor([True]), torch.tensor([False])


class Times(nn.Module):
    """A translator that multiplies."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


def times(rule: str, **factors: float) -> Translators:
    """Translators between the images that multiply."""
    translators = Translators((RGB, DEPTH, THERMAL), 2, rule)
    for name, factor in factors.items():
        translators.pairs[name.replace("_", "-")] = Times(factor)
    return translators


def constant(value: float) -> Tensor:
    return torch.full((1, 2, 1, 1), value)


def test_six_networks_for_four_sensors_serve_both_directions() -> None:
    translators = Translators(MODALITIES, 4)
    assert len(translators.pairs) == len(pairs_of(MODALITIES)) == 6
    used: list[nn.Module] = []
    for name in translators.pairs:
        translators.pairs[name].register_forward_hook(lambda module, *_: used.append(module))
    image, sound = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 1, 1)
    for source in MODALITIES:
        for target in MODALITIES:
            if source is not target:
                out = translators.translate(image if source.is_image else sound, source, target)
                assert out.shape == (image if source.is_image and target.is_image else sound).shape
    assert len(used) == 12 and len({id(module) for module in used}) == 6


def test_the_order_of_names() -> None:
    assert pair_name(frozenset((AUDIO, RGB))) == "rgb-audio"


@pytest.mark.parametrize(
    ("rule", "expected"), [("mean", (20 + 9) / 2), ("sum", 20.0 + 9.0), ("poe", (20 + 3 * 9) / 4)]
)
def test_the_rule_with_two_sources(rule: str, expected: float) -> None:
    translators = times(rule, rgb_depth=5.0, depth_thermal=3.0)
    latents = {RGB: constant(4.0), DEPTH: constant(999.0), THERMAL: constant(3.0)}
    precision = {
        RGB: torch.ones(1, 1, 1, 1),
        DEPTH: torch.ones(1, 1, 1, 1),
        THERMAL: torch.full((1, 1, 1, 1), 3.0),
    }
    filled = translators.fill(latents, DEPTH, {RGB: YES, THERMAL: YES, DEPTH: YES}, precision)
    torch.testing.assert_close(filled, constant(expected))


@pytest.mark.parametrize("rule", ["mean", "sum", "poe"])
def test_a_source_that_may_not_be_used_leaves_no_trace(rule: str) -> None:
    translators = times(rule, rgb_depth=5.0, depth_thermal=3.0)
    precision = {m: torch.ones(1, 1, 1, 1) for m in (RGB, DEPTH, THERMAL)}
    latents = {RGB: constant(4.0), DEPTH: constant(0.0), THERMAL: constant(7.0)}
    filled = translators.fill(latents, DEPTH, {RGB: YES, THERMAL: NO, DEPTH: YES}, precision)
    torch.testing.assert_close(filled, constant(20.0))
    none = translators.fill(latents, DEPTH, {RGB: NO, THERMAL: NO, DEPTH: NO}, precision)
    assert torch.equal(none, constant(0.0))


@pytest.mark.parametrize("rule", ["mean", "sum", "poe"])
def test_samples_of_a_batch_have_sources_of_their_own(rule: str) -> None:
    translators = times(rule, rgb_depth=5.0, depth_thermal=3.0)
    latents = {
        m: constant(value).repeat(3, 1, 1, 1) for m, value in ((RGB, 4.0), (DEPTH, 0.0), (THERMAL, 7.0))
    }
    usable = {RGB: torch.tensor([True, False, False]), THERMAL: torch.tensor([False, True, False])}
    precision = dict.fromkeys(latents, torch.ones(3, 1, 1, 1))
    expected = torch.tensor([20.0, 21.0, 0.0])
    found = translators.fill(latents, DEPTH, usable, precision)
    torch.testing.assert_close(found[:, 0, 0, 0], expected)
    made = {
        RGB: torch.tensor([20.0, torch.nan, torch.nan]),
        THERMAL: torch.tensor([torch.nan, 21.0, torch.inf]),
    }
    ready = {m: x[:, None, None, None].expand(3, 2, 1, 1) for m, x in made.items()}
    torch.testing.assert_close(translators.fill(latents, DEPTH, usable, precision, ready), found)


def test_precisions_weigh_however_small_they_are_and_by_their_mean_where_sound_takes_part() -> None:
    translators = Translators((RGB, DEPTH, AUDIO), 2, "poe")
    for name, factor in (("rgb-audio", 5.0), ("depth-audio", 3.0)):
        translators.pairs[name] = Times(factor)
    latents = {RGB: constant(4.0).expand(1, 2, 1, 2), DEPTH: constant(3.0), AUDIO: constant(0.0)}
    uneven = torch.tensor([0.1, 0.3]).reshape(1, 1, 1, 2)  # of two pixels, 0.2 on average
    precision = {RGB: uneven, DEPTH: torch.full((1, 1, 1, 1), 0.05)}
    filled = translators.fill(latents, AUDIO, {RGB: YES, DEPTH: YES}, precision)
    torch.testing.assert_close(filled, constant((0.2 * 20 + 0.05 * 9) / 0.25))


def test_pairs_never_seen_together_are_not_used() -> None:
    translators = Translators((RGB, DEPTH, THERMAL), 2, seen=[frozenset((RGB, THERMAL))])
    assert translators.sources_of(DEPTH) == ()
    assert translators.sources_of(RGB) == (THERMAL,)
    translators.pairs["rgb-depth"].register_forward_hook(lambda *_: pytest.fail("an untrained pair was used"))
    latents = {m: torch.randn(1, 2, 2, 2) for m in (RGB, DEPTH, THERMAL)}
    everything = dict.fromkeys(latents, YES)
    assert torch.equal(translators.fill(latents, DEPTH, everything), torch.zeros(1, 2, 2, 2))
    translators.loss(latents, everything)


def test_sound_speaks_of_means_and_is_spread_over_pixels() -> None:
    translators = Translators((RGB, AUDIO), 4)
    image = torch.randn(1, 4, 3, 5)
    sound = translators.translate(image, RGB, AUDIO)
    mean = image.mean(dim=(2, 3), keepdim=True)
    torch.testing.assert_close(sound, translators.pairs["rgb-audio"](mean))
    shuffled = image.flatten(2)[..., torch.randperm(15)].reshape(image.shape)
    torch.testing.assert_close(translators.translate(shuffled, RGB, AUDIO), sound)
    filled = translators.fill({RGB: image, AUDIO: sound}, RGB, {AUDIO: YES})
    assert torch.equal(filled, translators.translate(sound, AUDIO, RGB).expand(image.shape))


def unit_variance(value: float) -> Tensor:
    """Mean `value`, variance 1."""
    return torch.tensor([value - 1.0, value + 1.0])[None, :, None, None]


def test_the_losses_by_hand() -> None:
    translators = Translators((RGB, DEPTH), 2)
    translators.pairs["rgb-depth"] = Times(2.0)
    latents = {RGB: unit_variance(1.0), DEPTH: unit_variance(4.0)}  # 0, 2 and 3, 5
    forward, reverse = translators.loss(latents, {RGB: YES, DEPTH: YES})
    there, back = (3**2 + 1**2) / 2, (6**2 + 8**2) / 2
    assert float(forward) == pytest.approx((there + back) / 2)
    rgb, depth = (0**2 + 6**2) / 2, (9**2 + 15**2) / 2
    assert float(reverse) == pytest.approx((rgb + depth) / 2)


def test_the_losses_do_not_depend_on_the_scale_of_the_latents() -> None:
    translators = Translators((RGB, DEPTH), 2)
    translators.pairs["rgb-depth"] = Times(2.0)
    latents = {RGB: unit_variance(1.0), DEPTH: unit_variance(4.0)}
    larger = {m: 10.0 * x for m, x in latents.items()}
    everything = dict.fromkeys(latents, YES)
    torch.testing.assert_close(translators.loss(larger, everything), translators.loss(latents, everything))


def test_errors_are_relative_to_the_variance_of_what_they_are_errors_of() -> None:
    translators = times("mean", rgb_depth=1.0, rgb_thermal=1.0, depth_thermal=1.0)
    spread = {RGB: 1.0, DEPTH: 2.0, THERMAL: 4.0}
    latents = {m: torch.tensor([-d, d])[None, :, None, None] for m, d in spread.items()}
    forward, reverse = translators.loss(latents, dict.fromkeys(latents, YES))
    singles = [(spread[a] - spread[b]) ** 2 / spread[b] ** 2 for a in spread for b in spread if a is not b]
    means = [(3.0 - 1.0) ** 2 / 1.0, (2.5 - 2.0) ** 2 / 4.0, (1.5 - 4.0) ** 2 / 16.0]
    assert float(forward) == pytest.approx((sum(singles) + sum(means)) / 9)
    assert float(reverse) == 0.0
    doubling = times("mean", rgb_depth=2.0, rgb_thermal=2.0, depth_thermal=2.0)
    forward, reverse = doubling.loss(latents, dict.fromkeys(latents, YES))
    singles = [(2 * spread[a] / spread[b] - 1) ** 2 for a in spread for b in spread if a is not b]
    means = [(6.0 / 1.0 - 1) ** 2, (5.0 / 2.0 - 1) ** 2, (3.0 / 4.0 - 1) ** 2]
    assert float(forward) == pytest.approx((sum(singles) + sum(means)) / 9)
    assert float(reverse) == pytest.approx(9.0)  # (4 x - x)^2 / x^2, whatever the sensors


def test_samples_with_one_source_have_no_term_of_several() -> None:
    translators = times("mean", rgb_depth=1.0, rgb_thermal=1.0, depth_thermal=1.0)
    values = {RGB: (0.0, 0.0), DEPTH: (1.0, 3.0), THERMAL: (2.0, 0.0)}
    latents = {m: torch.cat([unit_variance(x) for x in both]) for m, both in values.items()}
    here = {RGB: (True, True), DEPTH: (True, True), THERMAL: (True, False)}
    available = {m: torch.tensor(both) for m, both in here.items()}
    forward, _ = translators.loss(latents, available)
    variance = {RGB: 1.0, DEPTH: 2.0, THERMAL: 1.0}  # over the samples that have the sensor
    singles = 5.0 / variance[RGB] + 4.0 + 5.0 / variance[DEPTH] + 1.0 / variance[DEPTH] + 4.0 + 1.0
    means = 1.5**2 / variance[RGB] + 0.0 + 1.5**2
    assert float(forward) == pytest.approx((singles + means) / 9)


def test_the_rule_of_the_network_is_the_one_that_learns() -> None:
    translators = times("poe", rgb_depth=1.0, rgb_thermal=1.0, depth_thermal=1.0)
    latents = {RGB: unit_variance(0.0), DEPTH: unit_variance(1.0), THERMAL: unit_variance(2.0)}
    precision = {m: torch.full((1, 1, 1, 1), p) for m, p in ((RGB, 1.0), (DEPTH, 2.0), (THERMAL, 3.0))}
    forward, _ = translators.loss(latents, dict.fromkeys(latents, YES), precision)
    means = [((2 * 1 + 3 * 2) / 5) ** 2, ((0 + 3 * 2) / 4 - 1) ** 2, ((0 + 2 * 1) / 3 - 2) ** 2]
    assert float(forward) == pytest.approx((sum([1, 4, 1, 1, 4, 1]) + sum(means)) / 9)


def test_a_sound_is_asked_for_the_mean_of_a_picture() -> None:
    translators = Translators((RGB, AUDIO), 1)
    translators.pairs["rgb-audio"] = Times(1.0)
    picture = torch.tensor([-1.0, 1.0]).reshape(1, 1, 1, 2)  # mean 0, variance 1
    sound = torch.full((1, 1, 1, 1), 2.0)
    forward, _ = translators.loss({RGB: picture, AUDIO: sound}, {RGB: YES, AUDIO: YES})
    assert float(forward) == pytest.approx((4.0 + 4.0 / LEAST_VARIANCE) / 2)


def test_several_sources_have_a_term_of_their_own() -> None:
    translators = times("mean", rgb_depth=1.0, rgb_thermal=1.0, depth_thermal=1.0)
    latents = {RGB: unit_variance(0.0), DEPTH: unit_variance(1.0), THERMAL: unit_variance(2.0)}
    forward, _ = translators.loss(latents, dict.fromkeys(latents, YES))
    singles = [1, 4, 1, 1, 4, 1]
    means = [(1.5 - 0) ** 2, (1 - 1) ** 2, (0.5 - 2) ** 2]
    assert float(forward) == pytest.approx((sum(singles) + sum(means)) / 9)


def test_only_the_translators_learn_and_one_network_learns_from_both_directions() -> None:
    torch.manual_seed(0)
    translators = Translators((RGB, DEPTH), 16)
    latents = {m: torch.randn(1, 16, 4, 4).requires_grad_() for m in (RGB, DEPTH)}
    forward, reverse = translators.loss(latents, dict.fromkeys(latents, YES))
    for loss in (forward, reverse):
        translators.zero_grad()
        loss.backward(retain_graph=True)
        learnt = translators.pairs["rgb-depth"].parameters()
        assert all(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in learnt)
    assert all(x.grad is None for x in latents.values())


def test_samples_without_the_pair_do_not_count() -> None:
    translators = Translators((RGB, DEPTH), 2)
    latents = {RGB: torch.randn(2, 2, 2, 2), DEPTH: torch.randn(2, 2, 2, 2)}
    half = {RGB: torch.tensor([True, True]), DEPTH: torch.tensor([True, False])}
    before = translators.loss(latents, half)
    latents[DEPTH][1] += 100.0
    torch.testing.assert_close(translators.loss(latents, half), before)
    nobody = dict.fromkeys(latents, torch.tensor([False, False]))
    assert [float(loss.detach()) for loss in translators.loss(latents, nobody)] == [0.0, 0.0]


def test_pairs_that_no_sample_has_do_not_thin_out_the_others() -> None:
    pair, three = (Translators(sensors, 2) for sensors in ((RGB, DEPTH), (RGB, DEPTH, THERMAL)))
    three.pairs["rgb-depth"] = pair.pairs["rgb-depth"]
    latents = {m: torch.randn(1, 2, 2, 2) for m in (RGB, DEPTH, THERMAL)}
    found = three.loss(latents, {RGB: YES, DEPTH: YES, THERMAL: NO})
    assert found == pair.loss(latents, {RGB: YES, DEPTH: YES})


def test_the_gradient_is_that_of_finite_differences() -> None:
    torch.manual_seed(0)
    translators = Translators((RGB, DEPTH), 2).double()
    there = {RGB: YES, DEPTH: YES}

    def loss(rgb: Tensor, weight: Tensor) -> Tensor:
        # The target's gradient is stopped, so finite differences may move sources and weights alone.
        depth = torch.ones(1, 2, 1, 1).double()
        out = translators.translate(rgb * weight, RGB, DEPTH)
        back = translators.translate(out, DEPTH, RGB)
        return (out - depth).square().mean() + back.square().mean()

    arguments = [torch.randn(1, 2, 1, 1).double().requires_grad_() for _ in range(2)]
    assert torch.autograd.gradcheck(loss, arguments)
    latents = {RGB: torch.randn(1, 2, 1, 1).double(), DEPTH: torch.randn(1, 2, 1, 1).double()}
    parameter = translators.pairs["rgb-depth"].transition[2].weight
    forward, reverse = translators.loss(latents, there)
    (gradient,) = torch.autograd.grad(forward + reverse, parameter)
    step = 1e-6
    with torch.no_grad():
        parameter[0, 1, 1, 1] += step
        above = sum(translators.loss(latents, there))
        parameter[0, 1, 1, 1] -= 2 * step
        below = sum(translators.loss(latents, there))
    assert float(gradient[0, 1, 1, 1]) == pytest.approx(float(above - below) / (2 * step), rel=1e-5, abs=1e-8)


def test_the_cascade_starts_from_what_it_was_given() -> None:
    translator = ResidualTranslator(4, blocks=2, kernel=1)
    for block in translator.blocks:
        nn.init.zeros_(block[6].weight)  # every autoencoder says 0: x stays the input
    x = torch.randn(1, 4, 2, 2)
    torch.testing.assert_close(translator(x), translator.transition(x))


def test_every_autoencoder_adds_to_what_it_was_given() -> None:
    translator = ResidualTranslator(4, blocks=2, kernel=1)
    with torch.no_grad():
        for parameter in translator.parameters():
            parameter.abs_()  # so that no autoencoder of so few channels is dead
    x = torch.rand(1, 4, 2, 2)
    first = x + translator.blocks[0](x)
    second = first + translator.blocks[1](first)
    torch.testing.assert_close(translator(x), translator.transition(second))


def test_unknown_rules_and_missing_precisions_are_refused() -> None:
    with pytest.raises(ModelError, match=r"expected one of .*got 'median'"):
        Translators(MODALITIES, 4, "median")
    latents = {RGB: torch.zeros(1, 4, 1, 1), DEPTH: torch.zeros(1, 4, 1, 1)}
    with pytest.raises(ModelError, match="poe"):
        Translators((RGB, DEPTH), 4, "poe").fill(latents, DEPTH, {RGB: YES})
