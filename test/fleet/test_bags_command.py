"""`evaluate --bags`: bag by bag, resumable, the same with any number of workers."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from robust_perception.bags.dataset import write_dataset
from robust_perception.datasets import FolderDataset
from robust_perception.evaluate import main
from robust_perception.fleet import command
from robust_perception.fleet.command import crew_of
from robust_perception.fleet.run import Crew
from robust_perception.fleet.worker import Worker

SPY = """
import json, os, sys
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
import psutil
from robust_perception import evaluate
from robust_perception.fleet import run
from robust_perception.fleet.find import Bag
from robust_perception.fleet.job import Job

class Deadly(Job):
    def open(self, path, engine):
        if path.name == "deadly":
            os._exit(9)
        return super().open(path, engine)

measure = run._on_ray

def spied(ray, job, bags, known, crew):
    job = Deadly(**{field.name: getattr(job, field.name) for field in fields(job)})
    for done in measure(ray, job, [Bag("deadly", Path("deadly")), *bags], known, crew):
        own = psutil.Process()
        sockets = []
        for process in (own, *own.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                sockets += process.net_connections("inet")
        listening = [c.laddr.ip for c in sockets if c.status == psutil.CONN_LISTEN]
        with open("listening.json", "w") as file:
            json.dump(listening, file)
        yield done

run._on_ray = spied
sys.exit(evaluate.main(sys.argv[1:]))
"""
"""The command with one bag more, which kills its worker; it notes where all of its processes listen."""


class Shared(NamedTuple):
    """A run of two workers."""

    folder: Path
    listening: list[str]
    left: list[str]
    log: str


def words(model: Path, bags: Path, folder: Path, *more: str) -> list[str]:
    named = {"--bags": bags, "--results": folder / "results", "--json": folder / "r.json"}
    given = [str(part) for pair in named.items() for part in pair]
    return ["--model", str(model), "--threads", "1", *given, "--html", str(folder / "r.html"), *more]


def read(folder: Path) -> dict[str, Any]:
    """The report without wall time."""
    content: dict[str, Any] = json.loads((folder / "r.json").read_text())
    content.pop("seconds")
    return content


@pytest.fixture(scope="module")
def alone(model: Path, bags: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one worker."""
    folder = tmp_path_factory.mktemp("alone")
    assert main(words(model, bags, folder, "--workers", "1", "--faults", "severe")) == 1, "one bag is damaged"
    return folder


def test_every_bag_has_a_row_and_a_bad_one_its_reason(alone: Path) -> None:
    report = read(alone)
    rows = {row["bag"]: row for row in report["bags"]}
    assert list(rows) == ["a", "b", "sub/c"]
    assert sum(row["outputs"] for row in rows.values()) == report["frames"] > 0
    assert sum(row["frames"] for row in report["patterns"].values()) == report["frames"]
    assert rows["b"]["foreground_miou"] is None, "it has no truth"
    assert rows["a"]["foreground_miou"] is not None
    assert len({row["bag_sha256"] for row in rows.values()}) == 3
    (failed,) = report["failed"]
    assert failed["name"] == "broken"
    assert "expected a whole bag" in failed["error"]
    assert "\n" not in failed["error"]
    page = (alone / "r.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|@import|url\(|<script", page)
    for text in ("sub/c", "broken", "metadata.yaml makes no sense", report["bags_sha256"]):
        assert text in page


def test_a_single_bag_is_the_report_of_that_bag(model: Path, bags: Path, tmp_path: Path) -> None:
    one = tmp_path / "one.json"
    assert main(["--model", str(model), "--threads", "1", "--bag", str(bags / "a"), "--json", str(one)]) == 0
    assert main(words(model, bags / "a", tmp_path, "--workers", "1")) == 0
    of_bag, of_bags = json.loads(one.read_text()), read(tmp_path)
    for name in ("patterns", "mean", "worst", "frames", "model_sha256"):
        assert of_bags[name] == of_bag[name]
    assert of_bags["bags"][0]["bag_sha256"] == of_bag["bag_sha256"]


def test_a_bag_that_is_cut_off_is_told_whoever_measured_it(
    model: Path,
    bags: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    told: list[str] = []
    monkeypatch.setattr(command, "warn_once", told.append)
    shutil.copytree(bags / "sub" / "c", tmp_path / "bags" / "cut")
    shutil.copytree(bags / "a", tmp_path / "bags" / "whole")
    (file,) = (tmp_path / "bags" / "cut").glob("*.mcap")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    for _ in range(2):  # measured, and taken from the results
        assert main(words(model, tmp_path / "bags", tmp_path, "--workers", "1", "--faults", "severe")) == 0
        damage = {row["bag"]: row["damage"] for row in read(tmp_path)["bags"]}
        assert damage == {"cut": told.pop(), "whole": ""}
        assert damage["cut"].startswith(f"{tmp_path}/bags/cut: expected a whole bag, got one with ")
        assert told == []
        page = (tmp_path / "r.html").read_text(encoding="utf-8")
        assert "its writer was killed, or it was not copied to its end" in page
        assert "expected 95 s for all its faults" in page
        assert "evaluate: whole: severe.yaml: expected 95 s for all its faults" in capsys.readouterr().err


def test_the_report_is_the_same_wherever_one_calls_from(
    alone: Path, model: Path, bags: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bags.parent)
    assert main(words(model, Path(bags.name), tmp_path, "--workers", "1", "--faults", "severe")) == 1
    assert read(tmp_path) == read(alone)


def test_what_is_there_is_not_measured_again(
    alone: Path,
    model: Path,
    bags: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    results = tmp_path / "results"
    results.mkdir()
    for path in (alone / "results").iterdir():
        data = path.read_bytes()
        (results / path.name).write_bytes(data[:100] if path.name.startswith("b-") else data)
    measured = []
    really = Worker._measured
    monkeypatch.setattr(
        Worker, "_measured", lambda self, s, *k: measured.append(s.path.name) or really(self, s, *k)
    )
    assert main(words(model, bags, tmp_path, "--workers", "1", "--faults", "severe")) == 1
    assert measured == ["b"], "its file was cut off"
    assert read(tmp_path) == read(alone)
    said = capsys.readouterr().err
    assert "2 of 4 bags were measured before" in said
    assert "expected the result of a bag, got" in said
    measured.clear()
    assert main(words(model, bags, tmp_path, "--workers", "1")) == 1
    assert measured == ["a", "b", "c"], "other faults, other results"


@pytest.fixture(scope="module")
def shared(model: Path, bags: Path, tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Shared:
    """The same run with two workers, in a process of its own, and where its processes listened."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    folder = tmp_path_factory.mktemp("shared")
    given = words(model, bags, folder, "--workers", "2", "--faults", "severe")
    with (folder / "log").open("w") as log, tempfile.TemporaryDirectory() as temporary:
        process = subprocess.Popen(
            [sys.executable, "-c", SPY, *given],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(repository), "TMPDIR": temporary},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        assert process.wait(170) == 1, (folder / "log").read_text()
        left = [path.name for path in Path(temporary).glob("ray*")]
    text = (folder / "log").read_text()
    assert (folder / "listening.json").is_file(), text
    return Shared(folder, json.loads((folder / "listening.json").read_text()), left, text)


def test_two_workers_of_ray_say_the_same(alone: Path, shared: Shared) -> None:
    assert read(shared.folder) == read(alone), shared.log
    one, two = ((folder / "r.html").read_text(encoding="utf-8") for folder in (alone, shared.folder))
    volatile = re.compile(r"<!--volatile-->.*?<!--/volatile-->")
    assert volatile.sub("", one) == volatile.sub("", two)


def test_a_bag_that_kills_its_worker_fails_alone(shared: Shared) -> None:
    assert "not measured: deadly: deadly: its worker ended: " in shared.log
    assert read(shared.folder)["measured"] == 3


def test_ray_listens_to_this_machine_alone_and_leaves_nothing(shared: Shared) -> None:
    assert len(shared.listening) >= 3
    assert {address.removeprefix("::ffff:") for address in shared.listening} == {"127.0.0.1"}
    assert shared.left == []


def test_who_works_where_nobody_says(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(command, "usable_cores", lambda: 3)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert crew_of(None, None, 20, said.append) == Crew(3)
    assert crew_of(None, None, 2, said.append) == Crew(2)
    assert crew_of(8, None, 20, said.append) == Crew(8)
    assert crew_of(None, "auto", 20, said.append) == Crew(20, "auto")
    assert said == []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert crew_of(None, None, 20, said.append) == Crew(1)
    assert "Ray is not installed: one bag at a time" in said[0]


def test_without_ray_it_says_which_extra(
    model: Path,
    bags: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(words(model, bags, tmp_path, "--workers", "2")) == 1
    error = capsys.readouterr().err
    assert (
        "need Ray, which is not installed: pip install '.[fleet]' in the source tree, or use --workers 1"
        in error
    )


def test_what_does_not_fit_is_one_clear_line(
    model: Path, bags: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for source, message in (
        (bags / "broken", "expected a bag that can be measured, got none of 1"),
        (tmp_path / "nothing", "expected a folder with bags or a text file that lists them"),
    ):
        assert main(words(model, source, tmp_path, "--workers", "1")) == 1
        assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "r.json").exists()
    with pytest.raises(SystemExit) as ended:
        main(words(model, bags, tmp_path, "--label-maps", str(tmp_path / "maps")))
    assert ended.value.code == 2
    assert "--label-maps: expected --data or --bag beside it" in capsys.readouterr().err


def test_a_bag_can_be_in_other_words_than_the_model(model: Path, bags: Path, tmp_path: Path) -> None:
    """Its reason is in the report; the others are measured."""
    data = FolderDataset(bags.parent / "data", "test", class_names=("a",))
    write_dataset(data, tmp_path / "bags" / "fine", rate=10.0, limit=2, labels=True)
    (tmp_path / "bags" / "list.txt").write_text(f"fine\n{bags / 'missing'}\n")
    assert main(words(model, tmp_path / "bags" / "list.txt", tmp_path, "--workers", "1")) == 1
    report = read(tmp_path)
    assert [row["bag"] for row in report["bags"]] == ["fine"]
    assert "expected a bag (a folder with metadata.yaml" in report["failed"][0]["error"]
