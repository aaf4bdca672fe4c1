"""Losses of the three heads.

Segmentation, over pixels with label y != 255 and probabilities p:

    CE   = mean( -ln p[y] )
    Dice = 1 - mean over foreground classes c in the batch of
               (2 sum p_c [y=c] + 1) / (sum p_c + sum [y=c] + 1)

Detection, over cells, P = number of cells that answer for a box (at least 1), q = class probability:

    focal  = 1/P sum  -a_t (1 - q_t)^2 ln q_t            q_t = q where the class is there, else 1 - q; a = 1/4
    GIoU   = 1/sum(w) sum over answering cells  w (1 - IoU + (hull - union) / hull),   w = centre-ness
    centre = 1/P sum over answering cells  BCE(centre-ness)

(Lin et al. 2017; Rezatofighi et al. 2019; Tian et al. 2019.)

Scene: mean binary cross-entropy over known labels.

Data sets with different classes (marginal loss: Fang and Yan 2020; Shi et al. 2021). A sample whose folder
labels the classes K says with "background" no more than "none of K":

    p'(background) = p(background) + sum of p(c) over c not in K,    p'(c) = p(c) for c in K, else 0

Cross-entropy and Dice look at p'; focal and scene leave classes outside K out. Focal leaves out cells on
unlabelled pixels too where a sample's boxes are those of its label map: what lies there has no box.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from robust_perception.model.heads import Detections
from robust_perception.training.targets import UNKNOWN, Targets
from robust_perception.vocabulary import UNLABELLED

FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2.0
SMOOTH = 1.0


def merge_unknown(logits: Tensor, known: Tensor) -> Tensor:
    """Logits of p': classes that a sample's folder does not label are taken together with the background.

    Args:
        logits: (B, C, H, W).
        known: bool (B, C), the classes that are labelled; the background is taken as known.

    Returns:
        (B, C, H, W), the logits themselves where every class is known; -inf for classes that are not. A class
        that is not known must not be a pixel's label.
    """
    if bool(known[:, 1:].all()):
        return logits
    unknown = ~known[:, 1:, None, None]
    background, foreground = logits[:, :1], logits[:, 1:]
    merged = torch.cat([background, foreground.masked_fill(~unknown, -torch.inf)], dim=1)
    merged = merged.logsumexp(dim=1, keepdim=True)
    return torch.cat([merged, foreground.masked_fill(unknown, -torch.inf)], dim=1)


def cross_entropy(logits: Tensor, label: Tensor, background_weight: float = 1.0) -> Tensor:
    """Mean over known pixels; logits (B, C, H, W), label int64 (B, H, W); 0 without a known pixel."""
    weight = torch.ones(logits.shape[1], device=logits.device, dtype=logits.dtype)
    weight[0] = background_weight
    known = label != UNLABELLED
    target = torch.where(known, label, torch.zeros_like(label))
    each = F.cross_entropy(logits, target, weight=weight, reduction="none")
    share = weight[target] * known
    return torch.where(known, each, torch.zeros_like(each)).sum() / share.sum().clamp(min=1.0)


def dice(logits: Tensor, label: Tensor) -> Tensor:
    """Soft Dice loss over the foreground classes that occur in the batch; 0 when none does."""
    classes = logits.shape[1]
    known = (label != UNLABELLED)[:, None]
    target = torch.where(known[:, 0], label, torch.zeros_like(label))
    probability = torch.where(known, torch.softmax(logits, dim=1), torch.zeros_like(logits))
    truth = F.one_hot(target, classes).permute(0, 3, 1, 2) * known
    overlap = (probability * truth).sum(dim=(0, 2, 3))
    total = probability.sum(dim=(0, 2, 3)) + truth.sum(dim=(0, 2, 3))
    occurs = truth.sum(dim=(0, 2, 3)) > 0
    occurs[0] = False
    score = (2.0 * overlap + SMOOTH) / (total + SMOOTH)
    return torch.where(occurs, 1.0 - score, torch.zeros_like(score)).sum() / occurs.sum().clamp(min=1)


def focal(logits: Tensor, classes: Tensor, known: Tensor | None = None) -> Tensor:
    """Focal loss.

    Args:
        logits: (B, N, K).
        classes: int64 (B, N), 0 = nothing; cells of `UNKNOWN` are left out.
        known: bool (B, K), the classes that count; None = all.
    """
    truth = F.one_hot(classes.clamp(min=0), logits.shape[-1] + 1)[..., 1:].to(logits.dtype)
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    probability = torch.sigmoid(logits)
    q = probability * truth + (1.0 - probability) * (1.0 - truth)
    alpha = FOCAL_ALPHA * truth + (1.0 - FOCAL_ALPHA) * (1.0 - truth)
    each = alpha * (1.0 - q) ** FOCAL_GAMMA * entropy
    each = each.masked_fill((classes == UNKNOWN)[..., None], 0.0)
    if known is not None:
        each = torch.where(known[:, None], each, torch.zeros_like(each))
    return each.sum() / (classes > 0).sum().clamp(min=1)


def giou(boxes: Tensor, truth: Tensor) -> Tensor:
    """1 - generalised IoU of paired boxes (n, 4), xyxy with positive sides -> (n,)."""
    overlap = (
        (torch.minimum(boxes[:, 2:], truth[:, 2:]) - torch.maximum(boxes[:, :2], truth[:, :2]))
        .clamp(min=0.0)
        .prod(dim=1)
    )
    hull = (torch.maximum(boxes[:, 2:], truth[:, 2:]) - torch.minimum(boxes[:, :2], truth[:, :2])).prod(dim=1)
    union = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1) + (truth[:, 2:] - truth[:, :2]).prod(dim=1) - overlap
    return 1.0 - overlap / union.clamp(min=1e-6) + (hull - union) / hull.clamp(min=1e-6)


def detection(found: Detections, targets: Targets, known: Tensor | None = None) -> dict[str, Tensor]:
    """`detection_class`, `detection_box`, `detection_centre` of a batch; the last two 0 without objects.

    Args:
        found: raw detections of K classes.
        targets: what they should be.
        known: bool (B, K), the classes whose boxes the sample's folder has; None = all.
    """
    answers = targets.classes > 0
    zero = found.boxes.sum() * 0.0
    box, centre = zero, zero
    if bool(answers.any()):
        weight = targets.centres[answers]
        each = giou(found.boxes[answers], targets.boxes[answers])
        box = (each * weight).sum() / weight.sum().clamp(min=1e-6)
        centre = F.binary_cross_entropy_with_logits(found.centre_logits[answers], weight)
    return {
        "detection_class": focal(found.class_logits, targets.classes, known),
        "detection_box": box,
        "detection_centre": centre,
    }


def scene(logits: Tensor, labels: Tensor, known: Tensor) -> Tensor:
    """Mean over samples of the mean binary cross-entropy over the classes that are known of each.

    Args:
        logits: (B, S).
        labels: (B, S), 0 or 1; any finite number where unknown.
        known: bool (B, S). Samples of which no class is known count nothing; 0 when there are no others.
    """
    each = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    mean = torch.where(known, each, torch.zeros_like(each)).sum(dim=1) / known.sum(dim=1).clamp(min=1)
    return mean.sum() / known.any(dim=1).sum().clamp(min=1)


def distillation(student: Tensor, teacher: Tensor, label: Tensor) -> Tensor:
    """KL(teacher || student) of label probabilities, mean over foreground pixels plus mean over all pixels.

    Args:
        student: logits (B, C, H, W) under a poorer pattern.
        teacher: logits of the same samples under the full pattern; no gradient flows into them.
        label: int64 (B, H, W); unlabelled pixels take part as background does.
    """
    target = torch.log_softmax(teacher.detach(), dim=1)
    each = (target.exp() * (target - torch.log_softmax(student, dim=1))).sum(dim=1)
    foreground = ((label > 0) & (label != UNLABELLED)).to(each.dtype)
    return each.mean() + (each * foreground).sum() / foreground.sum().clamp(min=1.0)
