"""The loss of a batch by hand: its weights, what is mined, and which passes are held against each other."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import small_data
import torch

from robust_perception.datasets import FolderDataset
from robust_perception.model.embedding import HardCombinations
from robust_perception.model.heads import Detections
from robust_perception.model.network import Outputs
from robust_perception.model.relation import relation_loss
from robust_perception.training.building import build_network
from robust_perception.training.loader import Loader
from robust_perception.training.method_config import MethodConfig, PatternConfig
from robust_perception.training.objective import Helpers, objective, targets_of, task_losses
from robust_perception.training.stages import Moment
from robust_perception.vocabulary import ALL_PATTERNS, UNLABELLED, Modality, Pattern


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_data.write(tmp_path_factory.mktemp("objective") / "data")


def test_weights_of_the_configuration_reach_the_losses(data: Path) -> None:
    config = small_data.config(losses={"cross_entropy": 2.0, "background_weight": 0.25, "dice": 3.0})
    batch = Loader(FolderDataset(data, "train"), tuple(Modality), config, 0).draw(0, [0, 1]).batch
    label, logits = torch.zeros_like(batch.label), torch.zeros(2, 3, *batch.label.shape[1:])
    label[:, :8] = 1  # a quarter of the pixels
    logits[:, 0] = np.log(2.0)  # 1/2 for the background, 1/4 for each of two classes
    batch = dataclasses.replace(batch, label=label, boxes_known=torch.tensor([False, False]))
    nothing = torch.zeros(2, 0)
    outputs = Outputs(logits, logits, Detections(nothing, nothing, nothing, nothing), None)
    found = task_losses(outputs, batch, targets_of(batch), config.losses)
    background, thing = 0.25 * 0.75, 0.25
    entropy = (background * np.log(2.0) + thing * np.log(4.0)) / (background + thing)
    pixels = label.numel()
    dice = 1 - (2 * pixels / 16 + 1) / (pixels / 4 + pixels / 4 + 1)
    assert {name: value.item() for name, value in found.items()} == {
        "cross_entropy": pytest.approx(2.0 * entropy),
        "dice": pytest.approx(3.0 * dice),
    }


def test_the_loss_is_the_sum_of_its_parts_by_their_weights(data: Path) -> None:
    config = small_data.config(**small_data.EVERYTHING)
    dataset = FolderDataset(data, "train")
    torch.manual_seed(0)
    network = build_network(config, dataset).train()
    teacher = build_network(small_data.config(), dataset).eval()
    draw = Loader(dataset, network.config.modalities, config, 0).draw(0, [0, 1, 2, 3])
    bits = tuple(sorted({pattern.bits for pattern in draw.patterns}))
    hard = HardCombinations(bits, len(bits))
    for _ in range(2):
        hard.observe(torch.tensor(bits).float(), torch.tensor(bits))
        hard.close_window()
    weights = {"unimodal": 0.3, "contrast": 0.7, "reconstruction": 1.1, "hard": 1.9, "relation": 2.3}
    methods = MethodConfig(**weights, gamma=2.9, alpha=0.031)  # type: ignore[arg-type]
    now = Moment(0, methods, PatternConfig(dropout_weight=0.6, full_weight=1.7, distillation=3.7), 0.5)
    helpers = Helpers(hard=hard, teacher=teacher)
    loss, parts = objective(network, draw.batch, draw.patterns, config.losses, now, helpers)
    weights |= {"token_bottleneck": 1.0, "translation": 2.9, "cycle": 2.9, "distillation": 3.7}
    weights |= {"full/kl": 0.031, "random/kl": 0.031}
    for name in ("cross_entropy", "dice", "detection_class", "detection_box", "detection_centre", "scene"):
        weights |= {f"full/{name}": 1.7, f"random/{name}": 0.6}
    assert {name for name in parts if not name.endswith("per_channel")} == set(weights)
    assert loss.item() == pytest.approx(sum(weights[name] * parts[name] for name in weights), rel=1e-4)
    channels = network.config.width
    assert parts["full/kl_per_channel"] == pytest.approx(parts["full/kl"] / channels)


def test_what_is_mined_is_what_the_method_asks_for_and_learns(data: Path) -> None:
    config = small_data.config(**small_data.EVERYTHING)
    dataset = FolderDataset(data, "train")
    network = build_network(config, dataset).train()
    with torch.no_grad():
        for parameter in network.fusion.embedding.logvar.parameters():
            parameter.zero_()
        network.fusion.embedding.logvar_prior.weight.fill_(2.0)  # a variance far above any task loss
    draw = Loader(dataset, network.config.modalities, config, 0).draw(0, [0, 1, 2, 3])

    def mined(weakest: bool, noise: float, alpha: float) -> list[float]:
        hard = HardCombinations(tuple(p.bits for p in ALL_PATTERNS), 4)
        now = Moment(0, MethodConfig(alpha=alpha), PatternConfig(), noise)
        helpers = Helpers(hard=hard, weakest=weakest)
        with torch.no_grad():
            objective(network, draw.batch, draw.patterns, config.losses, now, helpers)
        return (hard.total[hard.seen > 0] / hard.seen[hard.seen > 0]).tolist()

    assert mined(False, 0.0, 0.0) == [], "nothing teaches the variance"
    for noise, alpha in ((0.0, 1e-3), (1.0, 0.0)):
        values = mined(False, noise, alpha)
        assert values == pytest.approx([np.exp(2.0)] * 4, rel=1e-5)
    assert 0.0 < max(mined(True, 0.0, 0.0)) < 5.0
    label = draw.batch.label.clone()
    label[1:], label[0] = UNLABELLED, 0
    known = torch.zeros_like(draw.batch.known_classes)
    known[:, 0] = True
    draw = dataclasses.replace(draw, batch=dataclasses.replace(draw.batch, label=label, known_classes=known))
    assert mined(True, 0.0, 0.0) == [pytest.approx(0.0, abs=1e-6)], "of one label, with which all is well"


def test_the_second_decoder_learns_from_the_share_that_is_hard_and_labelled(data: Path) -> None:
    config = small_data.config(**small_data.EVERYTHING)
    dataset = FolderDataset(data, "train")
    network = build_network(config, dataset).train()
    assert network.auxiliary.decoder is not None
    with torch.no_grad():  # every class is as likely as any other
        for parameter in network.auxiliary.decoder.parameters():
            parameter.zero_()
    batch = Loader(dataset, network.config.modalities, config, 0).draw(0, [0, 1, 2, 3]).batch
    label = torch.zeros_like(batch.label)
    label[0, :8], label[1:3] = 1, UNLABELLED
    batch = dataclasses.replace(batch, label=label)
    rgb, depth = Pattern.parse("rgb"), Pattern.parse("depth")
    hard = HardCombinations((rgb.bits, depth.bits), 1)
    now = Moment(0, MethodConfig(hard=1.0), PatternConfig(1.0, 0.0), 0.0)

    def asked(*drawn: Pattern) -> float | None:
        with torch.no_grad():
            _, parts = objective(network, batch, drawn, config.losses, now, Helpers(hard=hard))
        return parts.get("hard")

    hard.mean[[rgb.bits, depth.bits]] = torch.tensor([0.9, 0.1])
    assert asked(rgb, rgb, rgb, depth) is None, "two windows have not agreed yet"
    hard.agreement.fill_(1.0)
    pixels, thing = label[0].numel(), 8 * label.shape[2]
    dice = 1 - (2 * thing / 3 + 1) / (pixels / 3 + thing + 1)
    assert asked(rgb, rgb, rgb, depth) == pytest.approx((np.log(3.0) + dice) / 4, rel=1e-5)
    assert asked(depth, rgb, rgb, rgb) == pytest.approx(np.log(3.0) / 4, rel=1e-5), "no thing in it"
    assert asked(depth, rgb, rgb, depth) is None, "what is hard has no label"
    known = batch.known_classes.clone()
    known[3, 1:] = False
    batch = dataclasses.replace(batch, known_classes=known)
    assert asked(depth, rgb, rgb, rgb) == pytest.approx(0.0, abs=1e-6), "all it says is none of what is known"


def test_what_passes_are_held_against_each_other(data: Path) -> None:
    """Relations and label probabilities are those of the poorer pass, contrast is of the richer."""
    config = small_data.config(**small_data.EVERYTHING)
    dataset = FolderDataset(data, "train")
    torch.manual_seed(0)
    network = build_network(config, dataset).train()
    batch = Loader(dataset, network.config.modalities, config, 0).draw(0, [0, 1, 2, 3]).batch
    label = batch.label
    poorer = tuple(Pattern.parse(text) for text in ("rgb", "depth", "thermal", "rgb+depth"))

    def parts(random: float, full: float, distillation: float = 0.0, noise: float = 0.0) -> dict[str, float]:
        methods = MethodConfig(relation=1.0, contrast=1.0)
        now = Moment(0, methods, PatternConfig(random, full, distillation), noise)
        helpers = Helpers(torch.Generator().manual_seed(0), teacher=network)
        with torch.no_grad():
            return objective(network, batch, poorer, config.losses, now, helpers)[1]

    both, random, full = parts(1.0, 1.0, 1.0), parts(1.0, 0.0), parts(0.0, 1.0)
    off = {"unimodal", "translation", "cycle", "reconstruction", "hard", "full/kl", "random/kl"}
    assert not off & both.keys(), "a weight of 0 leaves its term out"
    assert not any(name.startswith("random/") for name in full)
    assert not any(name.startswith("full/") for name in random)
    assert both["relation"] == random["relation"] > 1e-4
    assert full["relation"] == pytest.approx(0.0, abs=1e-9), "the teacher sees what the pupil sees"
    assert both["contrast"] == full["contrast"] != random["contrast"]
    shaken = parts(1.0, 1.0, noise=1.0)
    for name in ("full/cross_entropy", "random/cross_entropy"):
        assert shaken[name] != pytest.approx(both[name], rel=1e-6), "both passes see a sampled latent"

    with torch.no_grad():
        latents = network.encode(batch.inputs)
        fused = [
            network.fusion.fuse(latents, torch.tensor([pattern.bits for pattern in shown]))
            for shown in (batch.available, poorer)
        ]
        said = [network.fusion.decode(f, (label.shape[1], label.shape[2])).segmentation for f in fused]
    features = [torch.cat([f.levels[2].mean(dim=(2, 3)), f.levels[3].mean(dim=(2, 3))], dim=1) for f in fused]
    relation = relation_loss(features[1], features[0], said[0])
    assert both["relation"] == pytest.approx(relation.item(), rel=1e-4), "of p4 and p5, as complete data says"
    each = torch.distributions.kl_divergence(
        *(torch.distributions.Categorical(logits=logits.movedim(1, -1)) for logits in said)
    )
    things = (label > 0) & (label != UNLABELLED)
    assert both["distillation"] == pytest.approx(float(each.mean() + each[things].mean()), rel=1e-4)
