"""The commands of the README are commands this package has, and those that cost seconds are run."""

from __future__ import annotations

import itertools
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import stand_in

from robust_perception import cli
from robust_perception.benchmarking.records import Report
from robust_perception.engine.manifest import Manifest

README = Path(__file__).resolve().parents[2] / "README.md"


def commands(first: str) -> list[list[str]]:
    """The words of every command of the README's shell blocks that begins with `first`."""
    blocks = re.findall(r"^```sh\n(.*?)^```", README.read_text(encoding="utf-8"), re.M | re.S)
    lines = [line for block in blocks for line in re.split(r"\n| && ", block.replace("\\\n", " "))]
    words = [shlex.split(line, comments=True) for line in lines]
    return [line for line in words if line[:1] == [first]]


def help_of(words: list[str]) -> str:
    """What the command, or its part such as `bag from-dataset`, says of itself."""
    named = [words[1]] + [w for w in words[2:3] if not w.startswith("-")]
    done = subprocess.run(
        [sys.executable, "-m", "robust_perception.cli", *named, "--help"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_says_how_to_begin() -> None:
    assert {"demo", "test"} <= {words[1] for words in commands("make")}
    assert commands("robust-perception")
    assert commands("ros2")
    # By the venv's Python: what colcon's own builds runs on that one, and finds nothing of the venv.
    (colcon,) = (words for words in commands("python3") if "colcon" in words)
    assert colcon[1:4] == ["-m", "colcon", "build"]
    assert commands("python")


def test_what_rosdep_leaves_out_is_installed_by_pip(repository: Path) -> None:
    depends = set(re.findall(r"_depend>([\w-]+)<", (repository / "package.xml").read_text(encoding="utf-8")))
    (rosdep,) = commands("rosdep")
    skipped = set(rosdep[rosdep.index("--skip-keys") + 1].split())
    assert skipped == {key for key in depends if key.endswith("-pip")}
    base = (repository / "setup.py").read_text(encoding="utf-8").partition("INSTALL_REQUIRES = [")[2]
    needed = set(re.findall(r'^    "([\w-]+)', base.partition("]")[0], re.M))
    by_apt = {"PyYAML", "opencv-python-headless", "rosbags-image"}  # the last where cv_bridge is absent
    named = {re.split("[<>=]", word)[0] for words in commands("pip") for word in words[2:]}
    assert needed - by_apt <= named


def test_every_extra_it_names_is_one(repository: Path) -> None:
    known = set(re.findall(r'^    "([\w-]+)": \[$', (repository / "setup.py").read_text(), re.M))
    for page in (README, *(repository / "docs").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        assert "robust_perception[" not in text, "the package is on no index"
        assert {name for said in re.findall(r"'\.\[([\w,-]+)\]'", text) for name in said.split(",")} <= known


def test_what_colcon_built_is_sourced_before_it_is_launched() -> None:
    block = next(b for b in README.read_text(encoding="utf-8").split("```") if "colcon build" in b)
    firsts = [line.partition(" ")[0] for line in block.splitlines()]
    assert firsts.index("python3") < firsts.index("source") < firsts.index("ros2")


@pytest.mark.parametrize("words", commands("robust-perception"), ids=lambda words: " ".join(words[1:3]))
def test_every_command_and_option_exists(words: list[str], repository: Path) -> None:
    assert words[1] in cli.COMMANDS
    known = set(re.findall(r"(?<![\w-])--[\w-]+", help_of(words)))
    options = {word for word in words if word.startswith("--")}
    assert options <= known
    for option, value in itertools.pairwise(words):
        if option == "--config":
            assert (repository / value).is_file()


@pytest.mark.parametrize("words", commands("python"), ids=lambda words: " ".join(words[1:3]))
def test_every_python_command_and_option_exists(words: list[str], repository: Path) -> None:
    end = next(i for i, word in enumerate(words) if word.startswith("--"))
    done = subprocess.run(
        [sys.executable, *words[1:end], "--help"], cwd=repository, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    options = {word for word in words if word.startswith("--")}
    assert options <= set(re.findall(r"(?<![\w-])--[\w-]+", done.stdout))


@pytest.mark.parametrize("words", commands("make"), ids=lambda words: words[1])
def test_every_make_target_exists(words: list[str], repository: Path) -> None:
    done = subprocess.run(
        ["make", "-n", *words[1:]], cwd=repository, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("words", commands("ros2"), ids=" ".join)
def test_every_launch_argument_exists(words: list[str], repository: Path) -> None:
    assert words[2] == "robust_perception"
    if words[1] == "run":
        assert words[3] == "robust-perception" and words[4] in cli.COMMANDS
        return
    assert words[1] == "launch"
    said = dict(word.split(":=", 1) for word in words[4:])
    assert stand_in.nodes(repository / "launch" / words[3], said)


def test_links_lead_somewhere(repository: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", README.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (repository / link).exists()]
    assert missing == []


def test_the_bag_command_makes_a_bag_that_info_reads(shared_data: Path, tmp_path: Path) -> None:
    (words,) = [line for line in commands("robust-perception") if line[1:3] == ["bag", "from-dataset"]]
    assert (shared_data / "mm5_rgbdt").is_dir(), "the data set the README names"
    assert "DATA/mm5_rgbdt" in words
    said = [word.replace("DATA/", f"{shared_data}/") for word in words[1:]]
    program = [sys.executable, "-m", "robust_perception.cli"]
    bag = tmp_path / said[said.index("--out") + 1]
    said[said.index("--out") + 1] = str(bag)
    subprocess.run([*program, *said, "--limit", "2"], check=True, capture_output=True, timeout=60)
    done = subprocess.run(
        [*program, "bag", "info", bag], check=True, capture_output=True, text=True, timeout=60
    )
    for topic in ("rgb/image", "depth/image", "thermal/image"):
        assert topic in done.stdout


def table_below(words: str) -> list[list[str]]:
    """The cells of the first table after a line of the README that contains `words`."""
    text = README.read_text(encoding="utf-8").partition(words)[2]
    block = re.search(r"(?:^\|.*\n)+", text, re.M)
    assert block is not None
    rows = [[cell.strip() for cell in line.strip("| \n").split("|")] for line in block[0].splitlines()]
    return rows[2:]


@pytest.mark.parametrize("name", ["mm5_test", "default_test"])
def test_its_tables_are_what_evaluate_printed(name: str, repository: Path) -> None:
    report = json.loads((repository / "docs" / "results" / f"{name}.json").read_text())
    rows = {row[0]: row[1:] for row in table_below(f"docs/results/{name}.json")}
    assert set(rows) == {*report["patterns"], "mean"}
    for pattern, found in report["patterns"].items():
        scene = found["scene"]
        last = found["map50_95"] if scene is None else scene["mean_average_precision"]
        assert rows[pattern] == [f"{found['foreground_miou']:.1f}", f"{found['map50']:.1f}", f"{last:.1f}"]
    mean = report["mean"]
    last = mean["map50_95"] if mean["scene_map"] is None else mean["scene_map"]
    assert rows["mean"] == [f"{mean['foreground_miou']:.1f}", f"{mean['map50']:.1f}", f"{last:.1f}"]


def test_what_eight_bits_cost_is_what_evaluate_printed(repository: Path) -> None:
    plain, eight = (
        json.loads((repository / "docs" / "results" / f"default_test{end}.json").read_text())
        for end in ("", "_int8")
    )
    shipped = Manifest.load(repository / "models" / "default", check_files=False)
    assert (plain["precision"], eight["precision"]) == ("fp32", "int8")
    assert plain["model_sha256"] == eight["model_sha256"] == shipped.sha256
    said = f"takes on a CPU, the mean is {eight['mean']['foreground_miou']:.1f}"
    assert said in " ".join(README.read_text(encoding="utf-8").split())


def test_its_demo_figures_are_those_of_the_report(repository: Path) -> None:
    report = json.loads((repository / "docs" / "results" / "demo.json").read_text())
    promised = {p["name"]: [p["limit"], p["seen"]] for p in report["promises"]}
    rows = table_below("docs/results/demo.json")
    assert len(rows) >= 10
    for name, *rest in rows:
        assert promised[name] == rest
    assert all(p["held"] for p in report["promises"])


def test_its_latency_is_that_of_the_benchmark(repository: Path) -> None:
    def medians(name: str) -> tuple[Report, list[float]]:
        report = Report.load(repository / "docs" / "results" / name)
        found = report.values("latency", "p50")
        return report, [found["onnxruntime", p, "rgb+depth+thermal+audio"] for p in ("fp32", "int8")]

    report, (full, eight) = medians("bench_cpu.json")
    _, (other_full, other_eight) = medians("bench_cpu_epyc.json")
    text = " ".join(README.read_text(encoding="utf-8").split())
    assert (
        f"takes {full:.0f} ms (median) with four sensors, and {eight:.0f} ms in eight bits, "
        f"measured at a load of {report.head.load:.1f}"
    ) in text
    assert f"an AMD EPYC took {other_full:.0f} and {other_eight:.0f} ms" in text
