"""`robust-perception bag`: what is in a bag, and data folders as bags."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from robust_perception.bags.dataset import write_dataset
from robust_perception.bags.errors import BagError
from robust_perception.bags.reader import BagReader
from robust_perception.bags.writer import STORAGES
from robust_perception.datasets import DatasetError, FolderDataset
from robust_perception.vocabulary import MODALITIES, Modality


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
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command: 0 when it did as asked, 1 when bag or data do not allow it, 2 on wrong usage."""
    arguments = build_parser().parse_args(argv)
    try:
        if arguments.command == "info":
            print(describe(arguments.bag))
            return 0
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
    except (BagError, DatasetError) as error:
        print(f"robust-perception bag: {error}", file=sys.stderr)
        return 1
    return 0


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
