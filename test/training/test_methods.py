"""All methods in one run: stages, what each adds to the loss, kills, and that what is off is not there."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
import small_data
import torch
from safetensors.torch import load_file

from robust_perception import train as command
from robust_perception.datasets import FolderDataset
from robust_perception.model.embedding import HardCombinations
from robust_perception.training import loop, method_losses, optimiser
from robust_perception.training.building import build_network
from robust_perception.training.checkpoint import load_weights, save_weights
from robust_perception.training.config import OptimiserConfig, TrainingConfig
from robust_perception.training.errors import CheckpointError, ConfigError, NonFiniteLossError
from robust_perception.training.loader import Loader
from robust_perception.training.loop import Run, train
from robust_perception.training.method_config import MethodConfig, PatternConfig, StageConfig
from robust_perception.training.objective import Helpers, objective
from robust_perception.training.stages import boundaries, learning_scale, moment
from robust_perception.vocabulary import ALL_PATTERNS, UNLABELLED, Modality, Pattern

STAGES = [
    {"name": "space", "share": 0.25, "random": 0, "gamma": [0, 0], "alpha": [0, 0], "noise": [0, 0],
     "swap": 0, "contrast": 0, "hard": 0},
    {"name": "translators", "share": 0.25, "random": 0, "gamma": [0, 1], "alpha": [0, 0], "swap": 0,
     "contrast": 0, "hard": 0, "focus": ["fusion.completions"], "rest": 0.1},
    {"name": "robust", "share": 0.5, "noise": [1, 0.3]},
]  # fmt: skip
METHODS = {
    "unimodal": 1.0, "gamma": 1.0, "swap": 0.5, "contrast": 0.1, "reconstruction": 1.0, "alpha": 1e-3,
    "hard": 0.5, "window": 1,
}  # fmt: skip
NETWORK = {"bottleneck": 16, "translation": "mean", "shared": True, "probabilistic": True, "auxiliary": True}


def joint(**changes: object) -> TrainingConfig:
    sections: dict[str, object] = {"network": NETWORK, "methods": METHODS, "optimiser": {"epochs": 4}}
    return small_data.config(**(sections | changes), stages=STAGES)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_data.write(tmp_path_factory.mktemp("methods") / "data")


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(joint(), (data,), tmp_path_factory.mktemp("whole") / "run", seed=3)
    train(run, stream=io.StringIO())
    return run


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_a_run_killed_in_any_stage_ends_with_the_same_weights(
    epochs: int, whole: Run, data: Path, tmp_path: Path
) -> None:
    killed = Run(whole.config, (data,), tmp_path / "killed", seed=3)
    train(killed, stream=io.StringIO(), stop_after=epochs)
    train(killed, resume=True, stream=io.StringIO())
    expected, got = (load_file(run.out / loop.LAST) for run in (whole, killed))
    assert expected.keys() == got.keys()
    assert any(name.startswith("mined.") for name in expected)
    for name, value in expected.items():
        assert torch.equal(value, got[name]), name


def parts_of(
    config: TrainingConfig, data: Path, epoch: int, hard: HardCombinations | None = None
) -> dict[str, float]:
    dataset = FolderDataset(data, "train")
    torch.manual_seed(0)
    network = build_network(config, dataset).train()
    draw = Loader(dataset, network.config.modalities, config, 0).draw(0, [0, 1, 2, 3])
    now = moment(config.stages, config.optimiser.epochs, epoch, config.methods, config.patterns)
    loss, parts = objective(network, draw.batch, draw.patterns, config.losses, now, Helpers(hard=hard))
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(np.isfinite(value) for value in parts.values())
    return parts


def test_each_stage_has_its_losses(data: Path) -> None:
    hard = HardCombinations(tuple(p.bits for p in ALL_PATTERNS), 14)
    for bits in range(1, 16):
        hard.observe(torch.tensor([float(bits)]), torch.tensor([bits]))
    hard.close_window()
    for bits in range(1, 16):
        hard.observe(torch.tensor([float(bits)]), torch.tensor([bits]))
    hard.close_window()
    space, translators, robust = (parts_of(joint(), data, epoch, hard).keys() for epoch in (0, 1, 3))
    assert {"token_bottleneck", "unimodal", "reconstruction", "full/cross_entropy"} <= space
    assert not any(name.startswith("random/") for name in space | translators)
    assert not {"translation", "contrast", "full/kl", "hard"} & space
    assert {"bottleneck_kl_per_channel", "full/kl_per_channel", "random/kl_per_channel"} <= robust
    assert {"translation", "contrast", "random/kl", "full/kl", "random/dice", "hard"} <= robust


def test_what_is_off_leaves_the_training_as_it_was(data: Path, tmp_path: Path) -> None:
    """Swap, translators, KL and hard combinations at 0 are the plain run, weight for weight."""
    zero = dict.fromkeys(("unimodal", "gamma", "swap", "contrast", "reconstruction", "alpha", "hard"), 0.0)
    plain = small_data.config()
    off = small_data.config(methods=zero, stages=[{**STAGES[2], "share": 1.0}])
    weights = []
    for name, config in (("plain", plain), ("off", off)):
        run = Run(config, (data,), tmp_path / name, seed=1)
        train(run, stream=io.StringIO())
        weights.append(load_file(run.out / loop.LAST))
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_unlabelled_batches_still_teach(data: Path) -> None:
    config = joint()
    dataset = FolderDataset(data, "train")
    network = build_network(config, dataset).train()
    loader = Loader(dataset, network.config.modalities, config, 0, labelled=())
    draw = loader.draw(0, [0, 1, 2, 3])
    now = moment(config.stages, config.optimiser.epochs, 3, config.methods, config.patterns)
    loss, parts = objective(network, draw.batch, draw.patterns, config.losses, now, Helpers())
    loss.backward()  # type: ignore[no-untyped-call]
    assert parts["full/cross_entropy"] == parts["unimodal"] == 0.0
    assert parts["contrast"] > 0 and parts["token_bottleneck"] > 0 and parts["translation"] > 0


def test_unlabelled_pixels_hold_no_objects_only_where_boxes_are_known_there(data: Path) -> None:
    config = joint()
    dataset = FolderDataset(data, "train")
    network = build_network(config, dataset).train()
    draw = Loader(dataset, network.config.modalities, config, 0).draw(0, [0, 1])
    nothing = {"boxes": [torch.zeros(0, 4)] * 2, "class_ids": [torch.zeros(0, dtype=torch.int64)] * 2}
    unlabelled = torch.full_like(draw.batch.label, UNLABELLED)
    now = moment(config.stages, config.optimiser.epochs, 0, config.methods, config.patterns)
    found = []
    for derived in (True, False):
        batch = dataclasses.replace(
            draw.batch, label=unlabelled, boxes_from_label=torch.tensor([derived] * 2), **nothing
        )
        _, parts = objective(network, batch, draw.patterns, config.losses, now, Helpers())
        found.append(parts["full/detection_class"])
    assert found[0] == 0.0 < found[1]


def test_a_sensor_that_nobody_in_a_batch_has_learns_nothing(data: Path) -> None:
    config = joint()
    dataset = FolderDataset(data, "train")
    network = build_network(config, dataset).train()
    before = {name: value.clone() for name, value in network.encoders["thermal"].state_dict().items()}
    draw = Loader(dataset, network.config.modalities, config, 0).draw(0, [0, 1, 2, 3])
    without = [Pattern.parse(text) for text in ("rgb", "rgb+depth", "depth+audio", "rgb+depth+audio")]
    batch = dataclasses.replace(draw.batch, available=tuple(without))
    now = moment(config.stages, config.optimiser.epochs, 3, config.methods, config.patterns)
    loss, _ = objective(network, batch, tuple(without), config.losses, now, Helpers())
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is None for p in network.encoders["thermal"].parameters())
    assert all(p.grad is not None for p in network.encoders["depth"].parameters())
    after = network.encoders["thermal"].state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_sensors_that_nobody_in_a_batch_has_do_not_thin_out_the_losses(data: Path) -> None:
    config = joint()
    dataset = FolderDataset(data, "train")
    network = build_network(config, dataset).train()
    batch = Loader(dataset, network.config.modalities, config, 0).draw(0, [0, 1, 2, 3]).batch
    known = {m: network.represent(m, batch.inputs[m]) for m in network.config.modalities}
    samples = {m: [gaussian.mean for gaussian in r.gaussians] for m, r in known.items()}

    def losses(there: dict[Modality, torch.Tensor]) -> list[float]:
        own = {m: known[m] for m in there}
        of = {m: samples[m] for m in there}
        found = (
            *method_losses.token_level(network, own, of, there, 16.0),
            method_losses.label_level(network, of, there, batch),
            method_losses.reconstruction(network, own, there),
        )
        return [value.item() for value in found]

    nobody = dict.fromkeys(known, torch.zeros(4, dtype=torch.bool))
    alone = {Modality.RGB: torch.ones(4, dtype=torch.bool)}
    assert losses(nobody | alone) == losses(alone)
    assert losses(nobody) == [0.0, 0.0, 0.0, 0.0]


def test_a_few_labelled_pixels_weigh_as_a_mean_does(data: Path) -> None:
    config = joint()
    dataset = FolderDataset(data, "train")
    network = build_network(config, dataset)
    batch = Loader(dataset, network.config.modalities, config, 0).draw(0, [0, 1]).batch
    label = torch.full_like(batch.label, UNLABELLED)
    label[:, :2, :3] = 1
    known = network.represent(Modality.RGB, batch.inputs[Modality.RGB])
    samples = {Modality.RGB: [gaussian.mean for gaussian in known.gaussians]}
    torch.nn.init.zeros_(network.auxiliary.unimodal["rgb"].weight)
    torch.nn.init.zeros_(network.auxiliary.unimodal["rgb"].bias)
    few = dataclasses.replace(batch, label=label)
    there = {Modality.RGB: torch.tensor([True, True])}
    loss = method_losses.label_level(network, samples, there, few)
    assert loss.item() == pytest.approx(np.log(3.0), rel=1e-5)


def test_a_method_that_is_not_finite_is_named(data: Path) -> None:
    config = joint()
    dataset = FolderDataset(data, "train")
    network = build_network(config, dataset).train()
    with torch.no_grad():
        for parameter in network.auxiliary.rebuilders.parameters():
            parameter.fill_(torch.nan)
    draw = Loader(dataset, network.config.modalities, config, 0).draw(0, [0, 1])
    now = moment(config.stages, 4, 0, config.methods, config.patterns)
    with pytest.raises(NonFiniteLossError, match="loss reconstruction: expected a finite number"):
        objective(network, draw.batch, draw.patterns, config.losses, now, Helpers())


def test_a_teacher_is_wanted_exactly_when_its_loss_is_on(data: Path, whole: Run, tmp_path: Path) -> None:
    taught = small_data.config(
        network={"auxiliary": True}, methods={"relation": 4.0, "weakest": 0.2, "window": 1}
    )
    with pytest.raises(ConfigError, match="expected a teacher exactly when > 0, got None"):
        train(Run(taught, (data,), tmp_path / "none"), stream=io.StringIO())
    with pytest.raises(ConfigError, match="teacher"):
        train(Run(small_data.config(), (data,), tmp_path / "idle", teacher=whole.out / loop.BEST))
    run = Run(taught, (data,), tmp_path / "taught", teacher=whole.out / loop.BEST)
    best = train(run, stream=io.StringIO(), stop_after=1)
    assert load_weights(best)[1]["teacher"].startswith("best.safetensors of data, epoch ")
    other = dataclasses.replace(run, teacher=best)
    with pytest.raises(
        CheckpointError, match=r"expected a run of this teacher \(best\.safetensors of data.*got "
    ):
        train(other, resume=True, stream=io.StringIO())
    train(run, resume=True, stream=io.StringIO())


@pytest.mark.parametrize(
    ("sensors", "classes", "words"),
    [
        (
            ["rgb", "audio"],
            None,
            r"of this run's sensors \(\['rgb', 'depth'\]\), got one that needs \['audio'\]",
        ),
        (["rgb"], ("background", "cold", "warm"), r"of the data's classes \['background', 'warm', 'cold'\]"),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused_before_the_training(
    sensors: list[str], classes: tuple[str, ...] | None, words: str, data: Path, tmp_path: Path
) -> None:
    network = build_network(small_data.config(data={"modalities": sensors}), FolderDataset(data, "train"))
    if classes is not None:
        network.config = dataclasses.replace(network.config, class_names=classes)
    save_weights(tmp_path / "other.safetensors", network, {})
    taught = small_data.config(data={"modalities": ["rgb", "depth"]}, methods={"relation": 1.0})
    run = Run(taught, (data,), tmp_path / "run", teacher=tmp_path / "other.safetensors")
    with pytest.raises(ConfigError, match=rf"other\.safetensors: expected a teacher {words}"):
        train(run, stream=io.StringIO())
    assert not run.out.exists()


def test_the_command_takes_a_teacher(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taught.yaml").write_text("methods: {relation: 4.0}\nnetwork: {imagenet: false, width: 16}")
    words = ["--config", str(tmp_path / "taught.yaml"), "--data", str(data), "--out", str(tmp_path / "run")]
    seen: list[Run] = []
    monkeypatch.setattr(command, "train", lambda run, *_, **__: seen.append(run) or tmp_path)
    assert command.main([*words, "--teacher", "runs/base/best.safetensors", "--no-export"]) == 0
    assert seen[0].teacher == Path("runs/base/best.safetensors")
    monkeypatch.undo()
    assert command.main(words) == 1
    assert "got None; name its weights with --teacher" in capsys.readouterr().err


def test_stages_share_out_the_epochs() -> None:
    stages = joint().stages
    assert boundaries(stages, 4) == [1, 2, 4]
    assert boundaries(stages, 36) == [9, 18, 36]
    methods, patterns = MethodConfig(gamma=10.0), PatternConfig()
    gammas = [moment(stages, 8, epoch, methods, patterns).methods.gamma for epoch in range(8)]
    assert gammas == [0, 0, 0, 10, 10, 10, 10, 10]
    noises = [moment(stages, 8, epoch, methods, patterns).noise for epoch in range(4, 8)]
    assert noises == pytest.approx([1.0, 0.7667, 0.5333, 0.3], abs=1e-3)
    assert moment(stages, 8, 0, methods, patterns).patterns == PatternConfig(0.0, 1.0, 0.0)


def test_a_stage_of_one_epoch_has_the_end_of_its_ramps() -> None:
    now = moment(
        (StageConfig(gamma=(0.0, 1.0), noise=(1.0, 0.3)),), 1, 0, MethodConfig(gamma=2.0), PatternConfig()
    )
    assert (now.methods.gamma, now.noise) == (2.0, pytest.approx(0.3))


def test_a_focus_that_is_no_part_of_the_network_is_refused(data: Path) -> None:
    network = build_network(small_data.config(), FolderDataset(data, "train"))
    stages = (StageConfig("x", focus=("fusion", "fusion.completion")),)
    with pytest.raises(
        ConfigError, match=r"stages\.x\.focus: .*'encoders', 'fusion'.*got 'fusion\.completion'"
    ):
        optimiser.build(network, OptimiserConfig(), stages)


def test_a_stage_can_slow_down_what_it_is_not_about() -> None:
    stage = joint().stages[1]
    assert learning_scale(stage, "fusion.completions.p4.null.rgb") == 1.0
    assert learning_scale(stage, "encoders.rgb.necks.p4.0.weight") == 0.1
    assert learning_scale(StageConfig(), "encoders.rgb.necks.p4.0.weight") == 1.0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"methods": {"gamma": 1.0}}, r"methods\.gamma: expected 0 without network\.translation"),
        ({"methods": {"contrast": 0.1}}, r"network\.shared"),
        ({"methods": {"alpha": 0.1}}, r"network\.probabilistic"),
        ({"methods": {"unimodal": 1.0}}, r"network\.bottleneck"),
        ({"methods": {"hard": 1.0}, "network": {"probabilistic": True}}, r"network\.auxiliary"),
        ({"methods": {"betta": 1.0}}, "did you mean 'beta'"),
        ({"network": {"fusion": "max"}}, r"network\.fusion: expected one of"),
        ({"adapters": {"kind": "prefix"}}, r"adapters\.kind: expected one of"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        small_data.config(**changes)


def test_shares_add_up_to_one() -> None:
    with pytest.raises(ConfigError, match=r"shares that add up to 1, got 0\.5"):
        small_data.config(stages=[{"name": "half", "share": 0.5}])
