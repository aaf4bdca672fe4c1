"""Bags as a source of what is measured: whose topics, stamps or formats are others, and bad ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from small_folder import FRAMES

from robust_perception.bag import main as bag_command
from robust_perception.bags import truth, types
from robust_perception.bags.dataset import image
from robust_perception.bags.reader import BagReader
from robust_perception.bags.sensor_topics import SENSOR_TOPICS
from robust_perception.bags.stamps import restamped
from robust_perception.bags.writer import BagWriter
from robust_perception.datasets import FIRST_STAMP_NS, FolderDataset
from robust_perception.evaluate import main
from robust_perception.evaluation.bag_source import BagConfig, BagSource
from robust_perception.vocabulary import Modality


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


def test_a_topic_is_of_one_sensor(
    model: Path, bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--model", str(model), "--bag", str(bag)]
    for topics, message in (
        (("rgb=/depth/image", "depth=/depth/image"), "expected one sensor on /depth/image, got rgb and"),
        (("rgb=/rgb/image", "rgb=/depth/image"), "expected every sensor once, got rgb=/rgb/image rgb="),
    ):
        assert main([*words, *(word for topic in topics for word in ("--topic", topic))]) == 1
        assert message in capsys.readouterr().err
    report = tmp_path / "report.json"
    assert main([*words, "--topic", "thermal=/depth/image", "--json", str(report)]) == 0
    told = "depth: expected it on /depth/image, which was named for thermal; it is left out, unless --topic"
    assert told in capsys.readouterr().err
    assert list(json.loads(report.read_text())["passes"]) == ["rgb+thermal+audio"]
    swapped = {Modality.DEPTH: "/thermal/image", Modality.THERMAL: "/depth/image"}
    source = BagSource(bag, tuple(Modality), ("background", "cup", "box"), (), BagConfig(swapped))
    assert source.topics == {m: swapped.get(m, name) for m, name in SENSOR_TOPICS.items()}
    assert source.said == []


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
    lost = tmp_path / "lost.yaml"
    lost.write_text("faults: [{at: 0, sensor: all, fault: loss}]")
    typo = tmp_path / "typo.yaml"
    typo.write_text("seed: 1\nfaults:\n  - {at: 1, sensor: rgb, fault: los}\n")
    for words, message in (
        (["--bag", str(tmp_path / "nothing")], "expected a bag"),
        (["--bag", str(tmp_path / "empty")], "got an empty one"),
        (["--bag", str(tmp_path / "headless.mcap")], "damaged or truncated"),
        (["--bag", str(bag), "--faults", str(typo)], "typo.yaml:3: fault: expected one of loss"),
        (["--bag", str(bag), "--faults", str(lost)], f"an output under the faults of {lost}, got none"),
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


def test_a_gap_is_no_period_and_neither_is_what_comes_much_later(tmp_path: Path) -> None:
    times_ms = [0, 100, 200, 3_200, *range(3_300, 5_000, 100), *range(6_000, 60_000, 1_000)]
    with BagWriter(tmp_path / "bag") as writer:
        for ms in times_ms:
            stamp = FIRST_STAMP_NS + ms * 1_000_000
            data = image(np.zeros((4, 4, 3), np.uint8), "rgb8", stamp, "c")
            writer.write("/rgb/image", types.IMAGE, data, stamp)
    source = BagSource(tmp_path / "bag", (Modality.RGB,), ("background",), ())
    assert source.periods_s == {Modality.RGB: pytest.approx(0.1)}


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
