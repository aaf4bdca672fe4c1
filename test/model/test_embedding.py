"""DMRNet's probabilistic embedding and the mining of hard combinations."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from robust_perception.model.bottleneck import LOG_VARIANCE, Gaussian
from robust_perception.model.embedding import (
    HardCombinations,
    ProbabilisticEmbedding,
    embedding_kl,
    spearman,
)
from robust_perception.model.encoders import ChannelNorm
from robust_perception.model.errors import ModelError


@pytest.mark.parametrize("norm", ["channel", "batch"])
def test_the_kl_has_a_gradient_with_respect_to_every_part_of_the_head(norm: str) -> None:
    """What the code released for NYUv2 fails."""
    head = ProbabilisticEmbedding(8, norm)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    embedding_kl(head(torch.randn(2, 8, 3, 3), torch.tensor([1, 7]))).backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None and float(parameter.grad.abs().sum()) > 0, name


def test_the_kl_sums_channels_and_averages_pixels() -> None:
    one = Gaussian(torch.ones(2, 8, 3, 3), torch.zeros(2, 8, 3, 3))
    assert float(embedding_kl(one)) == pytest.approx(8 * 0.5)
    zero = torch.zeros(2, 8, 3, 3)
    assert float(embedding_kl(Gaussian(zero, zero))) == 0.0


def test_the_kl_gradient_is_that_of_finite_differences() -> None:
    def kl(mean: Tensor, log_variance: Tensor) -> Tensor:
        return embedding_kl(Gaussian(mean, log_variance))

    arguments = [torch.randn(2, 3, 1, 2).double().requires_grad_() for _ in range(2)]
    assert torch.autograd.gradcheck(kl, arguments)


def test_the_sample_gradient_is_that_of_finite_differences() -> None:
    def sample(mean: Tensor, log_variance: Tensor) -> Tensor:
        return Gaussian(mean, log_variance).sample(torch.Generator().manual_seed(3), 0.3)

    arguments = [torch.randn(2, 3).double().requires_grad_() for _ in range(2)]
    assert torch.autograd.gradcheck(sample, arguments)


def test_the_variance_can_tell_patterns_apart() -> None:
    head = ProbabilisticEmbedding(4)
    with torch.no_grad():
        head.logvar_prior.weight[3] = 2.0
    h = torch.randn(1, 4, 2, 2).expand(2, 4, 2, 2)
    variance = head(h, torch.tensor([1, 3])).log_variance.exp().mean(dim=(1, 2, 3))
    assert bool(variance[1] > variance[0])


def test_training_starts_from_the_normed_latent_and_a_small_variance() -> None:
    head, h = ProbabilisticEmbedding(8), 3.0 * torch.randn(2, 8, 3, 3) + 1.0
    found = head(h, torch.tensor([1, 7]))
    torch.testing.assert_close(found.mean, ChannelNorm(8)(h))
    assert float(found.log_variance.detach().mean()) == pytest.approx(-2.0, abs=1e-5)


def test_the_variance_keeps_its_bounds() -> None:
    head = ProbabilisticEmbedding(8)
    with torch.no_grad():
        head.logvar_prior.weight[1], head.logvar_prior.weight[2] = 1e4, -1e4
    found = head(torch.randn(2, 8, 3, 3), torch.tensor([1, 2])).log_variance.detach()
    assert (float(found.max()), float(found.min())) == (LOG_VARIANCE[1], LOG_VARIANCE[0])


def observe(hard: HardCombinations, values: dict[int, float]) -> None:
    hard.observe(torch.tensor(list(values.values())), torch.tensor(list(values)))


def test_the_hardest_are_those_of_largest_mean() -> None:
    hard = HardCombinations((1, 2, 3), 1)
    assert hard.hard == () and not hard.settled
    observe(hard, {1: 1.0, 2: 5.0, 3: 2.0})
    observe(hard, {1: 6.0, 2: 1.0, 3: 2.0})
    hard.close_window()
    assert hard.hard == (1,)
    assert hard.is_hard(torch.tensor([1, 2, 1])).tolist() == [True, False, True]


def test_seldom_and_hard_is_harder_than_often_and_easy() -> None:
    hard = HardCombinations((1, 2), 1)
    for _ in range(3):
        observe(hard, {1: 2.0})
    observe(hard, {2: 5.0})
    hard.close_window()
    assert hard.mean.tolist() == [0.0, 2.0, 5.0]
    assert hard.hard == (2,)


def test_a_single_combination_has_nothing_to_disagree_with() -> None:
    hard = HardCombinations((3,), 1)
    for settled in (False, True):
        observe(hard, {3: 1.0})
        hard.close_window()
        assert hard.settled is settled


def test_nothing_is_acted_on_before_two_windows_agree() -> None:
    hard = HardCombinations((1, 2, 3), 1)
    observe(hard, {1: 1.0, 2: 2.0, 3: 3.0})
    hard.close_window()
    assert not hard.settled
    observe(hard, {1: 3.0, 2: 2.0, 3: 1.0})
    hard.close_window()
    assert float(hard.agreement) == pytest.approx(-1.0) and not hard.settled
    observe(hard, {1: 1.0, 2: 2.0, 3: 3.0})
    hard.close_window()
    assert hard.settled


def test_combinations_that_never_occur_do_not_agree_with_themselves() -> None:
    """A data set without sound has 7 of 15 combinations: the other ranks would make any two windows alike."""
    hard = HardCombinations(tuple(range(1, 16)), 4)
    observe(hard, {1: 1.0, 2: 2.0, 3: 3.0})
    hard.close_window()
    observe(hard, {1: 3.0, 2: 2.0, 3: 1.0, 4: 9.0})  # 4 has no rank before
    hard.close_window()
    assert float(hard.agreement) == pytest.approx(-1.0) and not hard.settled
    observe(hard, {1: 3.0, 8: 1.0})  # one combination has no order
    hard.close_window()
    assert float(hard.agreement) == 0.0 and not hard.settled


@pytest.mark.parametrize(
    ("last", "correlation"),
    [((1, 2, 3, 5, 4), 0.9), ((2, 1, 4, 3, 5), 0.8), ((3, 1, 2, 4, 5), 0.7), ((1, 2, 5, 4, 3), 0.6)],
)
def test_the_order_is_believed_from_a_correlation_above_seven_tenths(
    last: tuple[int, ...], correlation: float
) -> None:
    hard = HardCombinations((1, 2, 4, 7, 15), 2)
    for order in ((1, 2, 3, 4, 5), last):
        assert not hard.settled
        observe(hard, {bits: float(value) for bits, value in zip(hard.combinations, order, strict=True)})
        hard.close_window()
    assert float(hard.agreement) == pytest.approx(correlation, abs=1e-6)
    assert hard.settled is (correlation > 0.7)


def test_windows_in_which_nothing_was_drawn_do_not_count() -> None:
    """Stages that show full patterns alone come first: their windows are empty and agree in everything."""
    hard = HardCombinations((1, 2, 3), 1)
    for _ in range(3):
        hard.close_window()
    assert hard.hard == () and not hard.settled
    observe(hard, {1: 1.0, 2: 3.0, 3: 2.0})
    hard.close_window()
    assert hard.hard == (2,) and not hard.settled
    hard.close_window()
    assert not hard.settled
    observe(hard, {1: 1.0, 2: 3.0, 3: 2.0})
    hard.close_window()
    assert hard.settled
    hard.close_window()
    assert hard.settled


def test_combinations_that_never_occur_are_not_hard() -> None:
    hard = HardCombinations((1, 2, 3), 2)
    observe(hard, {2: 3.0})
    hard.close_window()
    assert hard.hard == (2,)


def test_an_order_that_turns_is_no_longer_believed() -> None:
    hard = HardCombinations((1, 2, 3), 1)
    for values, agrees in (((1, 2, 3), False), ((1, 2, 3), True), ((9, 2, 1), False)):
        observe(hard, {bits: float(value) for bits, value in zip((1, 2, 3), values, strict=True)})
        hard.close_window()
        assert hard.settled is agrees


def test_a_combination_seen_late_starts_at_its_own_value() -> None:
    hard = HardCombinations((1, 2, 3), 1)
    observe(hard, {1: 1.0, 2: 2.0})
    hard.close_window()
    observe(hard, {1: 1.0, 2: 2.0, 3: 9.0})
    hard.close_window()
    assert float(hard.mean[3]) == pytest.approx(9.0)
    assert hard.hard == (3,)


def test_windows_are_averaged_with_nine_parts_of_the_old() -> None:
    hard = HardCombinations((1, 2), 1)
    observe(hard, {1: 1.0, 2: 4.0})
    hard.close_window()
    observe(hard, {1: 11.0})  # 2 was not drawn: it keeps its value
    hard.close_window()
    assert float(hard.mean[1]) == pytest.approx(2.0)
    assert float(hard.mean[2]) == pytest.approx(4.0)


def test_mining_goes_on_from_a_saved_state() -> None:
    hard, other = HardCombinations((1, 2), 1), HardCombinations((1, 2), 1)
    observe(hard, {1: 1.0, 2: 3.0})
    hard.close_window()
    observe(hard, {1: 1.5, 2: 3.0})
    other.load_state_dict(hard.state_dict())
    for one in (hard, other):
        one.close_window()
    assert torch.equal(hard.mean, other.mean) and hard.hard == other.hard and hard.settled == other.settled


def test_rank_correlation_is_that_of_scipy() -> None:
    a, b = torch.randn(9), torch.randn(9)
    assert float(spearman(a, b)) == pytest.approx(spearmanr(a, b).statistic, abs=1e-6)


def test_wrong_choices_are_refused() -> None:
    with pytest.raises(ModelError, match=r"1\.\.2, got 3"):
        HardCombinations((1, 2), 3)
    with pytest.raises(ModelError, match=r"1\.\.2, got 0"):
        HardCombinations((1, 2), 0)
    assert HardCombinations((1, 2), 2).count == 2
    with pytest.raises(ModelError, match="got 'instance'"):
        ProbabilisticEmbedding(8, "instance")
