"""`robust-perception bag`: what is in a bag, data folders as bags, and whether replay equals evaluation.

`check` plays a split through the live graph under every pattern and compares each label map, pixel by pixel,
with the one that `robust-perception evaluate` gives for the same frame and pattern.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from robust_perception.bags.dataset import write_dataset
from robust_perception.bags.errors import BagError
from robust_perception.bags.reader import BagReader
from robust_perception.bags.writer import STORAGES
from robust_perception.datasets import FIRST_STAMP_NS, DatasetError, FolderDataset
from robust_perception.vocabulary import MODALITIES, Modality, Pattern


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="robust-perception bag", description="Look into bags and make them; no ROS is needed."
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
    make.add_argument("--rate", type=float, default=2.0, help="frames a second (default: %(default)s)")
    make.add_argument("--limit", type=int, help="only the first frames")
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
    check.add_argument("--limit", type=int, help="only the first frames")
    check.add_argument("--rate", type=float, default=3.0, help="frames a second (default: %(default)s)")
    check.add_argument("--domain", type=int, default=os.getpid() % 60 + 41, help="ROS domain of the graph")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command: 0 when it did as asked, 1 when bag or data do not allow it, 2 on wrong usage."""
    arguments = build_parser().parse_args(argv)
    try:
        if arguments.command == "info":
            print(describe(arguments.bag))
            return 0
        if arguments.command == "check":
            return check(arguments)
        dataset = FolderDataset(arguments.data, arguments.split)
        written = write_dataset(
            dataset,
            arguments.out,
            rate=arguments.rate,
            modalities=arguments.modalities,
            limit=arguments.limit,
            storage=arguments.storage,
        )
        print(f"{arguments.out}: {written} messages of {len(dataset.names[: arguments.limit])} frames")
    except (BagError, DatasetError, CheckError) as error:
        print(f"robust-perception bag: {error}", file=sys.stderr)
        return 1
    return 0


class CheckError(Exception):
    """The comparison cannot be made; the message says why."""


def check(arguments: argparse.Namespace) -> int:
    """Compare replay with evaluation; 0 when every label map is there and identical, else 1."""
    from robust_perception.engine.engine import Engine
    from robust_perception.engine.errors import EngineError
    from robust_perception.evaluation import protocol
    from robust_perception.evaluation.errors import EvaluationError
    from robust_perception.ros.errors import RosError
    from robust_perception.ros.replay_check import LiveGraph

    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    try:
        engine = Engine.load(arguments.model)
        dataset = protocol.open_dataset(arguments.data, arguments.split, engine.manifest.class_names)
        patterns = protocol.choose_patterns(engine, dataset)
        offline: dict[tuple[Pattern, str], npt.NDArray[np.uint8]] = {}

        def keep(pattern: Pattern, name: str, label_map: npt.NDArray[np.uint8]) -> None:
            offline[pattern, name] = label_map

        protocol.evaluate(engine, dataset, patterns, limit=arguments.limit, label_maps=keep)
        names = dataset.names[: arguments.limit]
        differing = 0
        with tempfile.TemporaryDirectory() as folder:
            bag = Path(folder) / "bag"
            write_dataset(dataset, bag, rate=arguments.rate, limit=arguments.limit)
            stamps = [FIRST_STAMP_NS + round(i * 1e9 / arguments.rate) for i in range(len(names))]
            with LiveGraph(arguments.model, dataset.modalities, arguments.domain, Path(folder)) as graph:
                for pattern in patterns:
                    live = graph.replay(bag, pattern, stamps)
                    wanted = [
                        (stamp, name)
                        for stamp, name in zip(stamps, names, strict=True)
                        if (pattern, name) in offline
                    ]
                    same = sum(
                        stamp in live and np.array_equal(live[stamp], offline[pattern, name])
                        for stamp, name in wanted
                    )
                    missing = sum(stamp not in live for stamp, _ in wanted)
                    differing += len(wanted) - same
                    print(
                        f"{pattern!s:<24} {len(wanted)} frames, {same} identical, {missing} without output",
                        flush=True,
                    )
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
