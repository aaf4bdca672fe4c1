"""What a recording costs, and whether it loses frames: four sensors at 30 Hz, 640x480, for some minutes.

    python benchmarks/record.py --minutes 1 --json docs/results/record.json

Starts `test/ros/talker.py` (rgb8, depth 16UC1, thermal 16UC1 as best effort, and sound, all at 30 Hz) and
`recorder_node` as processes of their own under the shipped Fast DDS profile, looks at the recorder's memory
and processor time once a second, and counts afterwards what is in the bag. The bag is removed unless --keep
names its folder.

Sent is what the talker published once every topic had a subscriber. Memory is the recorder's own, without the
shared memory of the middleware, by its mean in ten equal parts of the run: flat means that the last is not
above the first by more than the noise between them. Pictures are noise, which no compression makes smaller.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from robust_perception import arguments, environment  # noqa: E402
from robust_perception.bags.reader import BagReader  # noqa: E402
from robust_perception.bags.writer import STORAGES  # noqa: E402

RATE = 30
TOPICS = {
    "/rgb/image": "rgb:best_effort",
    "/depth/image": "depth:best_effort",
    "/thermal/image": "thermal:best_effort",
    "/audio": "audio:reliable",
}
MESSAGES = "sent"
DOMAIN = 101
PARTS = 10


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(prog="record", description="What a recording costs and loses.")
    parser.add_argument("--minutes", type=arguments.positive_number, default=1.0, help="default: %(default)s")
    parser.add_argument("--storage", choices=tuple(STORAGES), default="mcap", help="default: %(default)s")
    parser.add_argument("--compression", default="none", help="default: %(default)s")
    parser.add_argument("--conditions", default="", help="a word on what else the machine does")
    parser.add_argument("--keep", type=Path, help="folder for the bag and the logs")
    parser.add_argument("--json", type=Path, help="file for the figures")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; 0 when no frame was lost, 1 otherwise."""
    given = build_parser().parse_args(argv)
    arguments.make_way(given.json)
    with _folder(given.keep) as folder:
        report = measure(folder, given.minutes, given.storage, given.compression)
    report["conditions"] = given.conditions
    print(to_text(report))
    if given.json is not None:
        given.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0 if report["frames"]["lost"] == 0 else 1


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)


def measure(folder: Path, minutes: float, storage: str, compression: str) -> dict[str, Any]:
    """Record, and look what came of it.

    Args:
        folder: for the bag and the logs.
        minutes: length of the run.
        storage: of the bag.
        compression: of the bag.
    """
    frames = round(minutes * 60 * RATE)
    environ = {**os.environ, "ROS_DOMAIN_ID": str(DOMAIN), "PYTHONUNBUFFERED": "1"}
    environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(REPOSITORY), environ.get("PYTHONPATH"))))
    environment.prepare(environ)
    bag = folder / "bag"
    names = ", ".join(f"'{topic}'" for topic in TOPICS)
    values = [f"bag:={bag}", f"topics:=[{names}]", f"storage:={storage}", f"compression:={compression}"]
    words = [word for value in [*values, "progress:=1.0"] for word in ("-p", value)]
    recorder = _start(
        ["-m", "robust_perception.ros.recorder_node", "--ros-args", *words], environ, folder / "recorder.log"
    )
    speakers = [f"{topic}:{kind}" for topic, kind in TOPICS.items()]
    script = str(REPOSITORY / "test" / "ros" / "talker.py")
    talker = _start([script, str(frames), str(RATE), *speakers], environ, folder / "talker.log")
    try:
        looked = _look(psutil.Process(recorder.pid), talker, folder / "talker.log")
    finally:
        recorder.send_signal(signal.SIGINT)
        talker.send_signal(signal.SIGINT)
        code = recorder.wait(60)
        talker.wait(60)
    log = (folder / "recorder.log").read_text(encoding="utf-8")
    with BagReader(bag) as reader:
        recorded = Counter(message.topic for message in reader.messages())
        seconds, damage = (reader.end_ns - reader.start_ns) / 1e9, reader.damage
    size = sum(file.stat().st_size for file in bag.iterdir())
    closed = next(line for line in log.splitlines()[::-1] if "closed" in line)
    return {
        "schema": 1,
        "date": time.strftime("%Y-%m-%d"),
        "minutes": minutes,
        "storage": storage,
        "compression": compression,
        "machine": {"cores": len(os.sched_getaffinity(0)), "system": platform.platform(terse=True)},
        "load": round(os.getloadavg()[0], 2),
        "exit_code": code,
        "damage": damage,
        "frames": {
            "sent": frames * len(TOPICS),
            "recorded": recorded.total(),
            "lost": frames * len(TOPICS) - recorded.total(),
            "dropped_by_the_queue": int(closed.split(" dropped")[0].rpartition(", ")[2]),
            "by_topic": dict(sorted(recorded.items())),
        },
        "seconds": round(seconds, 2),
        "mb": round(size / 1e6, 1),
        "mb_per_s": round(size / 1e6 / seconds, 1),
        **looked,
    }


def _start(words: list[str], environ: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("w", encoding="utf-8") as out:
        return subprocess.Popen(
            [sys.executable, *words], env=environ, stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )


def _look(recorder: psutil.Process, talker: subprocess.Popen[bytes], log: Path) -> dict[str, Any]:
    """Once a second, until the talker has sent all: what the recorder costs."""
    memory: list[float] = []
    began, spent = 0.0, 0.0
    while talker.poll() is None and MESSAGES not in log.read_text(encoding="utf-8"):
        time.sleep(1.0)
        info = recorder.memory_info()
        rss = (info.rss - info.shared) / 1e6
        times = recorder.cpu_times()
        now = times.user + times.system
        if not began:  # it has loaded and found the talker, or soon will
            began, spent = time.monotonic(), now
        memory.append(rss)
    seconds = time.monotonic() - began
    memory = memory[3:]  # the first seconds: modules are loaded, queues and shared memory touched once
    part = max(len(memory) // PARTS, 1)
    course = [round(sum(memory[i : i + part]) / part, 1) for i in range(0, part * PARTS, part) if memory[i:]]
    return {
        "cpu_percent_of_one_core": round(100 * (now - spent) / seconds, 1),
        "rss_mb": {"course": course, "greatest": round(max(memory), 1)},
    }


def to_text(report: dict[str, Any]) -> str:
    """The figures in lines that people read."""
    frames, memory = report["frames"], report["rss_mb"]
    return "\n".join(
        [
            f"{report['storage']}, compression {report['compression']}, {report['seconds']} s",
            f"frames: {frames['sent']} sent, {frames['recorded']} recorded, {frames['lost']} lost, "
            f"{frames['dropped_by_the_queue']} of them dropped by the queue",
            f"bag: {report['mb']} MB, {report['mb_per_s']} MB/s",
            f"recorder: {report['cpu_percent_of_one_core']} % of one core, memory {memory['course']} MB in "
            f"the course of the run, {memory['greatest']} MB at most",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
