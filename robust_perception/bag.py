"""`robust-perception bag`: what is in a bag, data folders as bags, and whether replay equals evaluation.

`check` plays a split through the live graph under every pattern and compares each label map, pixel by pixel,
with the one that `robust-perception evaluate` gives for the same frame and pattern.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from robust_perception import arguments
from robust_perception.bags.dataset import write_dataset
from robust_perception.bags.errors import BagError
from robust_perception.bags.reader import BagReader
from robust_perception.bags.writer import STORAGES
from robust_perception.datasets import FIRST_STAMP_NS, DatasetError, FolderDataset
from robust_perception.vocabulary import MODALITIES, Modality, Pattern


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="robust-perception bag",
        description="Look into bags, make them, check replay. Only check needs ROS.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    info = commands.add_parser("info", help="topics, types, numbers of messages and rates of a bag")
    info.add_argument("bag", type=Path, help="folder of the bag, or its .mcap or .db3 file")
    make = commands.add_parser("from-dataset", help="write a split of a data folder as a bag")
    make.add_argument(
        "--data", required=True, type=Path, help="folder with <split>/{rgb,depth,thermal,audio}"
    )
    make.add_argument("--split", default="test", help="split to write (default: %(default)s)")
    make.add_argument("--out", required=True, type=Path, help="folder of the new bag")
    make.add_argument("--rate", type=arguments.rate, default=2.0, help="frames a second (%(default)s)")
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
        if given.command == "check":
            return check(given)
        dataset = FolderDataset(given.data, given.split, given.classes)
        written = write_dataset(
            dataset,
            given.out,
            rate=given.rate,
            modalities=given.modalities,
            limit=given.limit,
            storage=given.storage,
            labels=given.labels,
        )
        print(f"{given.out}: {written} messages of {len(dataset.names[: given.limit])} frames")
    except (BagError, DatasetError, CheckError) as error:
        print(f"robust-perception bag: {error}", file=sys.stderr)
        return 1
    return 0


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
