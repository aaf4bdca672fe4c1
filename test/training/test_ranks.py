"""Several processes end with the weights of one."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import small_data
import torch
from safetensors.torch import load_file

from robust_perception.training import loop
from robust_perception.training.config import TrainingConfig
from robust_perception.training.errors import ConfigError, MachineError
from robust_perception.training.log import LOG
from robust_perception.training.loop import Run, train
from robust_perception.training.machine import Machine
from robust_perception.training.ranks import ALONE, Ranks, launch
from robust_perception.training.shards import own_shards

SOURCE = Path(__file__).resolve().parents[2]


def everything() -> TrainingConfig:
    return small_data.config(**small_data.EVERYTHING, optimiser={"epochs": 2, "batch": 4, "shards": 2})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Few frames have a thermal picture, so that shards without any come up."""
    root = small_data.write(tmp_path_factory.mktemp("data"), train=8, val=3)
    for index in range(2, 8):
        (root / "train" / "thermal" / f"{index:03}.png").unlink()
    return root


@pytest.fixture(scope="module")
def alone(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(everything(), (data,), tmp_path_factory.mktemp("run") / "alone", seed=3)
    train(run, stream=io.StringIO())
    return run


def torchrun(*arguments: object, processes: int = 2) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}",
            "-m", "robust_perception.train", *map(str, arguments),
        ],
        cwd=SOURCE, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=170,
        check=False,
    )  # fmt: skip


def test_two_processes_end_with_the_weights_of_one(alone: Run, data: Path, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(alone.config.to_text())
    # One process begins, two go on: what is saved does not depend on who computes.
    out = tmp_path / "run"
    train(Run(alone.config, (data,), out, seed=3), stream=io.StringIO(), stop_after=1)
    done = torchrun(
        "--config", file, "--data", data, "--out", out, "--seed", 3, "--resume", "--no-export",
        "--device", "cpu",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    expected, got = load_file(alone.out / loop.LAST), load_file(out / loop.LAST)
    assert expected.keys() == got.keys()
    for name, value in expected.items():
        # Adam divides by the root of a mean square: a rounding error of a sum may show where it is tiny.
        torch.testing.assert_close(got[name], value, rtol=1e-3, atol=2e-5, msg=lambda m, n=name: f"{n}: {m}")
    rows = [file.read_text().splitlines() for file in (alone.out / LOG, out / LOG)]
    assert rows[0][0] == rows[1][0], "the same losses, those of one process alone included"
    columns = rows[0][0].split(",")
    for one, two in zip(*(r[1:] for r in rows), strict=True):
        for column, a, b in zip(columns, one.split(","), two.split(","), strict=True):
            if column != "seconds" and a:
                assert float(b) == pytest.approx(float(a), rel=1e-3, abs=1e-4), column
    assert done.stderr.count("epoch 2: loss") == 1, "one process speaks"


def test_processes_that_do_not_divide_the_shards_are_refused(data: Path, tmp_path: Path) -> None:
    third = Ranks()
    third.count = 3
    with pytest.raises(ConfigError, match=r"optimiser\.shards: expected a multiple of the 3 proc.* got 2"):
        own_shards(2, third)


def test_every_shard_has_one_process() -> None:
    found = []
    for index in range(3):
        ranks = Ranks()
        ranks.index, ranks.count = index, 3
        found += list(own_shards(6, ranks))
    assert found == list(range(6))


def test_shards_are_the_batch_in_order(data: Path, tmp_path: Path) -> None:
    whole = small_data.config(optimiser={"epochs": 1, "batch": 4})
    halves = small_data.config(optimiser={"epochs": 1, "batch": 4, "shards": 2})
    splits = {name: loop.MixedDataset.open((data,), "train", "fine") for name in ("a", "b")}
    modalities = tuple(splits["a"].modalities)
    one = loop.Loader(splits["a"], modalities, whole, 5)
    two = loop.Loader(splits["b"], modalities, halves, 5, shards=2, own=range(2))
    last = loop.Loader(splits["b"], modalities, halves, 5, shards=2, own=range(1, 2), workers=1)
    for (batch,), parts, (own,) in zip(one.epoch(0), two.epoch(0), last.epoch(0), strict=True):
        assert batch.patterns == parts[0].patterns + parts[1].patterns
        assert torch.equal(batch.batch.label, torch.cat([part.batch.label for part in parts]))
        assert own.patterns == parts[1].patterns
        assert torch.equal(own.batch.label, parts[1].batch.label)


def test_a_device_that_is_not_there_is_named() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(MachineError, match="--device cuda: expected a GPU"):
        launch("cuda")
    assert launch("auto") is ALONE


def test_processes_draw_what_a_thread_draws(alone: Run, data: Path, tmp_path: Path) -> None:
    run = Run(alone.config, (data,), tmp_path / "run", seed=3)
    train(run, stream=io.StringIO(), machine=Machine(workers=2))
    expected, got = load_file(alone.out / loop.LAST), load_file(run.out / loop.LAST)
    assert all(torch.equal(value, got[name]) for name, value in expected.items())
