"""`robust-perception bag`: what is in a bag, data folders as bags, and whether replay equals evaluation.

`record` runs `recorder_node` in this process, so that both do the same.

`check` plays a split through the live graph under every pattern and compares each label map, pixel by pixel,
with the one that `robust-perception evaluate` gives for the same frame and pattern.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from robust_perception import arguments
from robust_perception.bags import repair
from robust_perception.bags.dataset import write_dataset
from robust_perception.bags.errors import BagError
from robust_perception.bags.folder import FolderWriter, resized
from robust_perception.bags.layouts import open_folder, times_of
from robust_perception.bags.reader import BagReader
from robust_perception.bags.truth import class_names_in, scene_names_in
from robust_perception.bags.writer import STORAGES
from robust_perception.datasets import FIRST_STAMP_NS, DatasetError
from robust_perception.evaluation.bag_source import BagConfig, BagSource
from robust_perception.evaluation.samples import samples
from robust_perception.faults.errors import FaultError
from robust_perception.faults.find import find_script
from robust_perception.runtime.decoders import ImageUnits
from robust_perception.runtime.pacing import RATE_HZ
from robust_perception.vocabulary import MODALITIES, Modality, Pattern


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="robust-perception bag",
        description="Look into bags, record, make and repair them, check replay. record and check need ROS.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    info = commands.add_parser("info", help="topics, types, numbers of messages and rates of a bag")
    info.add_argument("bag", type=Path, help="folder of the bag, or its .mcap or .db3 file")
    _add_record(commands)
    make = commands.add_parser("from-dataset", help="write a split of a data folder as a bag")
    make.add_argument(
        "--data",
        required=True,
        type=Path,
        help="folder with <split>/{rgb,depth,thermal,audio}, or without splits",
    )
    make.add_argument("--split", default="test", help="split to write (default: %(default)s)")
    make.add_argument("--out", required=True, type=Path, help="folder of the new bag")
    make.add_argument(
        "--rate", type=arguments.rate, help="frames a second (default: as the folder tells, else 2)"
    )
    make.add_argument("--size", type=arguments.picture_size, metavar="WxH", help="make all pictures so large")
    make.add_argument("--limit", type=arguments.positive, help="only the first frames")
    make.add_argument("--labels", action="store_true", help="write the truth too, for `evaluate --bag`")
    make.add_argument("--classes", choices=("fine", "coarse"), default="fine", help="labels to write")
    make.add_argument("--storage", choices=tuple(STORAGES), default="mcap", help="default: %(default)s")
    make.add_argument(
        "--modalities",
        nargs="+",
        type=Modality,
        default=MODALITIES,
        metavar="SENSOR",
        help=f"out of {', '.join(m.value for m in MODALITIES)} (default: all that the split has)",
    )
    _add_to_dataset(commands)
    mend = commands.add_parser("repair", help="make a bag whole that was cut off, or is damaged")
    mend.add_argument("bag", type=Path, help="folder of the bag, or its .mcap or .db3 file")
    mend.add_argument("--out", type=Path, help="folder of a new bag for what can be read (default: in place)")
    check = commands.add_parser(
        "check", help="replay a split through the live graph, compare with evaluation"
    )
    check.add_argument("--model", required=True, help="model folder, or name of an installed model")
    check.add_argument(
        "--data", required=True, type=Path, help="folder with <split>/{rgb,depth,thermal,audio}"
    )
    check.add_argument("--split", default="test", help="split to replay (default: %(default)s)")
    check.add_argument("--limit", type=arguments.positive, help="only the first frames")
    check.add_argument(
        "--patterns",
        type=arguments.patterns,
        default=(),
        help="comma-separated, e.g. rgb+thermal,depth (default: all)",
    )
    check.add_argument("--rate", type=arguments.rate, default=3.0, help="frames a second (%(default)s)")
    check.add_argument("--domain", type=int, default=os.getpid() % 60 + 41, help="ROS domain of the graph")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command: 0 when it did as asked, 1 when bag or data do not allow it, 2 on wrong usage."""
    given = build_parser().parse_args(argv)
    try:
        if given.command == "info":
            print(describe(given.bag))
            return 0
        if given.command == "record":
            return record(given)
        if given.command == "repair":
            print(mend(given.bag, given.out))
            return 0
        if given.command == "check":
            return check(given)
        if given.command == "to-dataset":
            return to_dataset(given)
        dataset = open_folder(given.data, given.split, given.classes)
        written = write_dataset(
            dataset,
            given.out,
            rate=given.rate or 2.0,
            modalities=given.modalities,
            limit=given.limit,
            storage=given.storage,
            labels=given.labels,
            times=times_of(dataset) if given.rate is None else None,
            size=given.size,
            say=_say,
        )
        print(f"{given.out}: {written} messages of {len(dataset.names[: given.limit])} frames")
    except (BagError, DatasetError, CheckError, FaultError) as error:
        print(f"robust-perception bag: {error}", file=sys.stderr)
        return 1
    return 0


def _add_to_dataset(commands: Any) -> None:
    back = commands.add_parser("to-dataset", help="write what a bag's frame sets show as a data folder")
    back.add_argument("bag", type=Path, help="folder of the bag, or its .mcap or .db3 file")
    back.add_argument("--out", required=True, type=Path, help="the new data folder")
    back.add_argument(
        "--split",
        dest="splits",
        nargs="+",
        type=arguments.share,
        default=[("train", 1.0)],
        metavar="NAME[=SHARE]",
        help="splits and their shares, in blocks by time, e.g. train=0.8 val=0.1 test=0.1 (default: train)",
    )
    back.add_argument("--limit", type=arguments.positive, help="only the first samples")
    back.add_argument(
        "--rate", type=arguments.rate, default=RATE_HZ, help="most samples a second (%(default)s)"
    )
    back.add_argument(
        "--slop",
        type=arguments.positive_number,
        help="seconds between the frames of one sample at most (default: 0.9 periods of each sensor)",
    )
    back.add_argument("--complete", action="store_true", help="only samples that lack no sensor of the bag")
    back.add_argument("--size", type=arguments.picture_size, metavar="WxH", help="make all pictures so large")
    back.add_argument("--faults", default="", help="fault script: a file, or a name out of config/faults")
    arguments.add_bag_options(back)


def to_dataset(given: argparse.Namespace) -> int:
    """Write a bag as a data folder; 0, or BagError when there is not one sample in it."""
    from robust_perception.evaluate import ProgressLine

    units = ImageUnits(given.depth_scale, given.thermal_scale, given.thermal_offset)
    with BagReader(given.bag) as bag:
        class_names, scene_names = class_names_in(bag) or (), scene_names_in(bag)
    config = BagConfig(dict(given.topic), units, given.seconds)
    source = BagSource(given.bag, MODALITIES, class_names, scene_names, config)
    refused: dict[str, int] = {}
    found = samples(
        source,
        rate_hz=given.rate,
        slop_s=given.slop,
        script=find_script(given.faults),
        refused=refused,
    )
    if given.complete:
        found = (sample for sample in found if len(sample.frames) == len(source.modalities))
    with FolderWriter(given.out, class_names, scene_names) as folder:
        line = ProgressLine(sys.stderr, unit="s of the bag", scale=0.1)
        tenths, first_ns = max(1, round(10 * source.seconds)), None
        for sample in islice(found, given.limit):
            stamp_ns = int(sample.name)
            folder.add(sample if given.size is None else resized(sample, given.size), stamp_ns)
            first_ns = first_ns or stamp_ns
            line(min(max(1, (stamp_ns - first_ns) // 100_000_000), tenths), tenths)
        for text, count in refused.items():
            _say(f"{count} x {text}")
        if not folder.count:
            msg = f"{given.bag}: expected a frame that the live graph would take, got none"
            raise BagError(msg)
        sizes = folder.finish(dict(given.splits))
    for text in source.said:
        _say(text)
    if source.has_truth and not class_names:
        _say(
            "the bag has labels and no /truth/label_info that names them: no classes.json was written, and "
            "no boxes"
        )
    print(f"{given.out}: " + ", ".join(f"{split} {count} samples" for split, count in sizes.items()))
    return 0


def _say(text: str) -> None:
    print(f"robust-perception bag: {text}", file=sys.stderr)


class CheckError(Exception):
    """The comparison cannot be made; the message says why."""


LabelMap = npt.NDArray[np.uint8]


class Comparison(NamedTuple):
    """Label maps of replay beside those of evaluation."""

    frames: int
    identical: int
    missing: int
    """Frames without an output of the live graph."""
    pixels: int
    """That differ, in frames that are there; all of a frame when even the sizes do."""

    @classmethod
    def of(cls, live: Mapping[int, LabelMap], offline: Mapping[int, LabelMap]) -> Comparison:
        """Compare by stamp; what is only in `live` is not looked at."""
        both = [(live[stamp], offline[stamp]) for stamp in offline if stamp in live]
        differing = [int(np.count_nonzero(a != b)) if a.shape == b.shape else b.size for a, b in both]
        return cls(len(offline), differing.count(0), len(offline) - len(both), sum(differing))

    def __str__(self) -> str:
        said = f"{self.frames} frames, {self.identical} identical, {self.missing} without output"
        return f"{said}, {self.pixels} pixels differ"


def check(given: argparse.Namespace) -> int:
    """Compare replay with evaluation; 0 when every label map is there and identical, else 1.

    Raises:
        CheckError: model or data do not allow it, a pattern has no frame to compare, or a node failed.
    """
    from robust_perception.engine.engine import Engine
    from robust_perception.engine.errors import EngineError
    from robust_perception.evaluation import protocol
    from robust_perception.evaluation.errors import EvaluationError

    try:
        from robust_perception.ros.errors import RosError
        from robust_perception.ros.replay_check import LiveGraph
    except ModuleNotFoundError as error:
        msg = f"check runs the live graph and needs {error.name!r}; source ROS, or install the extra 'ros'"
        raise CheckError(msg) from None

    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    try:
        engine = Engine.load(given.model)
        dataset = protocol.open_dataset(given.data, given.split, engine.manifest.class_names)
        patterns = protocol.choose_patterns(engine, dataset, given.patterns)
        names = dataset.names[: given.limit]
        stamps = [FIRST_STAMP_NS + round(i * 1e9 / given.rate) for i in range(len(names))]
        stamp_of = dict(zip(names, stamps, strict=True))
        offline: dict[Pattern, dict[int, LabelMap]] = {pattern: {} for pattern in patterns}

        def keep(pattern: Pattern, name: str, label_map: LabelMap) -> None:
            offline[pattern][stamp_of[name]] = label_map

        protocol.evaluate(engine, dataset, patterns, limit=given.limit, label_maps=keep)
        for pattern, maps in offline.items():
            if not maps:
                msg = f"{pattern}: expected a frame with all of its sensors among {len(names)}, got none"
                raise CheckError(msg)
        differing = 0
        with tempfile.TemporaryDirectory() as folder:
            bag = Path(folder) / "bag"
            write_dataset(dataset, bag, rate=given.rate, limit=given.limit)
            with LiveGraph(given.model, dataset.modalities, given.domain, Path(folder)) as graph:
                for pattern in patterns:
                    live = graph.replay(bag, pattern, list(offline[pattern]))
                    compared = Comparison.of(live.label_maps, offline[pattern])
                    differing += compared.frames - compared.identical
                    again = f", {live.replays} replays" if live.replays > 1 else ""
                    print(f"{pattern!s:<24} {compared}{again}", flush=True)
    except (EngineError, EvaluationError, RosError) as error:
        raise CheckError(str(error)) from None
    print("replay equals evaluation" if not differing else f"replay differs in {differing} label maps")
    return 1 if differing else 0


def _add_record(commands: Any) -> None:
    """Add the arguments of `record`; every one is a parameter of recorder_node, which says more of it."""
    live = commands.add_parser("record", help="record live topics, chosen or all, until Ctrl-C")
    live.add_argument("topics", nargs="*", metavar="TOPIC", help="by full name; none and no --regex: all")
    live.add_argument("--out", type=Path, help="folder of the new bag (default: recording_DATE-TIME)")
    live.add_argument("--regex", default="", help="topics whose full name this expression matches, too")
    live.add_argument("--exclude", default="", help="no topics whose full name this expression matches")
    live.add_argument("--storage", choices=tuple(STORAGES), default="mcap", help="default: %(default)s")
    ways = tuple(dict.fromkeys(way for there in STORAGES.values() for way in there))
    live.add_argument(
        "--compression",
        choices=ways,
        default="none",
        help="zstd or lz4 of mcap, message or file of sqlite3 (default: %(default)s)",
    )
    live.add_argument(
        "--split-mb", type=arguments.count, default=0, help="new file before one is larger, MiB"
    )
    live.add_argument("--split-seconds", type=float, default=0.0, help="new file after so many seconds")
    live.add_argument("--queue-mb", type=arguments.positive, default=256, help="memory for what waits, MiB")
    live.add_argument("--keep-free-mb", type=arguments.count, default=64, help="end when the disk has less")
    live.add_argument("--duration", type=float, default=0.0, help="end after so many seconds")
    live.add_argument("--progress", type=float, default=1.0, help="seconds between lines (%(default)s)")


def record(given: argparse.Namespace) -> int:
    """Record live topics; the exit codes of recorder_node.

    Raises:
        CheckError: ROS is not installed.
    """
    try:
        from robust_perception.ros import recorder_node
    except ModuleNotFoundError as error:
        msg = f"record needs ROS, got no {error.name!r}; source ROS, or install the extra 'ros'"
        raise CheckError(msg) from None
    values = {
        "bag": "" if given.out is None else str(given.out),
        "topics": list(given.topics) or [""],
        "pattern": given.regex,
        "exclude": given.exclude,
        "storage": given.storage,
        "compression": given.compression,
        "split_mb": given.split_mb,
        "split_s": given.split_seconds,
        "queue_mb": given.queue_mb,
        "keep_free_mb": given.keep_free_mb,
        "duration": given.duration,
        "progress": given.progress,
    }
    # JSON is YAML, which is what ROS takes a parameter's value for: strings keep their quotes.
    words = [word for name, value in values.items() for word in ("-p", f"{name}:={json.dumps(value)}")]
    return recorder_node.main(["recorder_node", "--ros-args", *words])


def mend(path: Path, out: Path | None) -> str:
    """Repair a bag; what was wrong with it, as text. BagError when nothing can be read."""
    done = repair.repair(path) if out is None else repair.copy(path, out)
    whole = f"{out or path}: {done.messages} messages"
    if not done.problems:
        return f"{whole}; nothing was wrong with it"
    return "\n".join(
        [*(f"  {problem}" for problem in done.problems), f"{whole} are in the bag, which is whole now"]
    )


def describe(path: Path) -> str:
    """What is in a bag, as text of some lines; BagError when it cannot be read."""
    with BagReader(path) as bag:
        seconds = (bag.end_ns - bag.start_ns) / 1e9
        files = [path] if path.is_file() else [p for p in path.iterdir() if p.is_file()]
        size = sum(file.stat().st_size for file in files)
        lines = [f"{path}: {bag.message_count} messages, {seconds:.2f} s, {size / 1e6:.1f} MB"]
        width = max(len(topic.name) for topic in bag.topics)
        for topic in bag.topics:
            rate = f"{(topic.count - 1) / seconds:7.2f} Hz" if topic.count > 1 and seconds > 0 else " " * 10
            latched = "  latched" if topic.latched else ""
            lines.append(f"  {topic.name:<{width}}  {topic.count:>7}  {rate}  {topic.msgtype}{latched}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
