"""A bag measured offline: what `evaluate` says of the folder it was made of, and what happened when."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import small_folder
from tiny_model import make_model

from robust_perception.bag import main as bag_command
from robust_perception.bags import truth, types
from robust_perception.bags.dataset import image, write_dataset
from robust_perception.bags.reader import BagReader
from robust_perception.bags.stamps import restamped
from robust_perception.bags.writer import BagWriter
from robust_perception.datasets import FIRST_STAMP_NS, FolderDataset
from robust_perception.engine.engine import Engine
from robust_perception.evaluate import main
from robust_perception.evaluation.bag_source import BagConfig, BagSource
from robust_perception.evaluation.protocol import choose_patterns, evaluate, open_dataset
from robust_perception.vocabulary import Modality, Pattern

RATE = 10.0
S = 1_000_000_000
FRAMES = 6


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_folder.write(tmp_path_factory.mktemp("folder") / "data", FRAMES)


@pytest.fixture(scope="module")
def bag(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bags") / "bag"
    write_dataset(FolderDataset(data, "test"), path, rate=RATE, labels=True)
    return path


@pytest.fixture(scope="module")
def long_bag(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds of changing frames, without labels."""
    path = tmp_path_factory.mktemp("bags") / "long"
    dataset = FolderDataset(data, "test")
    with BagWriter(path) as writer:
        for i in range(40):
            stamp = FIRST_STAMP_NS + i * 100_000_000
            sample = dataset[i % FRAMES].frames
            for m in list(sample)[:2]:
                values = sample[m].data
                encoding = "rgb8" if values.ndim == 3 else "32FC1"
                writer.write(f"/{m}/image", types.IMAGE, image(values, encoding, stamp, "c"), stamp)
    return path


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
    script.write_text("faults: [{at: 0.0, sensor: depth, fault: loss}]")
    assert main([*words, "--patterns", "rgb+depth,rgb"]) == 0
    report = json.loads(target.read_text())
    rows = {pattern: (row["frames"], row["map50"]) for pattern, row in report["patterns"].items()}
    assert rows == {"rgb+depth": (0, None), "rgb": (40, None)}
    assert report["passes"]["rgb"]["losses"] == [], "of what is switched on"


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


def test_a_sensor_that_was_named_and_gave_nothing_is_an_error(
    model: Path, bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, script = tmp_path / "bag", tmp_path / "faults.yaml"
    script.write_text("faults: [{at: 0.0, sensor: depth, fault: loss}]")
    with BagReader(bag) as reader, BagWriter(path) as writer:
        for m in reader.messages(["/rgb/image", "/depth/image"]):
            writer.write(m.topic, m.msgtype, m.data, m.stamp_ns)
            if m.topic == "/rgb/image":  # 8 bits a pixel are no distances
                writer.write("/depth/preview", m.msgtype, m.data, m.stamp_ns)
    words = ["--model", str(model), "--bag", str(path)]
    assert main([*words, "--topic", "depth=/depth/preview"]) == 1
    error = capsys.readouterr().err
    assert f"{path}: depth: expected frames on /depth/preview, which was named for it, got none" in error
    assert f"{FRAMES} x depth: wrong encoding: expected" in error
    assert "the bag has the topics ['/depth/image', '/depth/preview', '/rgb/image']" in error
    assert main([*words, "--topic", "depth=/depth/image"]) == 0
    assert main([*words, "--topic", "depth=/depth/image", "--faults", str(script)]) == 0
    named = BagConfig({Modality.DEPTH: "/depth/image"})
    source = BagSource(path, (Modality.RGB,), ("background",), (), named)
    assert source.said == ["depth: expected a sensor of the model, got none; /depth/image is not read"]


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


def test_topics_of_other_names_are_found_when_named(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = np.random.default_rng(1).integers(0, 255, (64, 96, 3), np.uint8)
    with BagWriter(tmp_path / "bag") as writer:
        for i in range(1, 6):
            data = image(np.roll(pixels, i, 0), "rgb8", i * 10**8, "c")
            writer.write("/camera/color/image_raw", types.IMAGE, data, i * 10**8)
        writer.write("/camera/info", types.AUDIO_INFO, b"\0\1\0\0", 10**8)
    words = ["--model", str(model), "--bag", str(tmp_path / "bag")]
    for extra, message in (
        ([], "expected a topic of a sensor"),
        (["--topic", "rgb=/nothing"], "rgb: expected a topic out of ['/camera/color/image_raw'"),
        (["--topic", "rgb=/camera/info"], "expected sensor_msgs/msg/Image or sensor_msgs/msg/Compressed"),
    ):
        assert main([*words, *extra]) == 1
        error = capsys.readouterr().err
        assert error.startswith("evaluate: ")
        assert message in error
    assert main([*words, "--topic", "rgb=/camera/color/image_raw"]) == 0


@pytest.mark.parametrize(
    ("stamps_s", "received_s", "words"), [(0, 900, "the header age is 900.000 s"), (5, 0, "is 5.000 s ahead")]
)
def test_stamps_of_another_clock_are_named_and_taken_when_told(
    stamps_s: int,
    received_s: int,
    words: str,
    model: Path,
    data: Path,
    bag: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    moved = tmp_path / "moved"
    with BagReader(bag) as reader, BagWriter(moved) as writer:
        for m in reader.messages():
            own = m.msgtype not in (types.AUDIO_INFO, truth.LABEL_INFO_TYPE)
            told = restamped(m.data, lambda stamp: stamp + stamps_s * 10**9) if own else m.data
            writer.write(m.topic, m.msgtype, told, m.stamp_ns + received_s * 10**9)
    words_of = {"evaluate": ["--model", str(model), "--bag", str(moved)], "bag": ["to-dataset", str(moved)]}
    words_of["bag"] += ["--out", str(tmp_path / "out"), "--split", "test"]
    reports = []
    for command, run in (("evaluate", main), ("bag", bag_command)):
        assert run(words_of[command]) == 1
        error = capsys.readouterr().err.splitlines()[-1]
        assert "got none: rgb: " in error
        assert words in error
        assert "are taken with --no-header-age" in error
        assert run([*words_of[command], "--no-header-age"]) == 0
    assert len(FolderDataset(tmp_path / "out", "test")) == FRAMES
    for path, more in ((moved, ["--no-header-age"]), (bag, [])):
        target = tmp_path / "report.json"
        assert main(["--model", str(model), "--bag", str(path), "--json", str(target), *more]) == 0
        report = json.loads(target.read_text())
        reports.append((report["patterns"], report["passes"]))
    assert reports[0] == reports[1], "outputs, quality and times are those of a bag with one clock"


def test_bad_bags_and_scripts_are_one_clear_line(
    model: Path,
    bag: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with BagWriter(tmp_path / "empty") as writer:
        writer.add_topic("/rgb/image", types.IMAGE)
    whole = next(bag.glob("*.mcap")).read_bytes()
    (tmp_path / "cut.mcap").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "headless.mcap").write_bytes(b"\0" * 64 + whole[64:])
    typo = tmp_path / "typo.yaml"
    typo.write_text("seed: 1\nfaults:\n  - {at: 1, sensor: rgb, fault: los}\n")
    for words, message in (
        (["--bag", str(tmp_path / "nothing")], "expected a bag"),
        (["--bag", str(tmp_path / "empty")], "got an empty one"),
        (["--bag", str(tmp_path / "headless.mcap")], "damaged or truncated"),
        (["--bag", str(bag), "--faults", str(typo)], "typo.yaml:3: fault: expected one of loss"),
        (["--bag", str(bag), "--faults", "sever"], "faults: expected a file, or one of"),
        (["--bag", str(bag), "--patterns", "rgb"], ""),
    ):
        code = main(["--model", str(model), *words])
        error = capsys.readouterr().err
        assert code == (1 if message else 0)
        assert message in error
        if message:
            assert error.startswith("evaluate: ")
            assert error.count("\n") == 1
    assert main(["--model", str(model), "--bag", str(tmp_path / "cut.mcap")]) == 0
    assert "expected a whole bag, got one with" in caplog.text  # and goes on with what it holds


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


def test_sound_without_its_description_is_read_as_told(
    model: Path, bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    silent = tmp_path / "silent"
    with BagReader(bag) as reader, BagWriter(silent) as writer:
        for message in reader.messages():
            if message.msgtype != types.AUDIO_INFO:
                writer.write(*message)
    script = tmp_path / "faults.yaml"
    script.write_text("faults: [{at: 0.2, until: 0.4, sensor: audio, fault: noise, sigma: 0.2}]")
    told = ["--audio-sample-rate", "16000", "--audio-channels", "1", "--audio-sample-format", "S16LE"]
    reports = []
    for path, extra in ((bag, []), (silent, told)):
        target = tmp_path / "report.json"
        words = ["--model", str(model), "--bag", str(path), "--json", str(target), "--faults", str(script)]
        assert main([*words, *extra]) == 0
        report = json.loads(target.read_text())
        reports.append((report["patterns"], report["passes"]))
    assert list(reports[0][0]) == ["rgb+depth+thermal+audio"]
    assert reports[0] == reports[1]
    capsys.readouterr()
    for extra, message in (
        (["--audio-channels", "2"], "--audio-channels: expected --audio-sample-rate beside it, got none"),
        ([*told[:2], "--audio-sample-format", "u8"], "expected a sample format out of S16LE, "),
        (["--patterns", "audio"], "(of a bag: --audio-sample-rate, --audio-channels, "),
    ):
        assert main(["--model", str(model), "--bag", str(silent), *extra]) == 1
        assert message in capsys.readouterr().err


def test_a_slow_sensor_that_begins_late_has_its_own_period(data: Path, tmp_path: Path) -> None:
    sample = FolderDataset(data, "test")[0].frames
    with BagWriter(tmp_path / "bag") as writer:
        for i in range(300):
            stamp = FIRST_STAMP_NS + i * 33_000_000
            rgb = image(sample[Modality.RGB].data, "rgb8", stamp, "c")
            writer.write("/rgb/image", types.IMAGE, rgb, stamp)
            if i >= 250 and i % 15 == 0:
                thermal = image(sample[Modality.THERMAL].data, "32FC1", stamp, "c")
                writer.write("/thermal/image", types.IMAGE, thermal, stamp)
    sensors = (Modality.RGB, Modality.THERMAL)
    source = BagSource(tmp_path / "bag", sensors, ("background",), ())
    assert source.periods_s == {Modality.RGB: pytest.approx(0.033), Modality.THERMAL: pytest.approx(0.495)}


def test_sound_in_a_format_that_is_refused_live_is_refused_and_the_others_are_measured(
    model: Path, bag: Path, tmp_path: Path
) -> None:
    said = types.message_class(types.AUDIO_INFO)(
        channels=1, sample_rate=16000, sample_format="S16LE", bitrate=128, coding_format="mp3"
    )
    with BagReader(bag) as reader, BagWriter(tmp_path / "bag") as writer:
        for message in reader.messages():
            data = message.data
            if message.msgtype == types.AUDIO_INFO:
                data = types.serialize(said, types.AUDIO_INFO)
            writer.write(message.topic, message.msgtype, data, message.stamp_ns)
    report = tmp_path / "report.json"
    assert main(["--model", str(model), "--bag", str(tmp_path / "bag"), "--json", str(report)]) == 0
    content = json.loads(report.read_text())
    (course,) = content["passes"].values()
    assert any(reason.startswith("audio: ") and "mp3" in reason for reason in course["refused"])
    assert "rgb+depth+thermal" in content["patterns"]
