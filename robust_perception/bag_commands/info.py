"""`bag info`: topics, types, numbers of messages and rates of a bag."""

from __future__ import annotations

import argparse
from pathlib import Path

from robust_perception.bags.reader import BagReader

HELP = "topics, types, numbers of messages and rates of a bag"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("bag", type=Path, help="folder of the bag, or its .mcap or .db3 file")


def run(given: argparse.Namespace) -> int:
    """Print what is in the bag."""
    print(describe(given.bag))
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
