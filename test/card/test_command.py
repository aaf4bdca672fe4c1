"""The command on a tiny model: one page, the same twice, and a gate that closes."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import small_folder
from tiny_model import make_model

from robust_perception.bags.dataset import write_dataset
from robust_perception.card import command, under_faults
from robust_perception.card import page as page_of
from robust_perception.card.command import main
from robust_perception.card.measure import Measured, _spread
from robust_perception.card.memory import RememberingEngine
from robust_perception.card.page import NAMES
from robust_perception.card.under_faults import Case
from robust_perception.datasets import DatasetError, FolderDataset
from robust_perception.engine.engine import Engine
from robust_perception.evaluation.playback import Playback
from robust_perception.evaluation.report import to_text
from robust_perception.evaluation.stream import Slides
from robust_perception.faults.severities import KINDS_MEASURED, SEVERITIES, generated
from robust_perception.vocabulary import Modality, Pattern

Made = tuple[str, dict[str, Any]]
ROUND = ["--rounds", "1", "--threads", "1", "--slides", "3"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_folder.write(tmp_path_factory.mktemp("folder") / "data", 3)


@pytest.fixture(scope="module")
def measured(model: Path, data: Path) -> Measured:
    """A card, measured once."""
    words = ["--model", str(model), "--data", str(data), "--out", "card.html", *ROUND]
    return command.make(command.build_parser().parse_args(words))


@pytest.fixture(scope="module")
def made(measured: Measured) -> Made:
    """Its page and its numbers."""
    text = to_text(measured.content)
    return page_of.render(measured, None, "today"), json.loads(text, parse_constant=lambda n: pytest.fail(n))


class Tags(HTMLParser):
    """Tags and what they point to."""

    VOID = ("meta", "img", "line", "circle", "rect", "polyline", "br")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def lasting(page: str) -> str:
    return re.sub(r"<!--volatile-->.*?<!--/volatile-->", "", page, flags=re.S)


def test_the_page_needs_nothing_but_itself(made: Made) -> None:
    page, _ = made
    tags = Tags()
    tags.feed(page)
    assert tags.open == [], "every tag that needs it is closed"
    assert not {"script", "link", "iframe", "object"} & set(tags.seen)
    assert all(link.startswith("data:image/jpeg;base64,") for link in tags.links)
    assert tags.links
    assert not re.search(r"https?://|@import|url\(", page)
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page


def test_everything_is_measured_and_shown(made: Made) -> None:
    page, content = made
    assert len(content["patterns"]) == len(content["calibration"]) == 15
    assert {row["kind"] for row in content["faults"]["rows"]} == set(KINDS_MEASURED) == set(NAMES)
    for row in content["faults"]["rows"]:
        assert list(row["severities"]) == list(SEVERITIES)
        assert NAMES[row["kind"]] in page
    shares = content["importance"]["foreground"]
    full = content["patterns"]["rgb+depth+thermal+audio"]["foreground_miou"]
    assert sum(shares.values()) == pytest.approx(full)
    for name, row in content["importance"]["classes"].items():
        whole = content["patterns"]["rgb+depth+thermal+audio"]["per_class_iou"][name]
        assert sum(row.values()) == pytest.approx(whole)
    course = content["course"]
    assert [loss["sensor"] for loss in course["losses"][:4]] == ["rgb", "depth", "thermal", "audio"]
    assert all(300 < loss["degrade_ms"] <= 504 for loss in course["losses"][:4])
    assert {loss["recover_frames"] for loss in course["losses"]} == {2}
    assert (
        content["examples"]["best"][0]["foreground_miou"]
        >= content["examples"]["worst"][0]["foreground_miou"]
    )
    recipe = content["recipe"]
    assert {len(recipe[name]) for name in ("model_sha256", "data_sha256")} == {64}
    assert {"numpy", "onnxruntime", "robust_perception"} <= set(recipe["versions"])
    assert recipe["data_sha256"] in page


def test_what_is_said_in_short_is_what_was_measured_at_length(made: Made) -> None:
    _, content = made
    rows, summary, importance = content["patterns"], content["summary"], content["importance"]
    full = rows["rgb+depth+thermal+audio"]
    figures = {"foreground_miou": full["foreground_miou"], "map50": full["map50"]}
    assert summary["full"] == {"pattern": "rgb+depth+thermal+audio", **figures}
    for name in ("foreground_miou", "map50", "map50_95", "scene_map"):
        known = [row[name] for row in rows.values() if row[name] is not None]
        assert summary["mean"][name] == pytest.approx(sum(known) / len(known))
    worst = min((row["foreground_miou"], name) for name, row in rows.items())
    assert summary["worst"] == {"pattern": summary["worst"]["pattern"], "foreground_miou": worst[0]}
    assert rows[summary["worst"]["pattern"]]["foreground_miou"] == worst[0]
    assert full["scene_map"] == full["scene"]["mean_average_precision"]
    for name in ("map50", "scene_map"):
        assert sum(importance[name].values()) == pytest.approx(full[name])
    assert set(importance["classes"]) == {"cup", "box"}, "what lies behind is no thing"
    shares = importance["foreground"]
    assert content["faults"]["sensor"] == max(shares, key=shares.__getitem__)
    for name, row in rows.items():
        points = content["calibration"][name]["frames"]["points"]
        assert len(points) == row["frames"] == content["frames"] == 3
        assert sum(said for said, _ in points) / 3 == pytest.approx(row["confidence"])
    clean = content["faults"]["clean"]
    assert (clean["still"]["outputs"], clean["timed"]["outputs"]) == (3, 30), "three at ten a second, for one"


def test_slides_are_spread_over_the_split() -> None:
    assert _spread(10, 4) == [0, 2, 5, 7]
    assert _spread(3, 8) == [0, 1, 2]


def test_the_first_paragraph_says_what_the_numbers_say(made: Made) -> None:
    page, content = made
    full = content["patterns"]["rgb+depth+thermal+audio"]["foreground_miou"]
    lead = re.search(r'<p class="lead">(.*?)</p>', page, re.S)
    assert lead is not None
    assert f"it reaches {full:.1f} % foreground mIoU" in lead[1]
    assert f"within {content['course']['degrade_ms']:.0f} ms of its last frame" in lead[1]


def test_the_same_inputs_give_the_same_card(made: Made, model: Path, data: Path, tmp_path: Path) -> None:
    page, content = made
    words = ["--model", str(model), "--data", str(data), "--json", str(tmp_path / "card.json"), *ROUND]
    assert main([*words, "--out", str(tmp_path / "card.html")]) == 0
    assert lasting((tmp_path / "card.html").read_text(encoding="utf-8")) == lasting(page)
    again = json.loads((tmp_path / "card.json").read_text())
    assert again.pop("generated")
    assert again.pop("latency")
    assert again == {key: value for key, value in content.items() if key != "latency"}


def test_a_regression_closes_the_gate_and_the_page_shows_it(
    measured: Measured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "make", lambda given, sensor: measured)
    old = json.loads(to_text(measured.content))
    old["patterns"]["depth"]["foreground_miou"] += 7.0
    path, out = tmp_path / "old.json", tmp_path / "card.html"
    path.write_text(json.dumps(old))
    words = ["--model", "m", "--data", "d", "--out", str(out), "--against", str(path)]
    assert main([*words, "--tolerance", "8"]) == 0
    assert "no regression beyond 8 points" in capsys.readouterr().out
    assert main([*words, "--tolerance", "5"]) == 1
    told = capsys.readouterr().out
    assert "depth: mIoU" in told
    assert "(-7.0)" in told
    assert "figures are worse by more than" in out.read_text(encoding="utf-8")
    for tolerance in ("nan", "inf", "-1"):
        with pytest.raises(SystemExit) as ended:
            main([*words, "--tolerance", tolerance])
        assert ended.value.code == 2, "a gate that nothing closes"


@pytest.mark.parametrize("idle", [["--tolerance", "1"], ["--seconds", "2"], ["--topic", "rgb=/x"]])
def test_an_option_of_no_use_is_refused(idle: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--model", "m", "--data", "d", "--out", "o", *idle])
    assert ended.value.code == 2
    assert f"{idle[0]}: expected --" in capsys.readouterr().err


def test_plans_are_taken_from_a_named_folder(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Path | None] = []
    really = Engine.load
    monkeypatch.setattr(
        Engine, "load", lambda *given, **named: told.append(given[4]) or really(*given, **named)
    )
    words = ["--model", str(model), "--data", "none", "--out", "card.html", "--cache", "plans"]
    with pytest.raises(DatasetError):
        command.make(command.build_parser().parse_args(words))
    assert told == [Path("plans")]


def test_losses_and_faults_can_be_played_on_a_bag(
    model: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    two = [Case("delay", (Modality.RGB,), True), Case("noise", (Modality.DEPTH,), False)]
    hit: list[Modality] = []
    monkeypatch.setattr(under_faults, "cases", lambda sensors, first: hit.append(first) or two)
    write_dataset(FolderDataset(data, "test"), tmp_path / "bag", rate=10.0, labels=True)
    write_dataset(FolderDataset(data, "test"), tmp_path / "plain", rate=10.0)
    target = tmp_path / "card.json"
    words = ["--model", str(model), "--data", str(data), "--out", str(tmp_path / "card.html"), *ROUND]
    assert main([*words, "--bag", str(tmp_path / "bag"), "--json", str(target)]) == 0
    content = json.loads(target.read_text())
    assert content["faults"]["on_bag"]
    assert len(content["recipe"]["bag_sha256"]) == 64
    assert content["course"]["losses"] == [], "too short for one"
    assert content["faults"]["clean"]["still"] == content["faults"]["clean"]["timed"]
    assert content["recipe"]["topics"]["rgb"] == "/rgb/image"
    other = "audio" if hit[0] is not Modality.AUDIO else "depth"
    content["faults"]["sensor"] = other
    old = tmp_path / "old.json"
    old.write_text(json.dumps(content))
    assert main([*words, "--bag", str(tmp_path / "bag"), "--against", str(old)]) == 0
    assert hit[1] == other, "the rows are those of the older card, whatever matters most now"
    assert f"hit {other}, as in the card" in (tmp_path / "card.html").read_text(encoding="utf-8")
    capsys.readouterr()
    assert main([*words, "--bag", str(tmp_path / "plain")]) == 1
    assert "expected /truth topics, got none" in capsys.readouterr().err


def test_what_does_not_fit_is_one_clear_line(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for change, message in (
        ({"--split": "val"}, "val: expected a folder, got none"),
        ({"--limit": "2"}, "expected 3 frames and slides or more, got 2 frames and 8 slides"),
        ({"--against": str(tmp_path / "none.json")}, "none.json: expected the JSON of a card"),
        ({"--bag": str(tmp_path / "none")}, "expected a bag"),
        ({"--model": "nothing-like-it"}, "model: expected a folder or one of"),
        ({"--json": str(tmp_path)}, "expected a file to write, got a folder"),
    ):
        words = {"--model": str(model), "--data": str(data), "--out": str(tmp_path / "card.html"), **change}
        assert main([part for pair in words.items() for part in pair]) == 1
        error = capsys.readouterr().err
        assert error.startswith("card: ")
        assert message in error
        assert error.count("\n") == 1
        assert not (tmp_path / "card.html").exists()


def test_an_engine_that_remembers_says_the_same(model: Path, data: Path) -> None:
    engine = Engine.load(model, threads=1)
    slides = Slides(FolderDataset(data, "test"), [0, 1, 2], keep=3)
    script = generated("flap", "severe", [Modality.RGB], 10.0)
    remembering = RememberingEngine(engine)
    runs = [list(Playback(one, slides, script).run()) for one in (engine, remembering)]
    assert len(runs[0]) == len(runs[1]) > 25
    for plain, known in zip(*runs, strict=True):
        assert plain.published_ns == known.published_ns
        assert plain.measured_ns == known.measured_ns
        assert plain.perception.frame_set.pattern == known.perception.frame_set.pattern
        assert plain.perception.label_map.tobytes() == known.perception.label_map.tobytes()
        assert plain.perception.scores.tobytes() == known.perception.scores.tobytes()
    assert remembering.perceived < remembering.asked / 2
    assert {str(p.pattern) for p in runs[0]} >= {"depth+thermal+audio"}
    assert Pattern.of(slides.modalities) in {p.pattern for p in runs[0]}
