"""The protocol over all patterns, and the command, on a tiny model and folders written here."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest
import small_folder
from tiny_model import make_model

from robust_perception.datasets import DatasetError, FolderDataset
from robust_perception.engine.engine import Engine
from robust_perception.evaluate import main
from robust_perception.evaluation.errors import EvaluationError
from robust_perception.evaluation.protocol import choose_patterns, evaluate, offline_frame_set, open_dataset
from robust_perception.evaluation.report import PatternResult, Report
from robust_perception.evaluation.scene import SceneResult
from robust_perception.progress import ProgressLine, Steps
from robust_perception.vocabulary import Modality, Pattern, patterns_of

SIZE = (64, 96)
NAMES = ("background", "cup", "box")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three frames of rgb and depth whose labels are what the tiny model says to rgb alone."""
    split = tmp_path / "data" / "test"
    for folder in ("rgb", "depth", "label"):
        (split / folder).mkdir(parents=True)
    for index, name in enumerate("abc"):
        label = np.zeros(SIZE, np.uint8)
        label[:32, 32 * index : 32 * index + 32] = 2
        label[32:, :32] = 1
        # evidence k / 3 is class k: grey 85 k
        cv2.imwrite(str(split / "rgb" / f"{name}.png"), np.repeat(85 * label[..., None], 3, axis=2))
        cv2.imwrite(str(split / "depth" / f"{name}.png"), np.full(SIZE, 9000, np.uint16))
        cv2.imwrite(str(split / "label" / f"{name}.png"), label)
    table = {"fine": [{"id": i, "name": n} for i, n in enumerate(NAMES)]}
    (tmp_path / "data" / "classes.json").write_text(json.dumps(table))
    return tmp_path / "data"


def test_a_right_model_has_100_and_a_blind_one_has_not(model: Path, data: Path) -> None:
    engine = Engine.load(model, threads=1)
    dataset = open_dataset(data, "test", engine.manifest.class_names)
    report = evaluate(engine, dataset, choose_patterns(engine, dataset))
    results = {str(r.pattern): r for r in report.results}
    assert set(results) == {"rgb+depth", "rgb", "depth"}
    assert results["rgb"].foreground_miou == 100
    assert results["rgb"].per_class_iou == {"background": 100, "cup": 100, "box": 100}
    assert [r.frames for r in report.results] == [3, 3, 3]
    # 9 m everywhere is evidence 0.9: depth says class 2 at every pixel, and a sixth of them are
    assert results["depth"].per_class_iou == pytest.approx({"background": 0, "cup": 0, "box": 100 / 6})
    assert results["depth"].foreground_miou == pytest.approx(100 / 12)
    assert report.worst is not None
    assert report.worst.foreground_miou == min(r.foreground_miou for r in report.results)
    mean = np.mean([r.foreground_miou for r in report.results])
    assert report.mean["foreground_miou"] == pytest.approx(mean)


def test_encoders_run_once_a_frame_whatever_the_number_of_patterns(
    model: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine.load(model, threads=1)
    backend = engine._pipeline.backend
    original, names = backend.run, []

    def run(graph: str, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        names.append(graph)
        return original(graph, feeds)

    monkeypatch.setattr(backend, "run", run)
    dataset = open_dataset(data, "test", engine.manifest.class_names)
    evaluate(engine, dataset, choose_patterns(engine, dataset))
    assert {name: names.count(name) for name in set(names)} == {
        "encoder_rgb": 3,
        "encoder_depth": 3,
        "fusion": 9,
    }


def test_the_models_threshold_is_its_own_again_afterwards(model: Path, data: Path) -> None:
    engine = Engine.load(model, threads=1)
    engine.score_threshold = 0.7
    dataset = open_dataset(data, "test", engine.manifest.class_names)
    evaluate(engine, dataset, [Pattern.parse("rgb")], limit=1)
    assert engine.score_threshold == 0.7


def test_scene_classes_are_found_by_their_names(model: Path, tmp_path: Path) -> None:
    """Two quiet frames and two loud ones; without sound the tiny model says both classes with 1/2."""
    root = small_folder.write(tmp_path / "data", 4)
    table = json.loads((root / "classes.json").read_text()) | {"scene_names": ["loud", "wet", "quiet"]}
    (root / "classes.json").write_text(json.dumps(table))
    engine = Engine.load(model, threads=1)
    assert engine.manifest.scene_names == ("quiet", "loud")
    dataset = open_dataset(root, "test", engine.manifest.class_names)
    report = evaluate(engine, dataset, [Pattern.parse("rgb+audio"), Pattern.parse("rgb")])
    for result, precision in zip(report.results, (100.0, 50.0), strict=True):
        assert result.scene is not None
        assert result.scene.average_precision == {"quiet": precision, "loud": precision}
        assert result.scene.balanced_accuracy == {"quiet": 50.0, "loud": 50.0}
    (root / "classes.json").write_text(json.dumps(table | {"scene_names": ["wet"]}))
    (root / "test" / "scene.json").write_text(json.dumps({"00": ["wet"]}))
    dataset = open_dataset(root, "test", engine.manifest.class_names)
    assert evaluate(engine, dataset, [Pattern.parse("rgb")], limit=1).results[0].scene is None


@pytest.mark.parametrize(("grey", "map50"), [(3, 100.0), (2, 0.0)])
def test_boxes_count_from_a_hundredth_on_whatever_the_model_publishes(
    model: Path, data: Path, grey: int, map50: float
) -> None:
    engine = Engine.load(model, threads=1)
    assert engine.manifest.threshold(Pattern.parse("rgb")) == 0.3
    for name in "abc":
        seen, label = np.zeros((*SIZE, 3), np.uint8), np.zeros(SIZE, np.uint8)
        seen[:32, 32:64], label[:32, 32:64] = grey, 1  # a cup by 3 / 255 = 0.012, or by 0.008
        cv2.imwrite(str(data / "test" / "rgb" / f"{name}.png"), seen)
        cv2.imwrite(str(data / "test" / "label" / f"{name}.png"), label)
    dataset = open_dataset(data, "test", engine.manifest.class_names)
    report = evaluate(engine, dataset, [Pattern.parse("rgb")])
    assert report.results[0].map50 == pytest.approx(map50)
    assert report.to_json()["mean"]["map50"] == pytest.approx(map50)


def test_a_frame_without_a_sensor_is_left_out_of_its_patterns(model: Path, data: Path) -> None:
    (data / "test" / "depth" / "b.png").unlink()
    engine = Engine.load(model, threads=1)
    dataset = open_dataset(data, "test", engine.manifest.class_names)
    report = evaluate(engine, dataset, choose_patterns(engine, dataset))
    assert {str(r.pattern): r.frames for r in report.results} == {"rgb+depth": 2, "rgb": 3, "depth": 2}


def test_a_frame_set_made_offline_is_that_of_the_live_graph(data: Path) -> None:
    sample = FolderDataset(data, "test")[0]
    made = offline_frame_set(sample, Pattern.parse("rgb+depth"))
    assert made.reference is Modality.RGB
    assert set(made.header_age_ns.values()) == set(made.arrival_age_ns.values()) == {0}
    assert set(made.absent) == {Modality.THERMAL, Modality.AUDIO}
    with pytest.raises(EvaluationError, match=r"sample a: .* got none of \['thermal'\]"):
        offline_frame_set(sample, Pattern.parse("rgb+thermal"))


def test_real_data_gives_what_its_label_maps_say(shared_data: Path, tmp_path: Path) -> None:
    root = shared_data / "mm5_rgbdt"
    names = FolderDataset(root, "test", "coarse").class_names
    sensors = (Modality.RGB, Modality.DEPTH, Modality.THERMAL)
    model = make_model(tmp_path / "tiny", sensors, (240, 320), names, (), references=False)
    target, maps = tmp_path / "report.json", tmp_path / "maps"
    arguments = ["--model", str(model), "--data", str(root), "--json", str(target), "--label-maps", str(maps)]
    assert main([*arguments, "--limit", "6", "--threads", "1"]) == 0
    report = json.loads(target.read_text())
    assert list(report["patterns"]) == [str(p) for p in patterns_of(sensors)]
    mapping = np.array(json.loads((root / "classes.json").read_text())["fine_to_coarse"])
    for pattern, values in report["patterns"].items():
        files = sorted((maps / pattern).glob("*.png"))
        assert len(files) == 6
        said = np.stack([cv2.imread(str(f), cv2.IMREAD_UNCHANGED) for f in files])
        stored = [cv2.imread(str(root / "test" / "label" / f.name), cv2.IMREAD_UNCHANGED) for f in files]
        true = mapping[np.stack(stored)]
        found = [c for c in range(1, len(names)) if (true == c).any() or (said == c).any()]
        iou = [((true == c) & (said == c)).sum() / ((true == c) | (said == c)).sum() for c in found]
        assert values["foreground_miou"] == pytest.approx(100 * np.mean(iou))


def test_class_names_decide_between_fine_and_coarse(shared_data: Path) -> None:
    root = shared_data / "mm5_rgbdt"
    fine, coarse = (FolderDataset(root, "test", c).class_names for c in ("fine", "coarse"))
    assert open_dataset(root, "test", fine).class_names == fine
    assert open_dataset(root, "test", coarse).class_names == coarse
    with pytest.raises(EvaluationError, match=r"model's class names \['a', 'b'\], got fine \[.*; coarse \["):
        open_dataset(root, "test", ["a", "b"])
    with pytest.raises(EvaluationError, match="got fine"):
        open_dataset(root, "test", coarse, "fine")


def test_fine_names_that_are_no_use_do_not_keep_from_the_coarse_ones(data: Path) -> None:
    """Two fine classes of one name cannot be told apart, and need not be where the model knows groups."""
    names = ["background", "cup", "cup"]
    fine = [{"id": i, "name": name} for i, name in enumerate(names)]
    content = json.loads((data / "classes.json").read_text())
    content = {"fine": fine, "scene_names": content.get("scene_names", [])}
    grouped = {"coarse_names": ["background", "any cup"], "fine_to_coarse": [0, 1, 1]}
    (data / "classes.json").write_text(json.dumps(content | grouped))
    assert open_dataset(data, "test", ["background", "any cup"]).class_names == ("background", "any cup")
    with pytest.raises(DatasetError, match="got 'cup' for"):
        open_dataset(data, "test", names)
    with pytest.raises(DatasetError, match="expected 'coarse_names'"):
        (data / "classes.json").write_text(json.dumps(content | {"fine": fine[:2]}))
        open_dataset(data, "test", ["background", "any cup"], "coarse")


def test_other_class_names_show_both_sides(data: Path) -> None:
    with pytest.raises(
        EvaluationError, match=r"expected the model's class names \['x', 'y'\], got fine \['background'"
    ):
        open_dataset(data, "test", ["x", "y"])


def test_patterns_are_those_of_model_and_data(model: Path, data: Path) -> None:
    engine = Engine.load(model, threads=1)
    dataset = open_dataset(data, "test", engine.manifest.class_names)
    assert choose_patterns(engine, dataset) == patterns_of([Modality.RGB, Modality.DEPTH])
    assert choose_patterns(engine, dataset, [Pattern(2)]) == (Pattern(2),)
    with pytest.raises(EvaluationError, match=r"pattern rgb\+thermal: .*data \(rgb, depth\) both have"):
        choose_patterns(engine, dataset, [Pattern.parse("rgb+thermal")])


def test_the_command_writes_everything_it_promises(model: Path, data: Path, tmp_path: Path) -> None:
    target = tmp_path / "out" / "report.json"
    maps = tmp_path / "maps"
    arguments = ["--model", str(model), "--data", str(data), "--json", str(target), "--label-maps", str(maps)]
    assert main([*arguments, "--threads", "1"]) == 0
    report = json.loads(target.read_text(), parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert report["model"] == "tiny"
    assert report["split"] == "test"
    assert report["frames"] == 3
    assert len(report["model_sha256"]) == 64
    assert {"numpy", "onnxruntime", "faster-coco-eval", "opencv"} <= set(report["versions"])
    assert report["seconds"] > 0
    assert report["patterns"]["rgb"]["foreground_miou"] == 100
    assert set(report["patterns"]["rgb"]["per_class_iou"]) == set(NAMES)
    assert report["patterns"]["rgb"]["scene"] is None
    assert report["mean"]["scene_map"] is None
    assert report["worst"]["pattern"] in report["patterns"]
    written = cv2.imread(str(maps / "rgb" / "a.png"), cv2.IMREAD_UNCHANGED)
    truth = cv2.imread(str(data / "test" / "label" / "a.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(written, truth)
    assert len(list(maps.rglob("*.png"))) == 9


def test_the_command_can_be_narrowed(model: Path, data: Path, tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    arguments = ["--model", str(model), "--data", str(data), "--json", str(target)]
    assert main([*arguments, "--patterns", "depth,rgb+depth", "--limit", "2"]) == 0
    report = json.loads(target.read_text())
    assert list(report["patterns"]) == ["depth", "rgb+depth"]
    assert report["frames"] == 2


def test_a_full_disk_is_one_clear_line_after_the_table(
    model: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--model", str(model), "--data", str(data), "--patterns", "rgb", "--limit", "1"]
    assert main([*words, "--json", "/dev/full"]) == 1
    told = capsys.readouterr()
    assert "rgb" in told.out
    assert told.err.splitlines()[-1].startswith("evaluate: [Errno 28]")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--model": "nothing-like-it"}, "model: expected a folder or one of"),
        ({"--split": "val"}, "val: expected a folder, got none"),
        ({"--patterns": "thermal"}, "pattern thermal: expected sensors that model"),
        ({"--precision": "fp16"}, "onnxruntime: runs int8, fp32, not fp16"),
        ({"--classes": "coarse"}, "coarse_names"),
        ({"--json": "."}, "expected a file to write, got a folder"),
    ],
)
def test_what_does_not_fit_is_one_clear_line(
    model: Path, data: Path, capsys: pytest.CaptureFixture[str], change: dict[str, str], message: str
) -> None:
    arguments = {"--model": str(model), "--data": str(data), **change}
    assert main([part for pair in arguments.items() for part in pair]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("evaluate: ")
    assert error.count("\n") == 1


def test_plans_are_taken_from_a_named_folder(
    model: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Path | None] = []
    really = Engine.load
    monkeypatch.setattr(
        Engine, "load", lambda *given, **named: told.append(given[4]) or really(*given, **named)
    )
    words = ["--model", str(model), "--data", str(data), "--patterns", "rgb", "--limit", "1"]
    assert main([*words, "--cache", "plans"]) == 0
    assert told == [Path("plans")]


def test_wrong_usage_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--model", "m", "--data", "d", "--patterns", "rgb+radar"])
    assert stop.value.code == 2
    assert "got 'rgb+radar'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--data", "d", "--html", "h"], "--html: expected --bags beside it"),
        (["--data", "d", "--faults", "no such script"], "--faults: expected --bag or --bags beside it"),
        (["--data", "d", "--workers", "2"], "--workers: expected --bags beside it"),
        (["--data", "d", "--sec", "2"], "--seconds: expected --bag or --bags beside it"),
        (["--data", "d", "--topic", "rgb=/x"], "--topic: expected --bag or --bags beside it"),
        (["--data", "d", "--depth-scale", "0.001"], "--depth-scale: expected --bag or --bags beside it"),
        (["--bag", "b", "--split", "test"], "--split: expected --data beside it"),
        (["--bag", "b", "--results", "fleet_results"], "--results: expected --bags beside it"),
        (["--bags", "b", "--limit", "1"], "--limit: expected --data beside it"),
        (["--bags", "b", "--classes", "auto"], "--classes: expected --data beside it"),
    ],
)
def test_an_option_of_no_use_is_refused(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--model", "m", *words])
    assert stop.value.code == 2
    assert said in capsys.readouterr().err


def test_progress_tells_the_time_left() -> None:
    times = iter([0.0, 2.0, 4.0])
    stream = io.StringIO()
    line = ProgressLine(stream, clock=lambda: next(times))
    line(1, 4)
    line(2, 4)
    assert stream.getvalue().splitlines() == [
        "1/4 frames, 2 s passed, 6 s left",
        "2/4 frames, 4 s passed, 4 s left",
    ]


def test_steps_tell_the_time_passed() -> None:
    times = iter([1.0, 1.2, 91.0])
    stream = io.StringIO()
    say = Steps("export", stream, clock=lambda: next(times))
    say("graphs in fp32")
    say("done")
    assert stream.getvalue() == "export, 0 s: graphs in fp32\nexport, 90 s: done\n"


def test_means_and_the_worst_are_of_the_patterns_that_have_a_value() -> None:
    nan = float("nan")
    scene = SceneResult({"quiet": 80.0, "loud": 60.0, "never": nan}, {})
    unknown = PatternResult(Pattern.parse("audio"), 0, nan, {}, nan, nan, None, nan)
    rgb = PatternResult(Pattern.parse("rgb"), 12, 40.0, {}, 50.0, 30.0, scene, 0.9)
    depth = PatternResult(Pattern.parse("depth"), 7, 20.0, {}, nan, 10.0, None, 0.8)
    report = Report({}, 12, [rgb, depth, unknown], 1.0)
    assert report.mean == {"foreground_miou": 30.0, "map50": 50.0, "map50_95": 20.0, "scene_map": 70.0}
    assert report.worst is depth
    assert report.table().splitlines() == [
        "pattern  frames   mIoU  mAP50  mAP50-95  scene mAP",
        "--------------------------------------------------",
        "rgb          12  40.00  50.00     30.00      70.00",
        "depth         7  20.00      -     10.00          -",
        "audio         0      -      -         -          -",
        "--------------------------------------------------",
        "mean             30.00  50.00     20.00      70.00",
        "worst: depth with 20.00 mIoU",
    ]
    content = json.loads(report.to_text())
    assert content["mean"] == report.mean
    assert content["worst"] == {"pattern": "depth", "foreground_miou": 20.0}
    assert content["patterns"]["rgb"]["scene"]["average_precision"]["never"] is None


def test_undefined_values_are_null_and_dashes() -> None:
    nan = float("nan")
    result = PatternResult(Pattern(8), 0, nan, {"background": nan}, nan, nan, None, nan)
    report = Report({"model": "x"}, 0, [result], 1.0)
    content = json.loads(report.to_text())
    assert content["patterns"]["audio"]["foreground_miou"] is None
    assert content["worst"] == {"pattern": None, "foreground_miou": None}
    assert "nan" not in report.table().lower()


def test_evaluation_needs_neither_torch_nor_rclpy(model: Path, data: Path, repository: Path) -> None:
    program = (
        "import sys\n"
        "sys.modules['torch'] = sys.modules['rclpy'] = None\n"
        "from robust_perception.evaluate import main\n"
        f"sys.exit(main(['--model', {str(model)!r}, '--data', {str(data)!r}, '--limit', '1']))\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=60, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert "worst: depth" in done.stdout
