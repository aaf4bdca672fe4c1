"""Losses: their formulas in NumPy, their gradients against finite differences, and what must not count."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from robust_perception.model.heads import Detections
from robust_perception.training import losses
from robust_perception.training.targets import UNKNOWN, Targets
from robust_perception.vocabulary import UNLABELLED

CLASSES, KINDS = 4, 3


def double(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def labels(seed: int = 0) -> Tensor:
    """(2, 3, 4); classes 0..2 and some unlabelled, class 3 nowhere."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(0, 3, (2, 3, 4), generator=generator)
    label[0, 0, :2] = UNLABELLED
    return label


def gradient_is_right(function: Callable[[Tensor], Tensor], x: Tensor) -> bool:
    return torch.autograd.gradcheck(function, (x.clone().requires_grad_(),))


def box_pairs(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Pairs of boxes: overlapping, nested, apart."""
    found = torch.tensor([[0.0, 0.0, 4.0, 5.0], [1.0, 1.0, 3.0, 2.5], [0.0, 0.0, 2.0, 2.0]])
    truth = torch.tensor([[1.0, 2.0, 6.0, 7.5], [0.0, 0.5, 5.0, 6.0], [5.0, 6.0, 7.0, 9.0]])
    noise = 0.1 * double(3, 4, seed=seed)
    return found.double() + noise, truth.double()


def test_cross_entropy_is_its_formula() -> None:
    logits, label = double(2, CLASSES, 3, 4), labels()
    log_p = (logits - logits.exp().sum(1, keepdim=True).log()).numpy()
    total, weights = 0.0, 0.0
    for b, i, j in np.ndindex(2, 3, 4):
        if label[b, i, j] != UNLABELLED:
            weight = 0.3 if label[b, i, j] == 0 else 1.0
            total -= weight * log_p[b, int(label[b, i, j]), i, j]
            weights += weight
    assert float(losses.cross_entropy(logits, label, 0.3)) == pytest.approx(total / weights)
    assert gradient_is_right(lambda x: losses.cross_entropy(x, label, 0.3), logits)


def test_dice_is_its_formula() -> None:
    logits, label = double(2, CLASSES, 3, 4), labels()
    known = (label != UNLABELLED).numpy()
    p = torch.softmax(logits, 1).numpy()
    each = []
    for c in (1, 2):
        truth = (label == c).numpy()
        overlap = (p[:, c] * truth)[known].sum()
        each.append(1 - (2 * overlap + 1) / (p[:, c][known].sum() + truth.sum() + 1))
    assert float(losses.dice(logits, label)) == pytest.approx(np.mean(each))
    assert gradient_is_right(lambda x: losses.dice(x, label), logits)


@pytest.mark.parametrize("loss", [losses.cross_entropy, losses.dice])
def test_unlabelled_pixels_and_pictures_count_nothing(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    logits, label = double(2, CLASSES, 3, 4), labels()
    unknown = (label == UNLABELLED)[:, None].expand_as(logits)
    other = torch.where(unknown, logits + 50.0, logits)
    assert float(loss(logits, label)) == float(loss(other, label))
    leaf = logits.clone().requires_grad_()
    loss(leaf, label).backward()
    assert leaf.grad is not None
    assert not bool(leaf.grad[unknown].any())
    nothing = loss(logits.requires_grad_(), torch.full_like(label, UNLABELLED))
    nothing.backward()
    assert nothing.item() == 0.0
    assert not bool(logits.grad.any())


def test_a_perfect_segmentation_costs_nothing() -> None:
    label = labels()
    target = torch.where(label == UNLABELLED, 0, label)
    logits = 60.0 * torch.nn.functional.one_hot(target, CLASSES).permute(0, 3, 1, 2).double()
    assert float(losses.cross_entropy(logits, label)) == pytest.approx(0.0, abs=1e-12)
    assert float(losses.dice(logits, label)) == pytest.approx(0.0, abs=1e-12)
    assert float(losses.cross_entropy(torch.zeros_like(logits), label)) == pytest.approx(math.log(CLASSES))


def test_focal_is_its_formula() -> None:
    logits, classes = double(2, 5, KINDS), torch.tensor([[0, 1, 0, 3, 0], [0, 0, 2, 0, 0]])
    total = 0.0
    for b, n, k in np.ndindex(2, 5, KINDS):
        p = 1 / (1 + math.exp(-float(logits[b, n, k])))
        there = int(classes[b, n]) == k + 1
        q, a = (p, 0.25) if there else (1 - p, 0.75)
        total -= a * (1 - q) ** 2 * math.log(q)
    assert float(losses.focal(logits, classes)) == pytest.approx(total / 3)
    assert gradient_is_right(lambda x: losses.focal(x, classes), logits)
    empty = losses.focal(logits, torch.zeros_like(classes))
    assert bool(torch.isfinite(empty))
    assert float(empty) > 0


def test_focal_leaves_out_cells_of_which_nobody_knows() -> None:
    logits, classes = double(2, 5, KINDS), torch.tensor([[0, 1, 0, 3, 0], [0, 0, 2, 0, 0]])
    some = classes.clone()
    some[0, 2:] = some[1, 3:] = UNKNOWN
    leaf = logits.clone().requires_grad_()
    loss = losses.focal(leaf, some)
    cells = torch.cat([classes[0, :2], classes[1, :3]])[None]
    expected = losses.focal(torch.cat([logits[0, :2], logits[1, :3]])[None], cells)
    assert float(loss.detach()) == pytest.approx(float(expected))
    loss.backward()  # type: ignore[no-untyped-call]
    assert leaf.grad is not None
    assert torch.equal((leaf.grad != 0).all(dim=2), some != UNKNOWN)


def test_giou_is_its_formula() -> None:
    found, truth = box_pairs()
    expected = []
    for a, b in zip(found.tolist(), truth.tolist(), strict=True):
        wide, tall = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
        overlap = wide * tall if wide > 0 and tall > 0 else 0.0
        union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - overlap
        hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
        expected.append(1 - overlap / union + (hull - union) / hull)
    assert losses.giou(found, truth).tolist() == pytest.approx(expected)
    assert losses.giou(truth, truth).tolist() == pytest.approx([0.0] * 3)
    assert gradient_is_right(lambda x: losses.giou(x, truth), found)


def detections(seed: int = 0) -> tuple[Detections, Targets]:
    found, truth = box_pairs(seed)
    centres = torch.tensor([[0.9, 0.2, 0.5, 0.0]], dtype=torch.float64)
    return (
        Detections(
            double(1, 4, KINDS, seed=1), double(1, 4, 4, seed=2), double(1, 4, seed=3),
            torch.cat([found, torch.tensor([[0.0, 0.0, 1.0, 1.0]]).double()])[None],
        ),
        Targets(
            torch.tensor([[1, 3, 2, 0]]),
            torch.cat([truth, torch.zeros(1, 4).double()])[None],
            centres,
        ),
    )  # fmt: skip


def test_detection_weighs_boxes_by_centre_ness() -> None:
    found, targets = detections()
    parts = losses.detection(found, targets)
    weight = targets.centres[0, :3].numpy()
    each = losses.giou(found.boxes[0, :3], targets.boxes[0, :3]).numpy()
    assert float(parts["detection_box"]) == pytest.approx((weight * each).sum() / weight.sum())
    c = 1 / (1 + np.exp(-found.centre_logits[0, :3].numpy()))
    entropy = -(weight * np.log(c) + (1 - weight) * np.log(1 - c))
    assert float(parts["detection_centre"]) == pytest.approx(entropy.mean())


def test_detection_gradients() -> None:
    found, targets = detections()

    def total(logits: Tensor, centres: Tensor, boxes: Tensor) -> Tensor:
        shaped = found._replace(class_logits=logits, centre_logits=centres, boxes=boxes)
        return torch.stack(list(losses.detection(shaped, targets).values())).sum()

    leaves = [x.clone().requires_grad_() for x in (found.class_logits, found.centre_logits, found.boxes)]
    assert torch.autograd.gradcheck(total, leaves)


def test_a_batch_without_objects_still_teaches_that_there_are_none() -> None:
    found, targets = detections()
    leaves = Detections(*(x.clone().requires_grad_() for x in found))
    parts = losses.detection(leaves, targets._replace(classes=torch.zeros_like(targets.classes)))
    assert parts["detection_box"].item() == parts["detection_centre"].item() == 0.0
    torch.stack(list(parts.values())).sum().backward()
    assert leaves.class_logits.grad is not None
    assert bool((leaves.class_logits.grad > 0).all()), "every class becomes less likely everywhere"


def test_scene_counts_only_what_is_known() -> None:
    logits, truth = double(3, 2), torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]).double()
    known = torch.tensor([True, False, True])[:, None].expand(3, 2)
    p = torch.sigmoid(logits).numpy()
    t = truth.numpy()
    entropy = -(t * np.log(p) + (1 - t) * np.log(1 - p))
    assert float(losses.scene(logits, truth, known)) == pytest.approx(entropy[[0, 2]].mean())
    assert gradient_is_right(lambda x: losses.scene(x, truth, known), logits)
    assert float(losses.scene(logits, truth, torch.zeros(3, 2, dtype=torch.bool))) == 0.0


def test_scene_classes_of_another_data_set_count_nothing() -> None:
    logits, truth = double(3, 2), torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]).double()
    known = torch.tensor([[True, False], [True, True], [False, False]])
    p, t = torch.sigmoid(logits).numpy(), truth.numpy()
    entropy = -(t * np.log(p) + (1 - t) * np.log(1 - p))
    assert float(losses.scene(logits, truth, known)) == pytest.approx((entropy[0, 0] + entropy[1].mean()) / 2)
    assert gradient_is_right(lambda x: losses.scene(x, truth, known), logits)
    leaf = logits.clone().requires_grad_()
    losses.scene(leaf, truth, known).backward()
    assert leaf.grad is not None
    assert (leaf.grad != 0).tolist() == known.tolist()


SOME_KNOWN = torch.tensor([[True, True, True, True], [True, True, False, False]])
"""The second sample's folder labels class 1 only."""


def partly_known() -> Tensor:
    """`labels` without what the second sample's folder does not label."""
    label = labels()
    label[1] = torch.where(label[1] == 2, 0, label[1])
    return label


def test_merging_by_hand() -> None:
    logits = torch.tensor([0.1, 0.2, 0.3, 0.4]).double().log()[None, :, None, None]
    known = torch.tensor([[True, True, False, False]])
    merged = losses.merge_unknown(logits, known)
    assert torch.softmax(merged, 1).flatten().tolist() == pytest.approx([0.8, 0.2, 0.0, 0.0])
    background, first = torch.zeros(1, 1, 1, dtype=torch.int64), torch.ones(1, 1, 1, dtype=torch.int64)
    assert float(losses.cross_entropy(merged, background)) == pytest.approx(-math.log(0.8))
    assert float(losses.cross_entropy(merged, first)) == pytest.approx(-math.log(0.2))
    # One pixel of class 1: 1 - (2 * 0.2 + 1) / (0.2 + 1 + 1); class 2 occurs nowhere.
    assert float(losses.dice(merged, first)) == pytest.approx(1 - 1.4 / 2.2)


def test_marginal_losses_are_their_formulas() -> None:
    logits, label = double(2, CLASSES, 3, 4), partly_known()
    p = torch.softmax(logits, 1).numpy()
    p[1, 0] += p[1, 2] + p[1, 3]
    p[1, 2:] = 0.0
    total, weights = 0.0, 0.0
    for b, i, j in np.ndindex(2, 3, 4):
        if label[b, i, j] != UNLABELLED:
            weight = 0.3 if label[b, i, j] == 0 else 1.0
            total -= weight * math.log(p[b, int(label[b, i, j]), i, j])
            weights += weight
    merged = losses.merge_unknown(logits, SOME_KNOWN)
    assert float(losses.cross_entropy(merged, label, 0.3)) == pytest.approx(total / weights)
    known = (label != UNLABELLED).numpy()
    each = []
    for c in (1, 2):
        truth = (label == c).numpy()
        overlap = (p[:, c] * truth)[known].sum()
        each.append(1 - (2 * overlap + 1) / (p[:, c][known].sum() + truth.sum() + 1))
    assert float(losses.dice(merged, label)) == pytest.approx(np.mean(each))


@pytest.mark.parametrize("loss", [losses.cross_entropy, losses.dice])
def test_marginal_gradients(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    logits, label = double(2, CLASSES, 3, 4), partly_known()
    assert gradient_is_right(lambda x: loss(losses.merge_unknown(x, SOME_KNOWN), label), logits)


def test_a_background_of_one_set_does_not_speak_against_the_classes_of_another() -> None:
    label = torch.zeros(1, 2, 2, dtype=torch.int64)
    sure = torch.zeros(1, CLASSES, 2, 2).double()
    sure[:, 3] = 20.0
    leaf = sure.clone().requires_grad_()
    value = losses.cross_entropy(losses.merge_unknown(leaf, SOME_KNOWN[1:]), label)
    value.backward()
    assert value.item() < 1e-8, "class 3 may well be what this folder calls background"
    assert leaf.grad is not None
    assert float(leaf.grad[:, 3].abs().max()) < 1e-8
    assert float(losses.cross_entropy(losses.merge_unknown(sure, SOME_KNOWN[:1]), label)) > 19.0


def test_where_every_class_is_known_nothing_changes_by_a_bit() -> None:
    logits, every = double(2, CLASSES, 3, 4).float(), torch.ones(2, CLASSES, dtype=torch.bool)
    assert losses.merge_unknown(logits, every) is logits
    mixed = losses.merge_unknown(logits, SOME_KNOWN)
    assert torch.equal(mixed[0], logits[0]), "also beside a sample where not every class is known"
    found, targets = detections()
    with_all = losses.detection(found, targets, torch.ones(1, KINDS, dtype=torch.bool))
    for name, value in losses.detection(found, targets).items():
        assert torch.equal(value, with_all[name]), name
    scene, truth = double(5, 3).float(), (double(5, 3, seed=1) > 0).float()
    rows = torch.tensor([True, False, True, True, False])
    each = torch.nn.functional.binary_cross_entropy_with_logits(scene, truth, reduction="none").mean(dim=1)
    before = torch.where(rows, each, torch.zeros_like(each)).sum() / rows.sum()
    assert torch.equal(losses.scene(scene, truth, rows[:, None].expand(5, 3)), before)


def test_focal_leaves_out_classes_that_nobody_looked_for() -> None:
    logits, classes = double(2, 5, KINDS), torch.tensor([[0, 1, 0, 3, 0], [0, 0, 1, 0, 0]])
    known = torch.tensor([[True, True, True], [True, False, False]])
    total = 0.0
    for b, n, k in np.ndindex(2, 5, KINDS):
        if known[b, k]:
            p = 1 / (1 + math.exp(-float(logits[b, n, k])))
            there = int(classes[b, n]) == k + 1
            q, a = (p, 0.25) if there else (1 - p, 0.75)
            total -= a * (1 - q) ** 2 * math.log(q)
    assert float(losses.focal(logits, classes, known)) == pytest.approx(total / 3)
    assert gradient_is_right(lambda x: losses.focal(x, classes, known), logits)
    leaf = logits.clone().requires_grad_()
    losses.focal(leaf, classes, known).backward()
    assert leaf.grad is not None
    assert not bool(leaf.grad[1, :, 1:].any())


def test_distillation_is_a_divergence_whose_teacher_does_not_learn() -> None:
    student, teacher, label = double(2, CLASSES, 3, 4, seed=1), double(2, CLASSES, 3, 4, seed=2), labels()
    q, p = torch.softmax(teacher, 1).numpy(), torch.softmax(student, 1).numpy()
    each = (q * np.log(q / p)).sum(axis=1)
    foreground = np.isin(label.numpy(), (1, 2))
    expected = each.mean() + each[foreground].mean()
    assert float(losses.distillation(student, teacher, label)) == pytest.approx(expected)
    assert float(losses.distillation(teacher, teacher, label)) == pytest.approx(0.0, abs=1e-12)
    assert gradient_is_right(lambda x: losses.distillation(x, teacher, label), student)
    leaf = teacher.clone().requires_grad_()
    losses.distillation(student.clone().requires_grad_(), leaf, label).backward()
    assert leaf.grad is None


@pytest.mark.parametrize("scale", [1e3, 1e4])
def test_extreme_logits_stay_finite(scale: float) -> None:
    logits, label = (scale * double(2, CLASSES, 3, 4)).requires_grad_(), labels()
    value = losses.cross_entropy(logits, label) + losses.dice(logits, label)
    merged, seen = losses.merge_unknown(logits, SOME_KNOWN), partly_known()
    value = value + losses.cross_entropy(merged, seen) + losses.dice(merged, seen)
    value = value + losses.focal(logits.flatten(2)[:, :KINDS].transpose(1, 2), label.flatten(1) % 4)
    value.backward()
    assert bool(torch.isfinite(value))
    assert logits.grad is not None
    assert bool(torch.isfinite(logits.grad).all())
