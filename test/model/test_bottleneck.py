"""CyIN's information bottleneck: its distributions, its losses, and where their gradients go."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from robust_perception.model.bottleneck import (
    LOG_VARIANCE,
    BottleneckEncoder,
    Gaussian,
    TokenDecoder,
    divergence,
    kl_to_standard_normal,
    mean_over_present,
    mean_where,
    token_bottleneck_loss,
    token_target,
)
from robust_perception.model.errors import ModelError
from robust_perception.vocabulary import Modality

RGB, DEPTH, AUDIO = Modality.RGB, Modality.DEPTH, Modality.AUDIO


@given(st.floats(-3, 3), st.floats(-6, 3))
def test_kl_is_that_of_the_library_and_never_negative(mean: float, log_variance: float) -> None:
    mine = kl_to_standard_normal(Gaussian(torch.tensor(mean), torch.tensor(log_variance)))
    normal = torch.distributions.Normal(
        torch.tensor(mean).double(), torch.tensor(log_variance / 2).double().exp()
    )
    standard = torch.distributions.Normal(torch.zeros(()).double(), torch.ones(()).double())
    assert mine >= -1e-6
    assert float(mine) == pytest.approx(float(torch.distributions.kl_divergence(normal, standard)), abs=1e-4)


def test_kl_of_the_standard_normal_is_zero() -> None:
    zero = torch.zeros(2, 3, 1, 1)
    assert torch.equal(kl_to_standard_normal(Gaussian(zero, zero)), zero)


def test_a_sample_has_the_distribution() -> None:
    gaussian = Gaussian(torch.full((1, 20000), 2.0), torch.full((1, 20000), 2.0).log())
    sample = gaussian.sample(torch.Generator().manual_seed(0))
    assert float(sample.mean()) == pytest.approx(2.0, abs=0.05)
    assert float(sample.var()) == pytest.approx(2.0, rel=0.05)
    assert torch.equal(gaussian.sample(scale=0.0), gaussian.mean)


def test_the_same_generator_gives_the_same_sample() -> None:
    gaussian = Gaussian(torch.zeros(4, 4), torch.zeros(4, 4))
    samples = [gaussian.sample(torch.Generator().manual_seed(7)) for _ in range(2)]
    assert torch.equal(*samples)


def test_the_precision_is_that_of_the_mean_variance() -> None:
    variance = torch.tensor([[1.0, 9.0], [2.0, 6.0]])[:, :, None, None].expand(2, 2, 3, 5)
    precision = Gaussian(torch.zeros_like(variance), variance.log()).precision
    assert precision.shape == (2, 1, 3, 5)
    assert precision[:, 0, 0, 0].tolist() == pytest.approx([1 / 5, 1 / 4])


def test_shapes_and_the_bounds_of_the_variance() -> None:
    encoder = BottleneckEncoder(6, 10, 4)
    nn.init.normal_(encoder.log_variance.weight)
    gaussian = encoder(torch.randn(2, 6, 3, 5) * 1e6)
    assert gaussian.mean.shape == gaussian.log_variance.shape == (2, 4, 3, 5)
    bounds = float(gaussian.log_variance.min()), float(gaussian.log_variance.max())
    assert bounds == LOG_VARIANCE
    assert TokenDecoder(4, 8, 6)(gaussian.mean).shape == (2, 6, 3, 5)


def test_it_starts_as_the_latent_itself_and_a_small_variance_where_widths_agree() -> None:
    latent = torch.randn(2, 4, 3, 5)
    gaussian = BottleneckEncoder(4, 10, 4)(latent)
    assert torch.equal(gaussian.mean, latent)
    assert torch.equal(gaussian.log_variance, torch.full_like(latent, -2.0))
    wider = BottleneckEncoder(6, 10, 4)
    other = wider(torch.randn(2, 6, 3, 5)).mean
    assert float(other.std()) > 0.0


def test_the_target_is_normalised_and_carries_no_gradient() -> None:
    latent = (torch.randn(2, 8, 3, 3) * 5 + 2).requires_grad_()
    target = token_target(latent)
    assert not target.requires_grad
    torch.testing.assert_close(target.mean(dim=1), torch.zeros(2, 3, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(target.var(dim=1, unbiased=False), torch.ones(2, 3, 3), atol=1e-3, rtol=0)


class Constant(nn.Module):
    """A decoder that always says the same."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, sample: Tensor) -> Tensor:
        return torch.full_like(sample, self.value)


def test_the_loss_of_two_sensors_by_hand() -> None:
    zero = torch.zeros(2, 3, 1, 1)
    unit = Gaussian(torch.ones_like(zero), zero)  # KL 1/2 an entry
    loss = token_bottleneck_loss(
        samples={RGB: zero, DEPTH: zero},
        divergences={RGB: divergence(unit), DEPTH: divergence(Gaussian(zero, zero))},
        targets={RGB: zero, DEPTH: zero + 5.0},
        decoders={"rgb": Constant(1.0), "depth": Constant(2.0)},
        available={RGB: torch.tensor([True, True]), DEPTH: torch.tensor([True, True])},
        beta=4.0,
    )
    # rgb->rgb 1/8 + 1, rgb->depth 1/8 + 9, depth->rgb 0 + 1, depth->depth 0 + 9
    assert float(loss) == pytest.approx((0.125 + 1 + 0.125 + 9 + 1 + 9) / 4)


def test_a_pair_counts_only_where_a_sample_has_both() -> None:
    zero = torch.zeros(2, 3, 1, 1)
    sample = torch.cat([zero[:1], zero[1:] + 100.0])  # the second sample's depth would cost a lot
    arguments = {
        "divergences": {RGB: torch.zeros(2), DEPTH: divergence(Gaussian(sample, zero))},
        "targets": {RGB: zero, DEPTH: sample},
        "decoders": {"rgb": nn.Identity(), "depth": nn.Identity()},
        "beta": 1.0,
    }
    loss = token_bottleneck_loss(
        samples={RGB: zero, DEPTH: sample},
        available={RGB: torch.tensor([True, True]), DEPTH: torch.tensor([True, False])},
        **arguments,  # type: ignore[arg-type]
    )
    assert float(loss) == 0.0


def test_sound_has_no_tokens_to_compare_with_pixels() -> None:
    zero = torch.zeros(1, 3, 1, 1)
    decoded: list[str] = []

    class Spy(nn.Module):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def forward(self, sample: Tensor) -> Tensor:
            decoded.append(self.name)
            return sample

    there = torch.tensor([True])
    token_bottleneck_loss(
        {RGB: zero, AUDIO: zero},
        {RGB: torch.zeros(1), AUDIO: torch.zeros(1)},
        {RGB: zero, AUDIO: zero},
        {"rgb": Spy("rgb"), "audio": Spy("audio")},
        {RGB: there, AUDIO: there},
        16.0,
    )
    assert sorted(decoded) == ["audio", "rgb"]  # each by itself, never across


def test_the_gradient_is_that_of_finite_differences() -> None:
    torch.manual_seed(0)
    decoders = {m.value: TokenDecoder(2, 3, 4).double() for m in (RGB, DEPTH)}
    targets = {m: torch.randn(2, 4, 1, 2).double() for m in (RGB, DEPTH)}
    there = {RGB: torch.tensor([True, True]), DEPTH: torch.tensor([True, False])}

    def loss(mean: Tensor, log_variance: Tensor) -> Tensor:
        gaussians = {RGB: Gaussian(mean, log_variance), DEPTH: Gaussian(2 * mean, log_variance)}
        samples = {m: g.sample(torch.Generator().manual_seed(1)) for m, g in gaussians.items()}
        divergences = {m: divergence(g) for m, g in gaussians.items()}
        return token_bottleneck_loss(samples, divergences, targets, decoders, there, 8.0)

    mean, log_variance = (torch.randn(2, 2, 1, 2).double().requires_grad_() for _ in range(2))
    assert torch.autograd.gradcheck(loss, (mean, log_variance))


def test_a_beta_that_is_not_positive_is_refused() -> None:
    with pytest.raises(ModelError, match=r"expected > 0, got 0\.0"):
        token_bottleneck_loss({}, {}, {}, {}, {}, 0.0)


def test_a_mean_over_nothing_is_zero() -> None:
    assert float(mean_where(torch.tensor([float("inf"), 2.0]), torch.tensor([False, False]))) == 0.0


def test_means_are_over_what_counts_alone() -> None:
    three, two = torch.tensor([1.0, 3.0, 100.0]), torch.tensor([True, True, False])
    assert float(mean_where(three, two)) == 2.0
    nobody = torch.zeros(3, dtype=torch.bool)
    terms = [mean_where(three, two), mean_where(three, nobody)]
    assert float(mean_over_present(terms, [two, nobody])) == 2.0
    assert float(mean_over_present(terms[1:], [nobody])) == 0.0
