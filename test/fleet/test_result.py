"""What is kept of a bag comes back as it was, under a key that everything is in."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robust_perception.bags.writer import BagWriter
from robust_perception.engine.engine import Engine
from robust_perception.evaluation.bag_source import BagConfig
from robust_perception.evaluation.errors import EvaluationError
from robust_perception.evaluation.recipe import bag_sha256
from robust_perception.faults.kinds import Fault
from robust_perception.faults.script import FaultScript
from robust_perception.fleet.errors import ResultError
from robust_perception.fleet.job import Job, key_of
from robust_perception.fleet.result import BagResult, Store
from robust_perception.fleet.worker import Worker
from robust_perception.vocabulary import Modality, Pattern


def test_the_hash_of_a_bag_is_of_what_is_in_it_compressed_or_not(tmp_path: Path) -> None:
    for name, value in (("a", 1), ("b", 2)):
        with BagWriter(tmp_path / name, "sqlite3", "file") as bag:
            bag.write("/number", "std_msgs/msg/UInt8", bytes([0, 1, 0, 0, value]), 1)
    shas = [bag_sha256(tmp_path / name) for name in ("a", "b")]
    assert shas[0] != shas[1]
    assert shas[0] == hashlib.sha256((tmp_path / "a" / "a_0.db3.zstd").read_bytes()).hexdigest()
    (tmp_path / "none").mkdir()
    with pytest.raises(EvaluationError, match=r"expected a bag's \.mcap or \.db3 files, .* got none"):
        bag_sha256(tmp_path / "none")


@pytest.fixture(scope="module")
def result(model: Path, bags: Path) -> BagResult:
    outcome = Worker(Job(str(model), threads=1)).measure(str(bags / "a"))
    assert outcome.error is None
    assert outcome.data is not None
    return BagResult.from_bytes(outcome.data, "a")


def test_it_comes_back_as_it_was(result: BagResult, tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    path = store.save("run 7/a", result.key, result.to_bytes())
    assert path.name == f"run_7_a-{result.key[:16]}.npz"
    assert [p.name for p in store.folder.iterdir()] == [path.name], "no part of it is left"
    again = store.load(store.known()[result.key[:16]])
    assert (again.key, again.report) == (result.key, result.report)
    assert again.tallies.keys() == result.tallies.keys()
    for pattern, arrays in result.tallies.items():
        for name, values in arrays.items():
            np.testing.assert_array_equal(again.tallies[pattern][name], values)
            assert again.tallies[pattern][name].dtype == values.dtype


def test_a_long_name_of_any_letters_fits_into_a_file_system(result: BagResult, tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    path = store.save("机器人" * 60 + "/a", result.key, result.to_bytes())
    assert len(path.name.encode()) < 120
    assert path.name.endswith(f"人_a-{result.key[:16]}.npz")
    assert store.load(store.known()[result.key[:16]]).key == result.key


@settings(max_examples=40, deadline=None)
@given(cut=st.floats(0.0, 0.999), flip=st.none() | st.floats(0.0, 0.999))
def test_a_damaged_file_is_no_result(result: BagResult, cut: float, flip: float | None) -> None:
    data = bytearray(result.to_bytes())
    if flip is None:
        data = data[: int(cut * len(data))]
    else:
        data[int(flip * len(data))] ^= 0xFF
    try:
        read = BagResult.from_bytes(bytes(data), "x.npz")
    except ResultError as error:
        assert str(error).startswith("x.npz: expected the result of a bag, got ")
    else:
        assert read.report == result.report, "what is read in spite of a flipped bit is what was written"


def test_whatever_changes_a_number_changes_the_key(model: Path, tmp_path: Path) -> None:
    engine = Engine.load(model, threads=1)
    loss = Fault(1.0, 2.0, Modality.RGB, "loss")
    jobs = [
        Job(str(model)),
        Job(str(model), rate_hz=5.0),
        Job(str(model), patterns=(Pattern.parse("rgb"),)),
        Job(str(model), script=FaultScript([loss])),
        Job(str(model), script=FaultScript([loss], seed=1)),
        Job(str(model), config=BagConfig(seconds=2.0)),
        Job(str(model), config=BagConfig(check_header_age=False)),
        Job(str(model), config=BagConfig({Modality.RGB: "/front"})),
    ]
    keys = {key_of(job.recipe(engine), "0" * 64) for job in jobs}
    keys.add(key_of(jobs[0].recipe(engine), "1" * 64))
    assert len(keys) == len(jobs) + 1
    assert key_of(Job(str(model), threads=2, cache=tmp_path).recipe(engine), "1" * 64) in keys
    named = FaultScript([loss], name="another name of the same faults")
    assert key_of(Job(str(model), script=named).recipe(engine), "0" * 64) in keys


def test_a_worker_takes_plans_from_the_folder_that_was_named(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[object] = []
    monkeypatch.setattr(Engine, "load", lambda *given, **named: told.append(given[4]))
    Job("model", cache=Path("plans")).load()
    assert told == [Path("plans")]
