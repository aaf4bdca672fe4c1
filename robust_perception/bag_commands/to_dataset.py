"""`bag to-dataset`: what the live graph's frame sets of a bag show, as a data folder."""

from __future__ import annotations

import argparse
import sys
from itertools import islice
from pathlib import Path

from robust_perception import arguments
from robust_perception.bags.errors import BagError
from robust_perception.bags.folder import FolderWriter, resized
from robust_perception.bags.reader import BagReader
from robust_perception.bags.truth import class_names_in, scene_names_in
from robust_perception.evaluation.bag_source import BagSource
from robust_perception.evaluation.options import bag_config
from robust_perception.evaluation.samples import samples
from robust_perception.faults.find import find_script
from robust_perception.progress import ProgressLine
from robust_perception.runtime.pacing import RATE_HZ
from robust_perception.vocabulary import MODALITIES

HELP = "write what a bag's frame sets show as a data folder"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("bag", type=Path, help="folder of the bag, or its .mcap or .db3 file")
    parser.add_argument("--out", required=True, type=Path, help="the new data folder")
    parser.add_argument(
        "--split",
        dest="splits",
        nargs="+",
        type=arguments.share,
        default=[("train", 1.0)],
        metavar="NAME[=SHARE]",
        help="splits and their shares, in blocks by time, e.g. train=0.8 val=0.1 test=0.1 (default: train)",
    )
    parser.add_argument("--limit", type=arguments.positive, help="write only the first so many samples")
    parser.add_argument(
        "--rate", type=arguments.rate, default=RATE_HZ, help="most samples a second (default: %(default)s)"
    )
    parser.add_argument(
        "--slop",
        type=arguments.positive_number,
        help="seconds between the frames of one sample at most (default: 0.9 periods of each sensor)",
    )
    parser.add_argument("--complete", action="store_true", help="only samples that lack no sensor of the bag")
    parser.add_argument(
        "--size", type=arguments.picture_size, metavar="WxH", help="make all pictures so large"
    )
    parser.add_argument(
        "--faults", default="", help="fault script: a file, or a name out of config/faults (default: none)"
    )
    arguments.add_bag_options(parser)


def run(given: argparse.Namespace) -> int:
    """Write a bag as a data folder; 0, or BagError when it has no sample, or a split is named twice."""
    names = [name for name, _ in given.splits]
    if len(set(names)) < len(names):
        msg = f"--split: expected every split once, got {' '.join(names)}"
        raise BagError(msg)
    with BagReader(given.bag) as bag:
        class_names, scene_names = class_names_in(bag) or (), scene_names_in(bag)
    source = BagSource(given.bag, MODALITIES, class_names, scene_names, bag_config(given))
    script = find_script(given.faults)
    refused: dict[str, int] = {}
    absent: list[str] = []
    found = samples(
        source,
        rate_hz=given.rate,
        slop_s=given.slop,
        script=script,
        refused=refused,
        absent=absent,
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
            why = "; ".join(absent)
            expected = f"a frame that the live graph would take{script.in_words}"
            msg = f"{given.bag}: expected {expected}, got none{why and f': {why}'}"
            raise BagError(msg)
        sizes = folder.finish(dict(given.splits))
    for text, count in folder.unheld.items():
        if count:
            _say(f"{count} pixels of {text}")
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
