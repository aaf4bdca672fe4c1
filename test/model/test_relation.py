"""MMANet's distillation of relations."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from robust_perception.model.relation import entropy, relation_loss, relations


def test_relations_are_normalised_cosines() -> None:
    found = relations(torch.tensor([[2.0, 0.0], [0.0, 3.0]]))
    torch.testing.assert_close(found, torch.eye(2))
    torch.testing.assert_close(relations(torch.randn(5, 3)).norm(dim=1), torch.ones(5))


def test_entropy_by_hand() -> None:
    assert float(entropy(torch.zeros(1, 4))[0]) == pytest.approx(torch.tensor(4.0).log().item())
    assert entropy(torch.randn(3, 4, 2, 2)).shape == (3,)


def test_a_pupil_with_the_same_relations_has_nothing_to_learn() -> None:
    teacher = torch.randn(4, 6)
    turned = teacher @ torch.linalg.qr(torch.randn(6, 6)).Q  # angles stay
    assert float(relation_loss(turned, teacher, torch.randn(4, 3))) == pytest.approx(0.0, abs=1e-9)


def test_samples_near_the_margin_weigh_more() -> None:
    teacher, student = torch.eye(2), torch.tensor([[1.0, 0.0], [1.0, 0.5]])
    difference = (relations(student) - relations(teacher)).square().sum(dim=1)
    certain, torn = torch.tensor([30.0, 0.0]), torch.tensor([0.0, 0.0])
    torch.testing.assert_close(relation_loss(student, teacher, torch.stack([torn, certain])), difference[0])
    torch.testing.assert_close(relation_loss(student, teacher, torch.stack([certain, torn])), difference[1])


def test_the_teacher_gets_no_gradient_and_the_pupils_is_that_of_finite_differences() -> None:
    teacher = torch.randn(3, 4).double().requires_grad_()
    logits = torch.randn(3, 2).double().requires_grad_()
    student = torch.randn(3, 4).double().requires_grad_()

    def loss(features: Tensor) -> Tensor:
        return relation_loss(features, teacher, logits)

    loss(student).backward()
    assert teacher.grad is None and logits.grad is None
    assert torch.autograd.gradcheck(loss, student)
