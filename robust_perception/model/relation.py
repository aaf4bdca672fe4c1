"""Distillation of relations and regularisation of the weakest combination (MMANet, CVPR 2023).

A teacher T trained on complete data, a student S under a random combination; f_i is the feature of sample
i of a batch of n, e_i the entropy of the teacher's prediction for it:

    A_ij  = norm(f_i) . norm(f_j)                   relation of two samples, cosine
    r_i   = A_i / || A_i ||                         row-normalised
    a_i   = e_i / sum_j e_j                         near the decision margin weighs more
    L_mad = sum_i a_i || r_i^S - r_i^T ||^2
    L_mar = task loss of an auxiliary decoder on the samples that show the weakest combination

The weakest combination is the one of the largest mean task loss over a window of training; the paper takes
the worst mIoU over epochs 6 to 9, for which a small training split has too few pixels of some classes [X].
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def relations(features: Tensor) -> Tensor:
    """Row-normalised matrix of cosines: features (n, C) -> (n, n)."""
    unit = F.normalize(features, dim=1)
    return F.normalize(unit @ unit.T, dim=1)


def entropy(logits: Tensor) -> Tensor:
    """Mean entropy of the class probabilities of each sample, nats: (n, V) or (n, V, H, W) -> (n,)."""
    log_probability = torch.log_softmax(logits, dim=1)
    each = -(log_probability.exp() * log_probability).sum(dim=1)
    return each.reshape(len(each), -1).mean(dim=1)


def relation_loss(student: Tensor, teacher: Tensor, teacher_logits: Tensor) -> Tensor:
    """L_mad; no gradient flows into the teacher.

    Args:
        student: features (n, C).
        teacher: features (n, C'), of the same samples.
        teacher_logits: its prediction, (n, V) or (n, V, H, W).
    """
    weight = entropy(teacher_logits.detach())
    weight = weight / weight.sum().clamp(min=1e-12)
    difference = relations(student) - relations(teacher.detach())
    return (weight * difference.square().sum(dim=1)).sum()
