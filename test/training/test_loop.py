"""A run from its first weights to its last, killed and gone on with."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
from pathlib import Path

import pytest
import small_data
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from robust_perception.datasets import DatasetError, FolderDataset
from robust_perception.training import log, loop
from robust_perception.training.checkpoint import load_weights
from robust_perception.training.errors import CheckpointError, ConfigError, NonFiniteLossError
from robust_perception.training.loop import Run, train
from robust_perception.training.resuming import Origins
from robust_perception.training.run import CONFIG
from robust_perception.vocabulary import ALL_PATTERNS, Modality


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_data.write(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(small_data.config(), (data,), tmp_path_factory.mktemp("run") / "whole", seed=3)
    train(run, stream=io.StringIO())
    return run


def tensors(path: Path) -> dict[str, torch.Tensor]:
    with safe_open(path, framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def test_a_killed_run_ends_with_the_weights_of_one_that_was_not(
    whole: Run, data: Path, tmp_path: Path
) -> None:
    killed = Run(whole.config, (data,), tmp_path / "killed", seed=3)
    train(killed, stream=io.StringIO(), stop_after=1)
    train(killed, resume=True, stream=io.StringIO())
    expected, got = (tensors(run.out / loop.LAST) for run in (whole, killed))
    assert expected.keys() == got.keys()
    for name, value in expected.items():
        assert torch.equal(value, got[name]), name


def test_a_kill_in_the_middle_of_an_epoch_costs_that_epoch_only(
    whole: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = Run(whole.config, (data,), tmp_path / "killed", seed=3)
    real, calls = loop.objective, 0

    def interrupted(*arguments):  # type: ignore[no-untyped-def]
        nonlocal calls
        calls += 1
        if calls == 4:  # the second step of the second epoch
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(loop, "objective", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(killed, stream=io.StringIO())
    monkeypatch.setattr(loop, "objective", real)
    train(killed, resume=True, stream=io.StringIO())
    expected, got = (tensors(run.out / loop.LAST) for run in (whole, killed))
    assert all(torch.equal(value, got[name]) for name, value in expected.items())


def test_another_seed_gives_other_weights(whole: Run, data: Path, tmp_path: Path) -> None:
    other = Run(whole.config, (data,), tmp_path / "other", seed=4)
    train(other, stream=io.StringIO())
    expected, got = (tensors(run.out / loop.LAST) for run in (whole, other))
    assert any(not torch.equal(value, got[name]) for name, value in expected.items())


def test_what_a_run_leaves(whole: Run) -> None:
    assert (whole.out / CONFIG).read_text() == whole.config.to_text()
    with (whole.out / log.LOG).open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["epoch"]) for row in rows] == [1.0, 2.0]
    assert {f"val/{pattern}" for pattern in ALL_PATTERNS} <= set(rows[0])
    network, training = load_weights(whole.out / loop.BEST)
    assert network.config.class_names == ("background", "warm", "cold")
    assert training["config_sha256"] == whole.config.sha256
    best = max(rows, key=lambda row: float(row["val/mean"]))
    assert training["validation"]["val/mean"] == float(best["val/mean"])


def test_normalisation_is_that_of_the_data(whole: Run, data: Path) -> None:
    network, _ = load_weights(whole.out / loop.BEST)
    assert 1.2 < network.config.depth_mean < 3.0
    assert 280.0 < network.config.thermal_mean < 320.0


def test_a_folder_with_a_run_is_not_overwritten(whole: Run) -> None:
    with pytest.raises(CheckpointError, match="--resume"):
        train(whole, stream=io.StringIO())


def test_another_configuration_does_not_go_on(whole: Run, data: Path) -> None:
    other = Run(small_data.config(optimiser={"learning_rate": 1e-4}), (data,), whole.out, seed=3)
    with pytest.raises(CheckpointError, match="configuration"):
        train(other, resume=True, stream=io.StringIO())
    with pytest.raises(CheckpointError, match="seed"):
        train(Run(whole.config, (data,), whole.out, seed=9), resume=True, stream=io.StringIO())


def test_another_network_or_another_amount_of_data_does_not_go_on(whole: Run, tmp_path: Path) -> None:
    wider = Run(small_data.config(network={"width": 24}), whole.data, whole.out, seed=3)
    with pytest.raises(CheckpointError, match="configuration"):
        train(wider, resume=True, stream=io.StringIO())
    more = Run(whole.config, (small_data.write(tmp_path / "more", train=6),), whole.out, seed=3)
    with pytest.raises(CheckpointError, match=r"number of steps \(6\), got 4"):
        train(more, resume=True, stream=io.StringIO())


def test_data_with_other_classes_does_not_go_on(whole: Run, tmp_path: Path) -> None:
    other = small_data.write(tmp_path / "other")
    table = (other / "classes.json").read_text()
    (other / "classes.json").write_text(table.replace('"warm"', '"hot"'))
    with pytest.raises(
        CheckpointError, match=r"data's class_names \(.*'hot', 'cold'\)\), got .*'warm', 'cold'"
    ):
        train(Run(whole.config, (other,), whole.out, seed=3), resume=True, stream=io.StringIO())


def test_a_state_that_does_not_know_its_origins_goes_on(whole: Run, tmp_path: Path) -> None:
    old = Run(whole.config, whole.data, tmp_path / "old", seed=3)
    old.out.mkdir()
    with safe_open(whole.out / loop.LAST, framework="pt") as file:
        header = file.metadata()
    content = json.loads(header["content"])
    assert content.pop("origins") == {"start": None, "teacher": None}
    save_file(tensors(whole.out / loop.LAST), old.out / loop.LAST, {**header, "content": json.dumps(content)})
    train(old, resume=True, stream=io.StringIO())


def test_weights_alone_are_no_run_to_go_on_with(whole: Run, tmp_path: Path) -> None:
    run = Run(whole.config, whole.data, tmp_path / "weights", seed=3)
    run.out.mkdir()
    (run.out / loop.LAST).write_bytes((whole.out / loop.BEST).read_bytes())
    with pytest.raises(CheckpointError, match="expected a run's state"):
        train(run, resume=True, stream=io.StringIO())


def test_a_damaged_checkpoint_is_named(whole: Run, data: Path, tmp_path: Path) -> None:
    run = Run(whole.config, (data,), tmp_path / "damaged", seed=3)
    run.out.mkdir()
    (run.out / loop.LAST).write_bytes((whole.out / loop.LAST).read_bytes()[:5000])
    with pytest.raises(CheckpointError, match=r"last\.safetensors"):
        train(run, resume=True, stream=io.StringIO())


def test_a_sensor_that_the_data_lacks_is_named(data: Path, tmp_path: Path) -> None:
    root = tmp_path / "no_depth"
    root.mkdir()
    (root / "classes.json").write_bytes((data / "classes.json").read_bytes())
    for split in ("train", "val"):
        (root / split).mkdir()
        for kind in ("rgb", "thermal", "label"):
            (root / split / kind).symlink_to(data / split / kind)
    config = small_data.config(data={"modalities": ["rgb", "depth"]})
    with pytest.raises(ConfigError, match="depth"):
        train(Run(config, (root,), tmp_path / "run"), stream=io.StringIO())


def test_a_loss_that_is_not_finite_stops_the_run_and_is_named(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_data.config()
    network = loop.build_network(config, FolderDataset(data, "train"))
    with torch.no_grad():
        network.fusion.segmentation.classify.bias.fill_(float("nan"))
    monkeypatch.setattr(loop, "build_network", lambda *_: network)
    with pytest.raises(NonFiniteLossError, match="cross_entropy of the full pass"):
        train(Run(config, (data,), tmp_path / "run"), stream=io.StringIO())


def test_a_gradient_that_is_not_finite_stops_the_run_before_it_reaches_a_weight(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_data.config()
    network = loop.build_network(config, FolderDataset(data, "train"))
    network.fusion.segmentation.classify.bias.register_hook(lambda gradient: gradient * float("nan"))
    monkeypatch.setattr(loop, "build_network", lambda *_: network)
    with pytest.raises(NonFiniteLossError, match="norm of the gradient"):
        train(Run(config, (data,), tmp_path / "run"), stream=io.StringIO())
    assert all(bool(torch.isfinite(value).all()) for value in network.state_dict().values())


def test_frames_may_lack_sensors(tmp_path: Path) -> None:
    data = small_data.write(tmp_path / "data", train=4, val=2)
    for name in ("000", "001", "003"):
        (data / "train" / "audio" / f"{name}.wav").unlink()
    (data / "train" / "depth" / "002.png").unlink()
    (data / "val" / "depth" / "001.png").unlink()
    (data / "val" / "audio" / "001.wav").unlink()
    run = Run(small_data.config(optimiser={"epochs": 1}), (data,), tmp_path / "run")
    train(run, stream=io.StringIO())
    _, training = load_weights(run.out / loop.BEST)
    assert {f"val/{pattern}" for pattern in ALL_PATTERNS} <= set(training["validation"])


def test_what_could_not_be_measured_is_never_the_best(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter((math.nan, 5.0, math.nan))
    monkeypatch.setattr(loop, "validate", lambda *_: dict.fromkeys(ALL_PATTERNS, next(scores)))
    run = Run(small_data.config(optimiser={"epochs": 3}), (data,), tmp_path / "run")
    train(run, stream=io.StringIO(), stop_after=1)
    assert load_weights(run.out / loop.BEST)[1]["epoch"] == 1, "nothing better is known"
    train(run, resume=True, stream=io.StringIO())
    assert load_weights(run.out / loop.BEST)[1]["epoch"] == 2


def test_what_no_frame_could_show_is_not_remembered(whole: Run) -> None:
    row = {"epoch": 1.0, "val/rgb": 50.0, "val/depth": math.nan, "val/mean": 50.0}
    assert loop.remembered(whole, row, Origins())["validation"] == {"val/rgb": 50.0, "val/mean": 50.0}


@pytest.mark.parametrize(
    ("split", "kind", "words"),
    [
        ("train", "label", "train/label: expected label maps"),
        ("val", "label", "val/label: expected label maps"),
        ("val", "thermal", "val: expected a frame with all of .*, got none"),
    ],
)
def test_a_split_that_would_waste_the_run_is_refused_before_it(
    split: str, kind: str, words: str, tmp_path: Path
) -> None:
    data = small_data.write(tmp_path / "data", train=2, val=2)
    shutil.rmtree(data / split / kind)
    with pytest.raises(DatasetError, match=words):
        train(Run(small_data.config(), (data,), tmp_path / "run"), stream=io.StringIO())
    assert not (tmp_path / "run").exists()


def test_fewer_samples_than_shards_are_refused(data: Path, tmp_path: Path) -> None:
    config = small_data.config(optimiser={"batch": 8, "shards": 8})
    with pytest.raises(DatasetError, match=r"each of the 8 shards of a batch .*, got 4"):
        train(Run(config, (data,), tmp_path / "run"), stream=io.StringIO())
    assert not (tmp_path / "run").exists()


def test_the_network_knows_what_the_data_has(data: Path) -> None:
    network = loop.build_network(small_data.config(), FolderDataset(data, "train"))
    assert network.config.modalities == tuple(Modality)
    assert network.config.scene_names == ("tone", "noise")
