"""Stage S3: adapters a pattern on a frozen network."""

from __future__ import annotations

import dataclasses
import io
import shutil
from pathlib import Path

import pytest
import small_data
import torch
from safetensors.torch import load_file, save_file

from robust_perception.datasets import FolderDataset
from robust_perception.model.adapter_bank import adapters_of
from robust_perception.training import checkpoint
from robust_perception.training.adaptation import ADAPTED, adapt, pattern_loss
from robust_perception.training.building import build_network
from robust_perception.training.checkpoint import Progress
from robust_perception.training.config import LossConfig, TrainingConfig
from robust_perception.training.errors import ConfigError
from robust_perception.training.loader import Loader
from robust_perception.training.loop import BEST, Run, train
from robust_perception.training.run import CONFIG
from robust_perception.training.validation import validate
from robust_perception.vocabulary import MODALITIES, UNLABELLED, Modality, Pattern, patterns_of


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_data.write(tmp_path_factory.mktemp("adaptation") / "data")


def config(**adapters: object) -> TrainingConfig:
    # The network of the test is tiny: a share of 0.7 % would be nothing.
    return small_data.config(adapters={"kind": "ssf", "budget": 0.2, "epochs": 1, **adapters})


@pytest.fixture(scope="module")
def base(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("base")
    return train(Run(config(), (data,), out), stream=io.StringIO())


PAIR = [Pattern.parse("rgb+depth"), Pattern.parse("thermal")]


@pytest.mark.parametrize("kind", ["lora", "ssf", "bitfit"])
def test_the_frozen_network_and_the_full_pattern_keep_every_bit(
    kind: str, data: Path, base: Path, tmp_path: Path
) -> None:
    adapted, _ = checkpoint.load_weights(adapt(base, (data,), tmp_path, config(kind=kind), only=PAIR))
    plain, _ = checkpoint.load_weights(base)
    assert adapters_of(adapted)
    state = adapted.state_dict()
    for name, value in plain.state_dict().items():
        assert torch.equal(state[name], value), name
    val = FolderDataset(data, "val")
    full = [Pattern.of(MODALITIES)]
    assert validate(adapted, val, full, small_data.SIZE) == validate(plain, val, full, small_data.SIZE)


def test_a_pattern_is_never_worse_on_validation(data: Path, base: Path, tmp_path: Path) -> None:
    adapted, _ = checkpoint.load_weights(adapt(base, (data,), tmp_path, config(), only=PAIR))
    plain, _ = checkpoint.load_weights(base)
    val = FolderDataset(data, "val")
    patterns = patterns_of(MODALITIES)
    after, before = (validate(n, val, patterns, small_data.SIZE) for n in (adapted, plain))
    assert all(after[p] >= before[p] - 1e-9 for p in patterns)


def test_a_killed_run_goes_on_to_the_same_rows(data: Path, base: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    adapt(base, (data,), whole, config(), seed=3, only=PAIR)
    adapt(base, (data,), parts, config(), seed=3, only=PAIR[:1])
    adapt(base, (data,), parts, config(), seed=3, only=PAIR)
    for pattern in PAIR:
        files = [load_file(folder / f"{pattern}.safetensors") for folder in (whole, parts)]
        assert files[0].keys() == files[1].keys()
        assert all(torch.equal(files[0][k], files[1][k]) for k in files[0])
    networks = [load_file(folder / ADAPTED) for folder in (whole, parts)]
    assert all(torch.equal(networks[0][k], networks[1][k]) for k in networks[0])


def test_rows_of_another_run_are_trained_again(data: Path, base: Path, tmp_path: Path) -> None:
    file, said = tmp_path / f"{PAIR[0]}.safetensors", io.StringIO()
    rows = []
    for seed in (3, 4):
        adapt(base, (data,), tmp_path, config(), seed, said, only=PAIR[:1])
        rows.append(load_file(file))
    assert any(not torch.equal(rows[0][k], rows[1][k]) for k in rows[0])
    assert said.getvalue().count("rgb+depth.safetensors: expected rows of this base") == 1
    save_file(rows[0], file)  # as older ones were written
    before = file.read_bytes()
    adapt(base, (data,), tmp_path, config(), 4, said, only=PAIR[:1])
    assert said.getvalue().count("is trained again") == 2 and file.read_bytes() != before
    assert all(torch.equal(value, rows[1][k]) for k, value in load_file(file).items())


def test_the_rows_learn(data: Path, base: Path, tmp_path: Path) -> None:
    adapt(base, (data,), tmp_path, config(), only=PAIR[:1])
    rows = load_file(tmp_path / f"{PAIR[0]}.safetensors")
    assert any(bool(((row != 0) & (row != 1)).any()) for row in rows.values())


def test_distillation_from_the_full_pattern_changes_what_is_learnt(
    data: Path, base: Path, tmp_path: Path
) -> None:
    for name, weight in (("without", 0.0), ("with", 1.0)):
        adapt(base, (data,), tmp_path / name, config(distillation=weight), only=PAIR[:1])
    one, other = (load_file(tmp_path / name / f"{PAIR[0]}.safetensors") for name in ("without", "with"))
    assert any(not torch.equal(one[k], other[k]) for k in one)


def test_the_frozen_network_answers_to_what_a_sample_has(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "data")
    for path in (tmp_path / "data" / "train" / "thermal").iterdir():
        if path.stem != "000":
            path.unlink()
    dataset = FolderDataset(tmp_path / "data", "train")
    torch.manual_seed(0)
    network = build_network(config(), dataset).eval()
    batch = Loader(dataset, MODALITIES, config(), 0).draw(0, [1, 2, 3]).batch
    thermal = batch.inputs[Modality.THERMAL]
    values = []
    for kelvin in (0.0, 295.0):
        inputs = {**batch.inputs, Modality.THERMAL: torch.full_like(thermal, kelvin)}
        other = dataclasses.replace(batch, inputs=inputs)
        values.append(pattern_loss(network, other, Pattern.parse("rgb"), config().losses, 1.0).item())
    assert values[0] == values[1]


def test_rows_learn_no_absence_of_objects_where_nobody_looked_for_them(tmp_path: Path) -> None:
    dataset = FolderDataset(small_data.write(tmp_path / "data"), "train")
    torch.manual_seed(0)
    network = build_network(config(), dataset).eval()
    batch = Loader(dataset, MODALITIES, config(), 0).draw(0, [1, 2]).batch
    nothing = {"boxes": [torch.zeros(0, 4)] * 2, "class_ids": [torch.zeros(0, dtype=torch.int64)] * 2}
    unlabelled = torch.full_like(batch.label, UNLABELLED)
    weights = LossConfig(cross_entropy=0.0, dice=0.0, scene=0.0)
    values = []
    for derived in (True, False):
        known = torch.tensor([derived] * 2)
        other = dataclasses.replace(batch, label=unlabelled, boxes_from_label=known, **nothing)
        values.append(pattern_loss(network, other, Pattern.parse("rgb"), weights, 0.0).item())
    assert values[0] == 0.0 < values[1]


def test_a_base_that_is_no_network_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(checkpoint.CheckpointError, match=BEST):
        adapt(tmp_path / BEST, (data,), tmp_path, config())


@pytest.mark.parametrize(
    ("adapters", "words"),
    [
        ({"places": ["encoder"]}, r"adapters: place 'encoder': expected a module .*'encoders'"),
        ({"places": ["encoders.audio"]}, r"adapters: no layer in places \['encoders\.audio'\] serves rgb"),
        ({"budget": 1e-6}, "adapters: ssf for .*the budget is"),
    ],
)
def test_adapters_that_cannot_be_are_refused_before_the_training(
    adapters: dict[str, object], words: str, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=words):
        train(Run(config(**adapters), (data,), tmp_path / "run"), stream=io.StringIO())
    assert not (tmp_path / "run").exists()


def test_a_base_goes_on_with_other_adapters(data: Path, base: Path) -> None:
    other = config(places=["fusion"])
    before = base.read_bytes()
    assert train(Run(other, (data,), base.parent), resume=True, stream=io.StringIO()) == base
    assert base.read_bytes() == before
    assert (base.parent / CONFIG).read_text() == other.to_text()
    old = Progress(config().sha256, 0)  # an older state has the whole configuration's identity
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "read_progress", lambda _: dataclasses.replace(old, epoch=2, step=4))
        train(Run(config(), (data,), base.parent), resume=True, stream=io.StringIO())
