"""Robult's soft positive-unlabelled contrast and its reconstruction."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from robust_perception.model.alignment import (
    Projection,
    Regions,
    SharedUnique,
    contrast,
    labelled_contrast,
    proximity,
    reconstruction_loss,
    soft_positives,
    unlabelled_contrast,
)
from robust_perception.model.errors import ModelError
from robust_perception.vocabulary import Modality

RGB = Modality.RGB


def regions(labels: list[int], probability: Tensor | None = None, classes: int = 3) -> Regions:
    label = torch.tensor(labels)
    known = F.one_hot(label.clamp(min=0), classes).float()
    if probability is None:
        probability = torch.full_like(known, 1 / classes)
    return Regions(label, torch.where((label >= 0)[:, None], known, probability))


def unit(count: int, width: int = 4, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(count, width, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_labelled_pairs_are_positive_exactly_when_they_agree() -> None:
    weights = soft_positives(unit(3), regions([1, 1, 2]))
    assert weights.tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]


def test_unlabelled_pairs_weigh_by_agreement_and_proximity() -> None:
    keys = unit(4)
    probability = torch.tensor([[0.1, 0.8, 0.1]]).expand(4, 3)
    found = regions([1, 1, -1, -1], probability)
    weights = soft_positives(keys, found)
    near = proximity(keys, found)
    agreement = found.probability @ found.probability.T
    assert float(weights[0, 2]) == pytest.approx(float(agreement[0, 2] * near[2]))
    assert float(weights[2, 3]) == pytest.approx(float(agreement[2, 3] * near[3]))
    assert torch.equal(weights.diagonal(), torch.ones(4))
    assert bool(((weights >= 0) & (weights <= 1)).all())


def test_proximity_by_hand() -> None:
    keys = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 1.5]])
    probability = torch.tensor([[0.0, 1.0, 0.0]]).expand(3, 3)
    near = proximity(keys, regions([1, 2, -1], probability))
    distances = torch.tensor([2.0, 1.5, 2.5])
    width = torch.cat([distances, distances]).median()
    assert float(near[2]) == pytest.approx(
        float(torch.exp(-(1.5**2) / (2 * width**2)))
    )  # region 0 alone has class 1
    assert float(proximity(keys, regions([0, 0, -1], probability))[2]) == 0.0  # nobody has class 1


def test_no_gradient_flows_through_the_weights() -> None:
    keys = unit(4).requires_grad_()
    assert not soft_positives(keys, regions([1, 1, -1, -1])).requires_grad


def test_the_contrast_learns_as_if_its_weights_were_given() -> None:
    """Of everything a key takes part in, the weights alone are left out of its gradient."""
    found = regions([0, 1, 1, -1, -1], torch.tensor([[0.1, 0.8, 0.1]]).expand(5, 3))
    query, key = (unit(5, seed=s).requires_grad_() for s in (1, 2))
    weights = soft_positives(key, found).detach().clone()
    assert bool(((weights > 0.01) & (weights < 0.99)).any())
    similarity = query @ key.T / 0.2
    one = labelled_contrast(similarity, weights, found.labelled)
    other = labelled_contrast(similarity.T, weights.T, found.labelled)
    one = one + unlabelled_contrast(similarity, weights, found.labelled)
    other = other + unlabelled_contrast(similarity.T, weights.T, found.labelled)
    expected = torch.autograd.grad((one + other) / 2, (query, key))
    mine = torch.autograd.grad(contrast(query, {RGB: key}, found, 0.2), (query, key))
    for a, b in zip(mine, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_a_batch_without_labels_is_infonce_in_both_directions() -> None:
    """Nothing labelled is near, so no pair but a region's own is a positive, whatever the classifier says."""
    query, keys = unit(6, seed=1), {RGB: unit(6, seed=2), Modality.DEPTH: unit(6, seed=3)}
    found = regions([-1] * 6, torch.tensor([[0.0, 1.0, 0.0]]).expand(6, 3))
    own = torch.arange(6)
    expected = []
    for key in keys.values():
        assert torch.equal(soft_positives(key, found), torch.eye(6))
        similarity = query @ key.T / 0.2
        expected += [F.cross_entropy(similarity, own), F.cross_entropy(similarity.T, own)]
    torch.testing.assert_close(contrast(query, keys, found, 0.2), torch.stack(expected).mean())


def test_all_labelled_is_the_supervised_contrast() -> None:
    query, key = unit(5, seed=1), unit(5, seed=2)
    label = torch.tensor([0, 1, 1, 2, 0])
    similarity = query @ key.T / 0.1
    expected = []
    for j in range(5):
        positives = torch.nonzero(label == label[j])[:, 0]
        expected.append(
            -sum(similarity[j, k] - torch.logsumexp(similarity[j], 0) for k in positives) / len(positives)
        )
    found = regions(label.tolist())
    mine = labelled_contrast(similarity, soft_positives(key, found), found.labelled)
    torch.testing.assert_close(mine, torch.stack(expected).mean())
    assert float(unlabelled_contrast(similarity, soft_positives(key, found), found.labelled)) == 0.0
    back = labelled_contrast(similarity.T, soft_positives(key, found).T, found.labelled)
    torch.testing.assert_close(contrast(query, {RGB: key}, found, 0.1), (mine + back) / 2)


def test_the_labelled_formula_holds_where_weights_are_not_the_same_both_ways() -> None:
    similarity, weights = torch.randn(4, 4), torch.rand(4, 4).fill_diagonal_(1.0)
    known = torch.tensor([True, True, False, True])
    s = similarity.exp()
    each = [
        -sum(weights[j, k] / weights[j].sum() * torch.log(s[j, k] / s[j].sum()) for k in range(4))
        for j in range(4)
        if known[j]
    ]
    torch.testing.assert_close(labelled_contrast(similarity, weights, known), torch.stack(each).mean())


def test_no_label_and_no_likely_positive_is_infonce() -> None:
    similarity = unit(6, seed=1) @ unit(6, seed=2).T / 0.1
    nobody = torch.zeros(6, dtype=torch.bool)
    mine = unlabelled_contrast(similarity, torch.eye(6), nobody)
    torch.testing.assert_close(mine, F.cross_entropy(similarity, torch.arange(6)), atol=1e-5, rtol=1e-5)
    assert float(labelled_contrast(similarity, torch.eye(6), nobody)) == 0.0


@pytest.mark.parametrize("tau", [0.1, 0.002])
def test_the_formula_holds_for_small_temperatures(tau: float) -> None:
    similarity = (unit(6, seed=1) @ unit(6, seed=2).T / tau).requires_grad_()
    weights = torch.rand(6, 6, generator=torch.Generator().manual_seed(3)).fill_diagonal_(1.0)
    weights[0, similarity[0].argmax()] = 1.0  # what is nearest is not pushed away
    nobody = torch.zeros(6, dtype=torch.bool)
    s, w = similarity.detach().double().exp(), weights.double()
    each = [
        w[j, k] * torch.log(s[j, k] / (s[j, k] + sum((1 - w[j, o]) * s[j, o] for o in range(6) if o != k)))
        for j in range(6)
        for k in range(6)
    ]
    expected = -(torch.stack(each).reshape(6, 6).sum(dim=1) / w.sum(dim=1)).mean()
    found = unlabelled_contrast(similarity, weights, nobody)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    found.backward()
    assert bool(torch.isfinite(similarity.grad).all())


def test_likely_positives_are_not_pushed_away() -> None:
    similarity = torch.zeros(2, 2).requires_grad_()
    weights = torch.tensor([[1.0, 1.0], [1.0, 1.0]])
    loss = unlabelled_contrast(similarity, weights, torch.zeros(2, dtype=torch.bool))
    (gradient,) = torch.autograd.grad(loss, similarity)
    torch.testing.assert_close(gradient, torch.zeros(2, 2), atol=1e-6, rtol=0)


def test_both_directions_and_all_sensors_count() -> None:
    query, keys = unit(4, seed=1), {RGB: unit(4, seed=2), Modality.DEPTH: unit(4, seed=3)}
    found = regions([0, 0, -1, 1])
    parts = []
    for key in keys.values():
        w, s = soft_positives(key, found), query @ key.T / 0.5
        for one, weight in ((s, w), (s.T, w.T)):
            parts.append(
                labelled_contrast(one, weight, found.labelled)
                + unlabelled_contrast(one, weight, found.labelled)
            )
    torch.testing.assert_close(contrast(query, keys, found, 0.5), torch.stack(parts).mean())
    with pytest.raises(ModelError, match="temperature"):
        contrast(query, keys, found, 0.0)


@pytest.mark.parametrize("labels", [[0, 1, 1, 0], [-1, -1, -1, -1], [0, 1, -1, -1]])
def test_the_gradient_is_that_of_finite_differences(labels: list[int]) -> None:
    weights = soft_positives(unit(4, seed=2), regions(labels)).double()
    known = regions(labels).labelled

    def loss(query: Tensor, key: Tensor) -> Tensor:
        similarity = F.normalize(query, dim=1) @ F.normalize(key, dim=1).T / 0.2
        return labelled_contrast(similarity, weights, known) + unlabelled_contrast(similarity, weights, known)

    arguments = [unit(4, seed=s).double().requires_grad_() for s in (3, 4)]
    assert torch.autograd.gradcheck(loss, arguments)


def test_it_is_minimal_where_the_same_region_agrees() -> None:
    found = regions([0, 1, 2])
    same = torch.eye(3)
    assert float(contrast(same, {RGB: same}, found, 0.1)) < float(
        contrast(same, {RGB: same.roll(1, 0)}, found, 0.1)
    )


def test_reconstruction_pulls_the_parts_and_not_the_latent() -> None:
    split, decoder = SharedUnique(4), torch.nn.Conv2d(4, 4, 1)
    latent = torch.randn(2, 4, 2, 2).requires_grad_()
    there = {RGB: torch.tensor([True, False])}
    loss = reconstruction_loss({RGB: latent}, {RGB: split(latent.detach())}, {"rgb": decoder}, there)
    loss.backward()
    assert latent.grad is None
    assert all(float(p.grad.abs().sum()) > 0 for p in [*split.parameters(), *decoder.parameters()])
    one = reconstruction_loss(
        {RGB: latent[:1]}, {RGB: split(latent[:1])}, {"rgb": decoder}, {RGB: there[RGB][:1]}
    )
    torch.testing.assert_close(loss, one)


def test_a_sensor_that_nobody_has_does_not_thin_out_the_reconstruction() -> None:
    latents = {RGB: torch.randn(1, 4, 2, 2), Modality.DEPTH: torch.randn(1, 4, 2, 2)}
    parts = {m: torch.zeros_like(x) for m, x in latents.items()}
    decoders = {m.value: torch.nn.Identity() for m in latents}
    there = {RGB: torch.tensor([True]), Modality.DEPTH: torch.tensor([False])}
    expected = latents[RGB].square().mean()
    torch.testing.assert_close(reconstruction_loss(latents, parts, decoders, there), expected)


def test_reconstruction_gradient_is_that_of_finite_differences() -> None:
    torch.manual_seed(0)
    decoder = torch.nn.Conv2d(4, 4, 1).double()
    latent = torch.randn(1, 4, 1, 2).double()

    def loss(parts: Tensor) -> Tensor:
        return reconstruction_loss({RGB: latent}, {RGB: parts}, {"rgb": decoder}, {RGB: torch.tensor([True])})

    assert torch.autograd.gradcheck(loss, torch.randn(1, 4, 1, 2).double().requires_grad_())


def test_halves_and_unit_vectors() -> None:
    latent = torch.randn(1, 6, 2, 3)
    torch.testing.assert_close(SharedUnique(6)(latent), latent)  # at first it is the latent, cut in two
    torch.testing.assert_close(Projection(5, 7)(torch.randn(3, 5)).norm(dim=1), torch.ones(3))
    with pytest.raises(ModelError, match="even width, got 5"):
        SharedUnique(5)
