"""The loss of a batch: what is asked of the network under which pattern.

    L =  w_full L_task(all the sample has)  +  w_random L_task(a random subset of it)
       + lambda_u (mean over sensors of L_unimodal)                            CyIN, label level
       + (1 / beta) L_tib + gamma (L_rec + L_cyc)                              CyIN, token level; translators
       + lambda_c (L_lb + L_ulb) + lambda_r L_reconstruction                   Robult
       + alpha KL(z) + beta_h L_task(second decoder, hard combinations)        DMRNet
       + lambda_m L_mad                                                        MMANet
       + lambda_d KL( label probabilities of the full pass || of the random pass )

Every weight is of the configuration, times the stage's factor (`stages`); a weight of 0 leaves its term out
and costs nothing. Terms of several sensors, pairs or levels are means over those that a batch has, where the
papers sum some: a weight then says the same for two sensors as for four. All terms share one run of the
encoders. The two KLs, a sum and a mean over channels, are in the log per channel too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from robust_perception.model.availability import is_present
from robust_perception.model.completion import draw_swap
from robust_perception.model.embedding import HardCombinations, embedding_kl
from robust_perception.model.heads import Detections, upsample
from robust_perception.model.network import Fused, Network, Noise, Outputs
from robust_perception.model.relation import relation_loss
from robust_perception.model.representation import Representation
from robust_perception.training import losses, method_losses
from robust_perception.training.batch import Batch
from robust_perception.training.config import LossConfig
from robust_perception.training.errors import NonFiniteLossError
from robust_perception.training.stages import Moment
from robust_perception.training.targets import Targets, assign
from robust_perception.vocabulary import Modality, Pattern


def pattern_tensor(patterns: tuple[Pattern, ...], device: torch.device) -> Tensor:
    """int64 (B,) of bitmasks; an empty pattern is 0."""
    return torch.tensor([pattern.bits for pattern in patterns], dtype=torch.int64, device=device)


def targets_of(batch: Batch) -> Targets:
    """What the detection head should say of a batch, on its label's device."""
    size = (batch.label.shape[1], batch.label.shape[2])
    targets = assign(batch.boxes, batch.class_ids, size).to(batch.label.device)
    return targets.unknown_in(batch.unsearched)


def task_losses(outputs: Outputs, batch: Batch, targets: Targets, config: LossConfig) -> dict[str, Tensor]:
    """The weighted loss of every head by name."""
    segmentation = losses.merge_unknown(outputs.segmentation, batch.known_classes)
    found = {
        "cross_entropy": losses.cross_entropy(segmentation, batch.label, config.background_weight),
        "dice": losses.dice(segmentation, batch.label),
    }
    known = batch.boxes_known
    if bool(known.any()):
        detections = Detections(*(column[known] for column in outputs.detections))
        wanted = Targets(*(column[known] for column in targets))
        found |= losses.detection(detections, wanted, batch.known_classes[known, 1:])
    if outputs.scene is not None:
        found["scene"] = losses.scene(outputs.scene, batch.scene, batch.scene_known)
    return {name: value * getattr(config, name) for name, value in found.items()}


@dataclass
class Helpers:
    """What a loss needs beside the network.

    Attributes:
        generator: source of the step's chance.
        hard: mines hard combinations; None without that term.
        teacher: MMANet's, trained on complete data; None without that term.
        weakest: whether `hard` mines the task loss (MMANet) instead of the variance (DMRNet).
    """

    generator: torch.Generator = field(default_factory=torch.Generator)
    hard: HardCombinations | None = None
    teacher: Network | None = None
    weakest: bool = False


@dataclass
class Total:
    """A sum of named losses, refused as soon as one is not finite."""

    value: Tensor
    parts: dict[str, float] = field(default_factory=dict)

    def add(self, name: str, loss: Tensor, patterns: tuple[Pattern, ...], weight: float = 1.0) -> None:
        """Add weight times loss; its unweighted value is remembered.

        Raises:
            NonFiniteLossError: names the loss and the patterns.
        """
        self.parts[name] = float(loss.detach())
        if not math.isfinite(self.parts[name]):
            where, _, what = name.rpartition("/")
            what = f"loss {what} of the {where} pass" if where else f"loss {what}"
            raise NonFiniteLossError(what, patterns, self.parts[name])
        self.value = self.value + weight * loss


def objective(
    network: Network,
    batch: Batch,
    drawn: tuple[Pattern, ...],
    losses_config: LossConfig,
    moment: Moment,
    helpers: Helpers,
) -> tuple[Tensor, dict[str, float]]:
    """Total loss of a batch and its parts, for the log.

    Args:
        network: in training mode.
        batch: what to learn from.
        drawn: a random pattern per sample.
        losses_config: weights of the task's losses.
        moment: weights of passes and methods in this epoch.
        helpers: see there.

    Raises:
        NonFiniteLossError: names the loss, the pass and the patterns.
    """
    size = (batch.label.shape[1], batch.label.shape[2])
    device = batch.label.device
    targets = targets_of(batch)
    available = pattern_tensor(batch.available, device)
    there = {m: is_present(available, m) for m in network.config.modalities}
    known = {m: network.represent(m, batch.inputs[m], there[m]) for m in network.config.modalities}
    latents = {m: network.latents(m, r) for m, r in known.items()}
    total = Total(batch.label.new_zeros((), dtype=torch.float32))
    methods, passes = moment.methods, moment.patterns
    noise = Noise(moment.noise, helpers.generator) if moment.noise else None
    outputs: dict[str, Outputs] = {}
    fused: dict[str, Fused] = {}
    for name, shown, weight in (
        ("full", batch.available, passes.full_weight),
        ("random", drawn, passes.dropout_weight),
    ):
        if weight == 0.0:
            continue
        pattern = pattern_tensor(shown, device)
        swap = None
        if name == "random" and methods.swap:
            present = {m: is_present(pattern, m) for m in network.config.modalities}
            swap = draw_swap(present, methods.swap, helpers.generator)
        fused[name] = network.fusion.fuse(latents, pattern, swap, noise)
        outputs[name] = network.fusion.decode(fused[name], size)
        for loss, value in task_losses(outputs[name], batch, targets, losses_config).items():
            total.add(f"{name}/{loss}", value, shown, weight)
        embedding = fused[name].embedding
        if embedding is not None and methods.alpha:
            total.add(f"{name}/kl", embedding_kl(embedding), shown, methods.alpha)
            total.parts[f"{name}/kl_per_channel"] = total.parts[f"{name}/kl"] / embedding.mean.shape[1]
        if name == "random" and helpers.hard is not None:
            _mine(helpers.hard, helpers.weakest, fused[name], outputs[name], batch, pattern, moment)
            _hard_combinations(total, network, fused[name], batch, shown, moment, helpers.hard)
    _sensors(total, network, known, there, batch, moment, helpers)
    if methods.contrast:
        richest = "full" if "full" in fused else "random"
        value = method_losses.contrast_of(network, known, fused[richest], outputs[richest], batch, methods)
        total.add("contrast", value, batch.available, methods.contrast)
    if passes.distillation:
        value = losses.distillation(outputs["random"].segmentation, outputs["full"].segmentation, batch.label)
        total.add("distillation", value, drawn, passes.distillation)
    if methods.relation and helpers.teacher is not None:
        _relation(total, helpers.teacher, fused, batch, drawn, size, methods.relation)
    return total.value, total.parts


def _sensors(
    total: Total,
    network: Network,
    known: Mapping[Modality, Representation],
    there: Mapping[Modality, Tensor],
    batch: Batch,
    moment: Moment,
    helpers: Helpers,
) -> None:
    """Terms of the sensors' latents, whatever is shown."""
    methods = moment.methods
    if network.config.bottleneck:
        samples = {m: [g.sample(helpers.generator) for g in r.gaussians] for m, r in known.items()}
        fit, kl = method_losses.token_level(network, known, samples, there, methods.beta)
        total.add("token_bottleneck", fit, batch.available)
        total.parts["bottleneck_kl_per_channel"] = float(kl)
        if methods.unimodal:
            value = method_losses.label_level(network, samples, there, batch)
            total.add("unimodal", value, batch.available, methods.unimodal)
    if methods.gamma:
        forward, reverse = method_losses.translation(network, known, there)
        total.add("translation", forward, batch.available, methods.gamma)
        total.add("cycle", reverse, batch.available, methods.gamma)
    if methods.reconstruction:
        value = method_losses.reconstruction(network, known, there)
        total.add("reconstruction", value, batch.available, methods.reconstruction)


def _mine(
    hard: HardCombinations,
    weakest: bool,
    fused: Fused,
    outputs: Outputs,
    batch: Batch,
    pattern: Tensor,
    moment: Moment,
) -> None:
    """See how hard the patterns are: by the task loss, or by the variance in epochs in which that learns."""
    if weakest:
        merged = losses.merge_unknown(outputs.segmentation, batch.known_classes)
        each = torch.stack(
            [losses.cross_entropy(merged[i : i + 1], batch.label[i : i + 1]) for i in range(len(pattern))]
        )
        seen = batch.labelled  # the others' loss is 0 whatever they show
        hard.observe(each.detach()[seen], pattern[seen])
    elif fused.embedding is not None and (moment.noise or moment.methods.alpha):
        hard.observe(fused.embedding.log_variance.exp().mean(dim=(1, 2, 3)), pattern)


def _hard_combinations(
    total: Total,
    network: Network,
    fused: Fused,
    batch: Batch,
    shown: tuple[Pattern, ...],
    moment: Moment,
    hard: HardCombinations,
) -> None:
    """Ask the second decoder for what is hard."""
    pattern = pattern_tensor(shown, batch.label.device)
    weight = moment.methods.hard or moment.methods.weakest
    chosen = hard.is_hard(pattern) & batch.labelled
    decoder = network.auxiliary.decoder
    if decoder is None or not weight or not hard.settled or not bool(chosen.any()):
        return
    coarse = decoder([level[chosen] for level in fused.levels])
    logits = upsample(coarse, (batch.label.shape[1], batch.label.shape[2]))
    logits = losses.merge_unknown(logits, batch.known_classes[chosen])
    label = batch.label[chosen]
    share = float(chosen.float().mean())
    value = share * (losses.cross_entropy(logits, label) + losses.dice(logits, label))
    total.add("hard", value, tuple(p for p, c in zip(shown, chosen.tolist(), strict=True) if c), weight)


def _relation(
    total: Total,
    teacher: Network,
    fused: Mapping[str, Fused],
    batch: Batch,
    drawn: tuple[Pattern, ...],
    size: tuple[int, int],
    weight: float,
) -> None:
    """Relations of the samples as the student's poorest pass and the teacher's complete one see them."""
    with torch.no_grad():
        latents = teacher.encode({m: batch.inputs[m] for m in teacher.config.modalities})
        seen = teacher.fusion.fuse(latents, pattern_tensor(batch.available, batch.label.device))
        prediction = teacher.fusion.decode(seen, size).segmentation
    student = fused.get("random") or fused["full"]
    value = relation_loss(_pooled(student), _pooled(seen), prediction)
    total.add("relation", value, drawn, weight)


def _pooled(fused: Fused) -> Tensor:
    """A sample's feature: the fused p4 and p5, averaged over pixels; (B, 2 C)."""
    return torch.cat([level.mean(dim=(2, 3)) for level in fused.levels[-2:]], dim=1)
