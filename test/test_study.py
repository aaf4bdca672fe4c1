"""The study's runs, records and page."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "test" / "training")]

import results_page  # noqa: E402
import small_data  # noqa: E402
import study  # noqa: E402

from benchmarks import claims  # noqa: E402
from robust_perception.training.config import TrainingConfig  # noqa: E402
from robust_perception.training.errors import ConfigError  # noqa: E402

WORDS = ["--classes", "fine", "--seeds", "0"]


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    small = yaml.safe_load(small_data.config(optimiser={"epochs": 1}).to_text())
    del small["name"], small["stages"]
    rows = {
        "base": {"patterns": {"dropout_weight": 0.0, "full_weight": 1.0}, "validation": {"patterns": "full"}},
        "mmanet": {
            "network": {"auxiliary": True}, "methods": {"relation": 1.0, "weakest": 0.1}, "teacher": "base"
        },
        "adapters-ssf": {"start": "base", "adapters": {"kind": "ssf", "budget": 0.3, "epochs": 1}},
        "settled": {
            "start": "mmanet", "network": {"auxiliary": True}, "optimiser": {"learning_rate": 1.0e-4}
        },
    }  # fmt: skip
    path = tmp_path_factory.mktemp("plan") / "small.yaml"
    path.write_text(yaml.safe_dump({"name": "small", "common": small, "rows": rows}, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = small_data.write(tmp_path_factory.mktemp("study") / "data")
    for kind in ("depth", "audio"):  # two sensors: three patterns
        for split in ("train", "val"):
            for file in (root / split / kind).iterdir():
                file.unlink()
    (root / "test").symlink_to(root / "val")
    return root


def test_rows_build_on_each_other_and_every_result_is_a_record(
    plan: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--config", str(plan), "--data", str(data), "--out", str(tmp_path / "runs"), *WORDS]
    assert study.main([*words, "--rows", "mmanet"]) == 0
    assert "left out: mmanet: expected the finished run of base" in capsys.readouterr().err
    assert study.main(words) == 0
    assert "3/4 adapters-ssf/seed0" in capsys.readouterr().out
    begun = (tmp_path / "runs" / "small-fine-1-1" / "settled" / "seed0" / "progress.txt").read_text()
    assert begun.startswith("start: best.safetensors of data, epoch 1"), "it goes on from that row's weights"
    assert study.main(words) == 0
    assert capsys.readouterr().out == ""  # all is done
    target = tmp_path / "results.json"
    assert study.main(["--config", str(plan), "--out", str(tmp_path / "runs"), "--collect", str(target)]) == 0
    records = json.loads(target.read_text())
    keys = {
        "data",
        "classes",
        "labels",
        "budget",
        "row",
        "seed",
        "machine",
        "pattern",
        "split",
        "metric",
        "value",
        "commit",
    }
    assert all(set(record) == keys and record["split"] == "test" for record in records)
    for row in ("base", "mmanet", "adapters-ssf", "settled"):
        found = {
            r["pattern"]: r["value"] for r in records if r["row"] == row and r["metric"] == "foreground_miou"
        }
        assert set(found) == {"rgb+thermal", "rgb", "thermal", "mean", "worst"}
        singles = [found[p] for p in ("rgb+thermal", "rgb", "thermal")]
        assert found["mean"] == pytest.approx(sum(singles) / 3) and found["worst"] == min(singles)
    assert "| base | 1 |" in results_page.page(records)
    elsewhere = [{**r, "commit": "another", "seed": 7} for r in records]
    old = [{**r, "value": -1.0} for r in records if r["row"] == "base"]
    target.write_text(json.dumps([*elsewhere, *old]))
    assert study.collect(tmp_path / "runs", target) == 2 * len(records)
    merged = json.loads(target.read_text())
    assert [r for r in merged if r["seed"] == 0] == records, (
        "a run made again counts, not what was there before"
    )
    assert sorted(map(str, elsewhere)) == sorted(str(r) for r in merged if r["seed"] == 7)


def test_processes_share_the_runs_and_wait_for_one_another(plan: Path, data: Path, tmp_path: Path) -> None:
    command = [
        sys.executable, study.__file__, "--config", plan, "--data", data, "--out", tmp_path / "runs", *WORDS,
        "--processes", "2", "--device", "cpu",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, done.stderr
    assert "left out" not in done.stderr
    began = [line.split(" ")[1] for line in done.stdout.splitlines()]
    assert sorted(began) == ["adapters-ssf/seed0", "base/seed0", "mmanet/seed0", "settled/seed0"], (
        "each run by one process"
    )
    assert len(list((tmp_path / "runs").rglob("records.json"))) == 4


def test_a_run_that_somebody_has_is_left_alone(tmp_path: Path) -> None:
    with study.claim(tmp_path) as first, study.claim(tmp_path) as second:
        assert first and not second
    with study.claim(tmp_path) as again:
        assert again


def test_the_shipped_study_can_be_read_and_has_every_row() -> None:
    plan = study.read_plan(ROOT / "config" / "study" / "mm5.yaml")
    wanted = {"base", "dropout", "dedicated", "cyin", "dmrnet", "robult", "mmanet", "joint", "joint-adapters"}
    assert wanted | {"adapters-lora", "adapters-ssf", "adapters-bitfit"} <= set(plan["rows"])
    shares = study.Study(plan, ROOT, "coarse", 0.05, 2.0, ROOT)
    for row in plan["rows"]:
        config = shares.config(study.Task(row, 0))
        assert isinstance(config, TrainingConfig)
        assert config.data.labelled == 0.05 and config.optimiser.epochs == 72


def test_a_plan_of_another_form_is_named(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text("rows: {}\n")
    with pytest.raises(ConfigError, match=r"plan\.yaml: expected the keys"):
        study.read_plan(tmp_path / "plan.yaml")


def test_a_plan_that_extends_another_changes_its_sections() -> None:
    wide, narrow = (
        study.read_plan(ROOT / "config" / "study" / f"{name}.yaml") for name in ("mm5_wide", "mm5")
    )
    assert wide["name"] != narrow["name"] and wide["rows"] == narrow["rows"]
    crops = [plan["common"]["augmentation"].pop("crop") for plan in (wide, narrow)]
    assert crops == [[128, 160], [96, 128]] and wide["common"] == narrow["common"]


def test_a_plan_that_extends_nothing_is_named(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text("{name: a, extends: gone.yaml}\n")
    with pytest.raises(ConfigError, match=r"plan\.yaml: extends: expected a file beside it, got 'gone"):
        study.read_plan(tmp_path / "plan.yaml")


def record(row: str, pattern: str, seed: int, value: float) -> dict[str, object]:
    return {
        "data": "d", "classes": "coarse", "labels": 1.0, "budget": 1.0, "row": row, "seed": seed,
        "pattern": pattern, "split": "test", "metric": "foreground_miou", "value": value, "commit": "c",
    }  # fmt: skip


def test_the_page_has_mean_and_deviation_and_the_dedicated_networks_together() -> None:
    records = [
        *(
            record("base", p, s, v + s)
            for s in (0, 2)
            for p, v in (("rgb+depth", 80.0), ("rgb", 30.0), ("depth", 20.0))
        ),
        *(record("dedicated", p, s, v) for s in (0, 2) for p, v in (("rgb", 70.0), ("depth", 60.0))),
        *({**record("base", "all", s, 4e6), "metric": "parameters"} for s in (0, 2)),
        *(
            {**record("dedicated", p, s, 3e6), "metric": "parameters"}
            for s in (0, 2)
            for p in ("rgb", "depth")
        ),
    ]
    lines = results_page.page(records).splitlines()
    base = next(line for line in lines if line.startswith("| base"))
    assert "| 81.0 ± 1.4 |" in base
    dedicated = next(line for line in lines if line.startswith("| dedicated"))
    assert "| 2 | 81.0 ± 1.4 | 70.0 ± 0.0 | 60.0 ± 0.0 | 70.3 ± 0.5 | 60.0 ± 0.0 | 10.00 |" in dedicated


def test_a_seed_that_was_run_at_two_commits_is_refused() -> None:
    records = [record("base", "rgb", seed, value) for seed, value in ((0, 30.0), (1, 50.0))]
    assert "| base | 2 | 40.0 ± 14.1 |" in results_page.page(records)
    records.append({**record("base", "rgb", 0, 20.0), "commit": "other"})
    with pytest.raises(ValueError, match=r"'base', 0, 'rgb'.*expected one run of a seed, got .*'c', 'other'"):
        results_page.page(records)


def test_the_page_compares_the_bench_with_dropout_seed_by_seed() -> None:
    records = [
        {
            "labels": 0.05,
            "seed": s,
            "row": row,
            "mean": mean + 10 * s,
            "worst": 1.0,
            "full": 2.0,
            "seconds": 3.0,
        }
        for s in (0, 1)
        for row, mean in (("dropout", 50.0), ("cyin", 52.0 + s))
    ]
    lines = results_page.page([], {"records": records}).splitlines()
    assert "## Digits in six views, 5% of the labels" in lines
    assert "| cyin | 2 | 57.5 ± 7.8 | 1.0 ± 0.0 | 2.0 ± 0.0 | 2.5 ± 0.7 | yes | 3 ± 0 |" in lines
    assert "| dropout | 2 | 55.0 ± 7.1 | 1.0 ± 0.0 | 2.0 ± 0.0 |  |  | 3 ± 0 |" in lines


def test_the_page_that_is_shipped_is_made_of_the_records_that_are() -> None:
    records, shown = ROOT / "docs" / "results.json", ROOT / "docs" / "results.md"
    if not records.is_file():
        pytest.skip("docs/results.json is not there: the study has not been collected yet")
    made = results_page.shipped_page(json.loads(records.read_text()), ROOT / "docs" / "results")
    assert shown.with_suffix(".svg").read_text() == results_page.picture(json.loads(records.read_text()))
    assert made == shown.read_text()
    labels = shown.with_name("results_labels.svg").read_text()
    assert labels == results_page.picture_of_labels(json.loads(records.read_text()))


def test_the_picture_of_the_labels_is_of_runs_that_had_few_and_the_same_with_all() -> None:
    records = [
        {**record(row, "mean", seed, value), "data": "mm5", "labels": share}
        for row, seed, share, value in (
            ("dropout", 0, 0.1, 40.0), ("dropout", 1, 0.1, 44.0),
            ("dropout", 0, 1.0, 50.0), ("dropout", 7, 1.0, 99.0),
            ("robult", 0, 0.1, 41.0), ("cyin", 0, 0.1, 20.0),
        )
    ]  # fmt: skip
    svg = results_page.picture_of_labels(records)
    assert re.findall(r"<title>(.*?)</title>", svg) == [
        "dropout: 42.0 ± 2.8 %",
        "dropout: 50.0 %",
        "robult: 41.0 %",
    ]
    assert re.findall(r">(\d+%) of the labels<", svg) == ["10%", "100%"]
    assert svg.count("<polyline") == 1
    ElementTree.fromstring(svg)


def test_the_commands_say_what_they_are_for() -> None:
    for name in ("study", "vectors", "relation_weight", "results_page"):
        done = subprocess.run(
            [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), "--help"],
            capture_output=True, text=True, check=False, env={"PYTHONPATH": str(ROOT), "PATH": ""},
        )  # fmt: skip
        assert done.returncode == 0 and "usage" in done.stdout


def test_a_claim_is_about_the_seeds_that_both_rows_have() -> None:
    records = [
        *(record("dropout", "mean", seed, 50.0 + 2 * seed) for seed in (0, 1)),
        *(record("cyin", "mean", seed, 51.0 + 2.5 * seed) for seed in (0, 1)),
        *(record("joint-adapters", "mean", seed, 57.0 + 6 * seed) for seed in (0, 1, 2)),
        record("dmrnet", "mean", 0, 60.0),
        record("base", "rgb+depth", 0, 83.0),
        record("base", "rgb", 0, 99.0),
    ]
    lines = claims.table(records)
    assert "| joint-adapters, mean, above dropout | 8 | 9.0 ± 2.8 | 2 | yes |" in lines
    assert "| base, full | 84 | 83.0 | 1 | no |" in lines
    assert "| cyin, mean, above dropout | one deviation | 1.2 ± 0.4 | 2 | yes |" in lines
    assert "| dmrnet, mean, above dropout | one deviation | 10.0 | 1 | one seed cannot tell |" in lines
    assert len(lines) == 3 + 4  # rows that are not there make no claim
    assert claims.table(records[:2]) == []
    assert [line for line in claims.table(records, goals=False) if "one deviation" not in line][3:] == []


def test_weights_of_the_distillation_are_told_with_their_deviation() -> None:
    found = [(0.5, -1.0), (0.5, -2.0), (0.1, 0.25), (0.1, 0.25)]
    records = [{"seed": s, "weight": w, "mean_above_dropout": d} for s, (w, d) in enumerate(found)]
    lines = results_page.page([], relation={"records": records}, remarks="The end.\n").splitlines()
    assert "| weight | 0.1 | 0.5 |" in lines
    assert "| mean less dropout's | 0.25 ± 0.00 | -1.50 ± 0.71 |" in lines
    assert lines[-1] == "The end."


def test_where_sound_alone_is_measured_the_worst_with_an_image_is_told_too() -> None:
    values = {"rgb+audio": 80.0, "rgb": 50.0, "audio": 0.0, "mean": 43.3, "worst": 0.0}
    simulator = [
        {
            **record(row, pattern, 0, value + more * (pattern != "audio")),
            "data": "simulator",
            "classes": "fine",
        }
        for row, more in (("passes", 0.0), ("joint-settled", 2.0))
        for pattern, value in values.items()
    ]
    page = results_page.page(simulator)
    assert "| row | seeds | rgb+audio | rgb | audio | mean | worst | worst with an image |" in page
    assert "| passes | 1 | 80.0 | 50.0 | 0.0 | 43.3 | 0.0 | 50.0 |" in page
    assert "| joint-settled, worst with an image, above passes | 0 | 2.0 | 1 | yes |" in page
    assert "with an image" not in results_page.page([r for r in simulator if r["pattern"] != "audio"])


def test_what_adapters_recover_is_of_the_gap_to_dedicated_networks() -> None:
    records = [
        record("base", "rgb+depth", 0, 84.0),
        *(record("base", p, 0, v) for p, v in (("rgb", 40.0), ("depth", 20.0))),
        *(record("dedicated", p, 0, v) for p, v in (("rgb", 60.0), ("depth", 60.0))),
        *(record("adapters-ssf", p, 0, v) for p, v in (("rgb+depth", 84.0), ("rgb", 55.0), ("depth", 35.0))),
        *(record("adapters-ssf", p, 1, v) for p, v in (("rgb+depth", 84.0), ("rgb", 55.0), ("depth", 35.0))),
    ]
    lines = claims.table(records)
    assert "| adapters-ssf, gap from base to dedicated that is closed, % | 50 | 50.0 | 1 | yes |" in lines
    assert claims.recovered("adapters-ssf", records[:-8]) == []
