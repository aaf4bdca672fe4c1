"""The sensors' side of CyIN and Robult on dense data: which latents, levels and labels their losses get.

    token level      each translated level of the images, and the sound by itself
    label level      images: class map of p4 against the shares of the classes in each cell; sound: scenes
    translators      each translated level; a sound's latent with the images' of both
    contrast         regions at p4: query the fused level, keys the sensors' shared halves, means only
    reconstruction   every translated level

The papers show these losses on pooled sentences and clips; their use on dense maps is ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from robust_perception.model.alignment import contrast, reconstruction_loss
from robust_perception.model.auxiliary import UNIMODAL_LEVEL
from robust_perception.model.bottleneck import (
    divergence,
    mean_over_present,
    mean_where,
    token_bottleneck_loss,
    token_target,
)
from robust_perception.model.completion import Completion
from robust_perception.model.encoders import LEVELS
from robust_perception.model.network import Fused, Network, Outputs
from robust_perception.model.representation import TRANSLATED, Representation
from robust_perception.training.batch import Batch
from robust_perception.training.losses import merge_unknown
from robust_perception.training.method_config import MethodConfig
from robust_perception.training.regions import class_areas, regions_of
from robust_perception.vocabulary import Modality

Known = Mapping[Modality, Representation]
There = Mapping[Modality, Tensor]


def token_level(
    network: Network, known: Known, samples: Mapping[Modality, Sequence[Tensor]], there: There, beta: float
) -> tuple[Tensor, Tensor]:
    """(1 / beta) L_tib, mean over the levels of sensors that some sample has; and for the log its mean KL.

    Args:
        network: whose decoders.
        known: representations of the sensors.
        samples: B per sensor and level.
        there: per sensor bool (B,).
        beta: of the bottleneck.

    Returns:
        The loss, and the KL of the sensors' bottlenecks per channel, without gradient; scalars.
    """
    terms, masks = [], []
    divergences = {m: [divergence(gaussian) for gaussian in r.gaussians] for m, r in known.items()}
    for level in (*TRANSLATED, "vector"):
        members = {m: _index(level) for m in known if m.is_image == (level != "vector")}
        if not members:
            continue
        decoders = {m.value: network.auxiliary.token_decoders[f"{level}_{m.value}"] for m in members}
        terms.append(
            token_bottleneck_loss(
                {m: samples[m][i] for m, i in members.items()},
                {m: divergences[m][i] for m, i in members.items()},
                {m: token_target(known[m].features[i]) for m, i in members.items()},
                decoders,
                there,
                beta,
            )
        )
        masks.append(_any_of(there, members))
    pairs = [(each.detach(), there[m]) for m, levels in divergences.items() for each in levels]
    compression = mean_over_present([mean_where(*pair) for pair in pairs], [mask for _, mask in pairs])
    return mean_over_present(terms, masks), compression


def label_level(
    network: Network, samples: Mapping[Modality, Sequence[Tensor]], there: There, batch: Batch
) -> Tensor:
    """L_lib without its KL, which the token level has.

    Mean of the unimodal task loss over those sensors of which some sample with labels has frames.
    """
    terms, masks = [], []
    for modality, sample in samples.items():
        if modality.value not in network.auxiliary.unimodal:
            continue
        logits = network.auxiliary.unimodal[modality.value](
            sample[UNIMODAL_LEVEL if modality.is_image else 0]
        )
        if modality.is_image:
            areas = class_areas(batch.label, logits.shape[1], (logits.shape[2], logits.shape[3]))
            log_p = torch.log_softmax(merge_unknown(logits, batch.known_classes), dim=1)
            log_p = log_p.masked_fill(~batch.known_classes[:, :, None, None], 0.0)  # -inf there; areas are 0
            each = -(areas * log_p).sum(dim=(1, 2, 3))
            each = each / areas.sum(dim=(1, 2, 3)).clamp(min=1e-6)  # of few labelled pixels the mean too
            counted = there[modality] & batch.labelled
        else:
            entropy = F.binary_cross_entropy_with_logits(logits[:, :, 0, 0], batch.scene, reduction="none")
            known = batch.scene_known
            entropy = torch.where(known, entropy, torch.zeros_like(entropy))
            each = entropy.sum(dim=1) / known.sum(dim=1).clamp(min=1)
            counted = there[modality] & known.any(dim=1)
        terms.append(mean_where(each, counted))
        masks.append(counted)
    return mean_over_present(terms, masks)


def translation(network: Network, known: Known, there: There) -> tuple[Tensor, Tensor]:
    """L_rec and L_cyc of the translators, mean over levels."""
    forward, reverse = [], []
    for level, completion in network.fusion.completions.items():
        assert isinstance(completion, Completion)
        tokens = {m: _token(r, m, level)[:, : completion.translated] for m, r in known.items()}
        precisions = None
        if network.config.translation == "poe":
            precisions = {
                m: r.gaussians[_index(level) if m.is_image else 0].precision for m, r in known.items()
            }
        there_loss, back_loss = completion.translators.loss(tokens, there, precisions)
        forward.append(there_loss)
        reverse.append(back_loss)
    return torch.stack(forward).mean(), torch.stack(reverse).mean()


def reconstruction(network: Network, known: Known, there: There) -> Tensor:
    """L_rec of Robult, mean over the levels of sensors that some sample has."""
    terms, masks = [], []
    for level in (*TRANSLATED, "vector"):
        members = [m for m in known if m.is_image == (level != "vector")]
        if not members:
            continue
        terms.append(
            reconstruction_loss(
                {m: known[m].latents[_index(level)] for m in members},
                {m: _token(known[m], m, level) for m in members},
                {m.value: network.auxiliary.rebuilders[f"{level}_{m.value}"] for m in members},
                there,
            )
        )
        masks.append(_any_of(there, members))
    return mean_over_present(terms, masks)


def contrast_of(
    network: Network, known: Known, fused: Fused, outputs: Outputs, batch: Batch, methods: MethodConfig
) -> Tensor:
    """L_lb + L_ulb over the batch's regions; 0 when a batch has fewer than two.

    Regions of a sample that lacks a sensor are left out of that sensor's comparison.
    """
    level = TRANSLATED[UNIMODAL_LEVEL]
    query = fused.levels[LEVELS.index(level)]
    grid = (query.shape[2], query.shape[3])
    areas = regions_of(batch.label, outputs.segmentation.detach(), batch.known_classes, grid, methods.regions)
    if len(areas.sample) < 2:
        return query.sum() * 0.0
    anchors = network.auxiliary.projections["fused"](areas.pool(query))
    terms = []
    for modality, representation in known.items():
        if not modality.is_image:
            continue
        has = torch.tensor([modality in p for p in batch.available], device=query.device)[areas.sample]
        if int(has.sum()) < 2:
            continue
        token = _token(representation, modality, level)
        keys = network.auxiliary.projections[modality.value](areas.pool(token[:, : token.shape[1] // 2])[has])
        chosen = type(areas.regions)(*(column[has] for column in areas.regions))
        terms.append(contrast(anchors[has], {modality: keys}, chosen, methods.temperature))
    return torch.stack(terms).mean() if terms else query.sum() * 0.0


def _any_of(there: There, members: Iterable[Modality]) -> Tensor:
    """Bool (B,), the samples that have one of these sensors."""
    return torch.stack([there[m] for m in members]).any(dim=0)


def _index(level: str) -> int:
    return TRANSLATED.index(level) if level in TRANSLATED else 0


def _token(representation: Representation, modality: Modality, level: str) -> Tensor:
    """[R, U] of a level; a sound has one for all levels."""
    tokens = representation.tokens
    return tokens[LEVELS.index(level)] if modality.is_image else tokens[0]
