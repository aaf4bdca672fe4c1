"""A bag measured offline: what `evaluate` says of the folder it was made of, and what happened when."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from small_folder import FRAMES, RATE

from robust_perception.bags import truth, types
from robust_perception.bags.dataset import image
from robust_perception.bags.reader import BagReader
from robust_perception.bags.writer import BagWriter
from robust_perception.datasets import FIRST_STAMP_NS
from robust_perception.engine.engine import Engine
from robust_perception.evaluate import main
from robust_perception.evaluation.bag_source import BagSource
from robust_perception.evaluation.course import Course, follow
from robust_perception.evaluation.playback import Playback
from robust_perception.evaluation.protocol import choose_patterns, evaluate, open_dataset
from robust_perception.vocabulary import Pattern

S = 1_000_000_000


def test_label_maps_and_figures_are_those_of_the_folder(
    model: Path, data: Path, bag: Path, tmp_path: Path
) -> None:
    engine = Engine.load(model, threads=1)
    dataset = open_dataset(data, "test", engine.manifest.class_names)
    patterns = choose_patterns(engine, dataset)
    offline: dict[tuple[str, str], np.ndarray] = {}

    def keep(pattern: Pattern, name: str, label_map: np.ndarray) -> None:
        stamp = FIRST_STAMP_NS + round(dataset.names.index(name) * 1e9 / RATE)
        end = stamp - 1_000_000_000 if str(pattern) == "audio" else stamp  # sound is stamped at its start
        offline[str(pattern), str(end)] = label_map

    report = evaluate(engine, dataset, patterns, label_maps=keep)
    target, maps = tmp_path / "bag.json", tmp_path / "maps"
    words = ["--model", str(model), "--bag", str(bag), "--threads", "1", "--json", str(target)]
    everything = ",".join(map(str, patterns))
    assert main([*words, "--label-maps", str(maps), "--patterns", everything]) == 0
    written = {(f.parent.name, f.stem): cv2.imread(str(f), cv2.IMREAD_UNCHANGED) for f in maps.rglob("*.png")}
    assert len(written) == len(patterns) * FRAMES
    assert written.keys() == offline.keys()
    for key, label_map in offline.items():
        np.testing.assert_array_equal(written[key], label_map, err_msg=str(key))
    of_bag = json.loads(target.read_text())
    of_folder = report.to_json()
    assert of_bag["patterns"] == of_folder["patterns"]
    assert of_bag["mean"] == of_folder["mean"]


def test_a_reader_that_has_enough_takes_no_file_away(model: Path, bag: Path, tmp_path: Path) -> None:
    target = tmp_path / "bag.json"
    words = ["evaluate", "--model", str(model), "--bag", str(bag), "--threads", "1", "--json", str(target)]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        # Unbuffered, the table meets the pipe at once, not at the very end.
        [sys.executable, "-u", "-m", "robust_perception.cli", *words],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert done.returncode == 128 + signal.SIGPIPE, done.stderr
    assert "pipe" not in done.stderr
    assert json.loads(target.read_text())["passes"]


def test_one_pass_tells_what_came_when(model: Path, bag: Path, tmp_path: Path) -> None:
    target = tmp_path / "bag.json"
    assert main(["--model", str(model), "--bag", str(bag), "--json", str(target)]) == 0
    report = json.loads(target.read_text())
    (course,) = report["passes"].values()
    assert [round(p["time_s"], 3) for p in course["over_time"]] == [i / 10 for i in range(FRAMES)]
    assert all(p["foreground_miou"] is not None for p in course["over_time"])
    assert course["losses"] == []
    assert list(report["patterns"]) == ["rgb+depth+thermal+audio"]
    assert (report["bag"], report["faults"], len(report["bag_sha256"])) == ("bag", "no faults", 64)


def test_only_what_was_made_of_exactly_these_sensors_is_in_the_results(model: Path, bag: Path) -> None:
    engine = Engine.load(model, threads=1)
    source = BagSource(bag, engine.manifest.modalities, engine.manifest.class_names, ())

    def course(exactly: str | None) -> Course:
        pattern = None if exactly is None else Pattern.parse(exactly)
        told: list[float] = []
        found = follow(
            engine,
            Playback(engine, source),
            engine.manifest.class_names,
            exactly=pattern,
            overall=True,
            by_pattern=True,
            progress=told.append,
        )
        assert told == [point.time_s for point in found.points] and len(told) == FRAMES
        return found

    everything, other = course(None), course("rgb")
    (row,) = everything.by_pattern
    assert (row.frames, row.pattern) == (FRAMES, everything.points[0].pattern)
    assert everything.overall is not None and other.overall is not None
    assert everything.overall.to_json() == row.to_json()
    assert [(r.pattern, r.frames) for r in other.by_pattern] == [(Pattern.parse("rgb"), 0)]
    assert other.overall.frames == 0


def test_labels_beyond_the_models_classes_end_in_words(
    model: Path, long_bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with BagReader(long_bag) as bag, BagWriter(tmp_path / "bag") as writer:
        for message in bag.messages():
            writer.write(*message)
            label = image(np.full((64, 96), 7, np.uint8), "mono8", message.stamp_ns, "c")
            writer.write(truth.SEGMENTATION, types.IMAGE, label, message.stamp_ns)
    assert main(["--model", str(model), "--bag", str(tmp_path / "bag")]) == 1
    told = capsys.readouterr().err
    assert "/truth/segmentation of" in told
    assert "expected values below 3, the number of classes, or 255, got [7]; give" in told


def test_losses_are_measured_in_the_time_of_the_bag(
    model: Path, long_bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script, target = tmp_path / "faults.yaml", tmp_path / "bag.json"
    script.write_text("faults: [{at: 1.0, until: 2.5, sensor: depth, fault: loss}]")
    words = ["--model", str(model), "--bag", str(long_bag), "--json", str(target)]
    assert main([*words, "--faults", str(script)]) == 0
    report = json.loads(target.read_text())
    (course,) = report["passes"].values()
    (loss,) = course["losses"]
    assert (loss["sensor"], loss["last_s"], loss["first_s"]) == ("depth", 0.9, 2.5)
    assert 300 < loss["degrade_ms"] <= 304
    assert (loss["recover_ms"], loss["recover_frames"]) == (100, 2)
    assert list(report["patterns"]) == ["rgb+depth", "rgb"]
    told = capsys.readouterr()
    assert "no /truth topics" in told.err
    assert "output without it after 304 ms, back 100 ms after its first frame" in told.out
    assert re.search(r"3\.9 s in \d+\.\d s, \d+\.\d times as fast as recorded", told.out)


def test_a_sensor_that_dies_is_a_loss_and_a_pattern_that_never_came_has_a_row(
    model: Path, long_bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script, target = tmp_path / "faults.yaml", tmp_path / "bag.json"
    words = ["--model", str(model), "--bag", str(long_bag), "--json", str(target), "--faults", str(script)]
    script.write_text("faults: [{at: 1.0, sensor: depth, fault: loss}]")
    assert main(words) == 0
    (course,) = json.loads(target.read_text())["passes"].values()
    (loss,) = course["losses"]
    assert (loss["sensor"], loss["last_s"], loss["first_s"], loss["recover_ms"]) == ("depth", 0.9, None, None)
    assert 300 < loss["degrade_ms"] <= 304
    assert "1 losses of sensors\n" in capsys.readouterr().out
    assert main([*words, "--patterns", "rgb"]) == 0
    (course,) = json.loads(target.read_text())["passes"].values()
    assert course["losses"] == [], "of what is switched on"
    script.write_text("faults: [{at: 0.0, sensor: depth, fault: loss}]")
    assert main([*words, "--patterns", "rgb+depth,rgb"]) == 0
    report = json.loads(target.read_text())
    rows = {pattern: (row["frames"], row["map50"]) for pattern, row in report["patterns"].items()}
    assert rows == {"rgb+depth": (0, None), "rgb": (40, None)}


def test_times_count_from_the_start_of_the_bag_for_faults_and_outputs_alike(
    model: Path, tmp_path: Path
) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        writer.write("/other", types.AUDIO_INFO, b"\0\1\0\0", S)
        for i in range(25):
            stamp = 3 * S + i * S // 10
            pixels = np.full((64, 96, 3), i, np.uint8)
            writer.write("/rgb/image", types.IMAGE, image(pixels, "rgb8", stamp, "c"), stamp)
    script, target = tmp_path / "faults.yaml", tmp_path / "bag.json"
    script.write_text("faults: [{at: 3.0, until: 4.0, sensor: rgb, fault: loss}]")
    words = ["--model", str(model), "--bag", str(tmp_path / "bag"), "--json", str(target)]
    assert main([*words, "--faults", str(script)]) == 0
    (course,) = json.loads(target.read_text())["passes"].values()
    assert course["over_time"][0]["time_s"] == 2.0
    assert [(loss["last_s"], loss["first_s"]) for loss in course["losses"]] == [(2.9, 4.0)]


def test_the_same_bag_and_faults_give_the_same(model: Path, bag: Path, tmp_path: Path) -> None:
    texts = []
    for name in ("one", "two"):
        target = tmp_path / f"{name}.json"
        words = ["--model", str(model), "--bag", str(bag), "--json", str(target), "--threads", "1"]
        assert main([*words, "--faults", "severe", "--seconds", "0.4"]) == 0
        texts.append({k: v for k, v in json.loads(target.read_text()).items() if k != "seconds"})
    assert texts[0] == texts[1]
    assert texts[0]["frames"] == 5


@pytest.mark.parametrize(
    ("until", "told"),
    [
        (2.0, ""),
        (9.0, "expected 9 s for all its faults, got 3.9 s; never: freeze from 8 s; in part: loss from 3 s"),
    ],
)
def test_faults_for_which_the_bag_is_too_short_are_named(
    until: float, told: str, model: Path, long_bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "faults.yaml"
    windows = f"""
      - {{at: 1.0, until: 1.5, sensor: depth, fault: loss}}
      - {{at: {until - 1}, until: {until}, sensor: [rgb, depth], fault: freeze}}
      - {{at: {until / 3}, until: {until / 2}, sensor: depth, fault: loss}}
      - {{at: 3.5, sensor: rgb, fault: delay, seconds: 0.1}}
    """
    script.write_text(f"faults: {windows}")
    assert main(["--model", str(model), "--bag", str(long_bag), "--faults", str(script)]) == 0
    error = capsys.readouterr().err
    assert f"evaluate: faults.yaml: {told}\n" in error if told else "faults.yaml" not in error


def test_a_bag_needs_neither_torch_nor_rclpy(model: Path, bag: Path, repository: Path) -> None:
    program = (
        "import sys\n"
        "for name in ('torch', 'rclpy', 'sensor_msgs', 'vision_msgs', 'mujoco'):\n"
        "    sys.modules[name] = None\n"
        "from robust_perception.evaluate import main\n"
        f"sys.exit(main(['--model', {str(model)!r}, '--bag', {str(bag)!r}]))\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, cwd=repository, capture_output=True, text=True, timeout=120, env=os.environ
    )
    assert done.returncode == 0, done.stderr
