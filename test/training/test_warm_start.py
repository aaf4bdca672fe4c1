"""Beginning with the weights of another run: what is taken over, what is not, and what is said of it."""

from __future__ import annotations

import dataclasses
import io
import shutil
from pathlib import Path

import pytest
import small_data
import torch

from robust_perception.datasets import FolderDataset
from robust_perception.model.network import Network
from robust_perception.training import loop
from robust_perception.training.building import build_network
from robust_perception.training.checkpoint import load_weights, save_weights
from robust_perception.training.errors import CheckpointError
from robust_perception.training.loop import Run, train
from robust_perception.training.warm_start import OF_CLASSES, OF_DATA, OF_SCENES, OF_SENSORS, Start, take_over
from robust_perception.vocabulary import Pattern


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_data.write(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def start(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Start:
    path = tmp_path_factory.mktemp("start") / "best.safetensors"
    save_weights(path, network_of(data, seed=1), {"data": "data", "epoch": 4, "seed": 1})
    return Start.open(path)


def network_of(data: Path, seed: int, **network: object) -> Network:
    torch.manual_seed(seed)
    config = small_data.config(network={**small_data.EVERYTHING["network"], **network})
    return build_network(config, FolderDataset(data, "train"))


def test_the_same_network_takes_everything(data: Path, start: Start) -> None:
    network = network_of(data, seed=2)
    taken = take_over(network, start)
    assert not taken.anew and str(taken).startswith("all ")
    theirs = start.network.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in network.state_dict().items())


def test_what_the_start_does_not_have_begins_anew(data: Path, tmp_path: Path) -> None:
    plain = network_of(data, 1, bottleneck=0, translation="none", shared=False, auxiliary=False)
    save_weights(tmp_path / "plain.safetensors", plain, {})
    network = network_of(data, seed=2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    taken = take_over(network, Start.open(tmp_path / "plain.safetensors"))
    assert any(name.startswith("representers.") for name in taken.anew)
    assert not any(name.startswith("encoders.") for name in taken.anew)
    assert "representers.rgb" in str(taken)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name] if name in taken.anew else plain.state_dict()[name]), name


def test_layers_that_name_classes_begin_anew_when_classes_are_others(start: Start, tmp_path: Path) -> None:
    other = small_data.write_other(tmp_path / "other")
    network = network_of(other, seed=2)
    assert len(network.config.class_names) == len(start.network.config.class_names)  # their shapes would fit
    taken = take_over(network, start)
    named = {name for name in taken.anew if name.startswith(OF_CLASSES + OF_SCENES)}
    assert {name for name in network.state_dict() if name.startswith(OF_CLASSES + OF_SCENES)} == named
    assert any(name.startswith("fusion.segmentation.classify") for name in named)
    assert any(name.startswith("fusion.scene") for name in named)
    assert "encoders.rgb" not in str(taken)


def test_priors_of_gates_begin_anew_when_the_image_sensors_are_others(data: Path, tmp_path: Path) -> None:
    def two(sensor: str) -> Network:
        config = small_data.config(data={"modalities": ["rgb", sensor]})
        return build_network(config, FolderDataset(data, "train"))

    save_weights(tmp_path / "depth.safetensors", two("depth"), {})
    start, same, other = Start.open(tmp_path / "depth.safetensors"), two("depth"), two("thermal")
    named = {name for name in other.state_dict() if name.startswith(OF_SENSORS)}
    assert named and named == {name for name in other.state_dict() if "gate_prior" in name}
    assert named <= set(take_over(other, start).anew)
    assert not take_over(same, start).anew


def test_standardisation_is_that_of_the_new_data(data: Path, tmp_path: Path) -> None:
    other = network_of(data, seed=1)
    for name, buffer in other.state_dict().items():
        if name in OF_DATA:
            buffer.fill_(77.0)
    save_weights(tmp_path / "far.safetensors", other, {})
    network = network_of(data, seed=2)
    take_over(network, Start.open(tmp_path / "far.safetensors"))
    assert all(float(network.state_dict()[name]) != 77.0 for name in OF_DATA)


def test_another_width_leaves_the_backbones(data: Path, start: Start) -> None:
    taken = take_over(network_of(data, seed=2, width=24), start)
    assert not any(".backbone." in name for name in taken.anew)
    assert "encoders.rgb.necks.p3.0.weight" in taken.anew


def test_a_start_that_knows_none_of_the_sensors_is_refused(data: Path, tmp_path: Path) -> None:
    def one(sensor: str) -> Network:
        config = small_data.config(data={"modalities": [sensor]})
        return build_network(config, FolderDataset(data, "train"))

    save_weights(tmp_path / "rgb.safetensors", one("rgb"), {})
    with pytest.raises(CheckpointError, match=r"rgb\.safetensors: .*\['depth'\].*\['rgb'\]"):
        take_over(one("depth"), Start.open(tmp_path / "rgb.safetensors"))


def test_a_run_begins_with_them_and_remembers_it(data: Path, start: Start, tmp_path: Path) -> None:
    config = small_data.config(**small_data.EVERYTHING, optimiser={"epochs": 1, "learning_rate": 1e-9})
    said = io.StringIO()
    best = train(Run(config, (data,), tmp_path / "run", 2, start=start.path), stream=said)
    network, training = load_weights(best)
    assert training["start"].startswith("best.safetensors of data, epoch 4, seed 1")
    assert "start: best.safetensors of data, epoch 4, seed 1" in said.getvalue()
    weight = "fusion.segmentation.conv.0.weight"
    assert torch.allclose(network.state_dict()[weight], start.network.state_dict()[weight], atol=1e-6)


def test_a_run_that_goes_on_keeps_what_it_has_learnt(data: Path, start: Start, tmp_path: Path) -> None:
    config = small_data.config(**small_data.EVERYTHING)
    once = Run(config, (data,), tmp_path / "once", 2, start=start.path)
    twice = Run(config, (data,), tmp_path / "twice", 2, start=start.path)
    train(once, stream=io.StringIO())
    train(twice, stream=io.StringIO(), stop_after=1)
    train(twice, resume=True, stream=io.StringIO())
    one, other = (load_weights(run.out / loop.BEST)[0].state_dict() for run in (once, twice))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_run_that_goes_on_needs_its_start_no_more_and_remembers_it(
    data: Path, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter(range(9))
    monkeypatch.setattr(loop, "validate", lambda *_: {Pattern.parse("rgb"): float(next(scores))})
    config = small_data.config(**small_data.EVERYTHING, optimiser={"epochs": 3})
    run = Run(config, (data,), tmp_path / "run", 2, start=tmp_path / "copy" / "best.safetensors")
    (tmp_path / "copy").mkdir()
    shutil.copy(start.path, tmp_path / "copy")
    train(run, stream=io.StringIO(), stop_after=1)
    shutil.rmtree(tmp_path / "copy")
    train(run, resume=True, stream=io.StringIO(), stop_after=2)
    best = train(dataclasses.replace(run, start=None), resume=True, stream=io.StringIO())
    remembered = load_weights(best)[1]
    assert (remembered["epoch"], remembered["start"]) == (3, str(start))
    save_weights(tmp_path / "best.safetensors", start.network, {"data": "data", "epoch": 9, "seed": 1})
    other = dataclasses.replace(run, start=tmp_path / "best.safetensors")
    with pytest.raises(CheckpointError, match=r"this start \(.*epoch 9.*\), got .*epoch 4"):
        train(other, resume=True, stream=io.StringIO())


def test_a_run_without_a_start_gets_none_afterwards(data: Path, start: Start, tmp_path: Path) -> None:
    run = Run(small_data.config(**small_data.EVERYTHING), (data,), tmp_path / "run", 2)
    train(run, stream=io.StringIO(), stop_after=1)
    with pytest.raises(CheckpointError, match=r"this start \(best\.safetensors of data.*\), got None"):
        train(dataclasses.replace(run, start=start.path), resume=True, stream=io.StringIO())


def test_a_start_that_is_no_file_of_weights_is_named(data: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere\.safetensors: expected a checkpoint, got no such"):
        train(
            Run(small_data.config(), (data,), tmp_path / "run", start=tmp_path / "nowhere.safetensors"),
            stream=io.StringIO(),
        )
