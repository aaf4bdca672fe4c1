"""`bag check`: whether the live graph gives what evaluation gives.

Plays a split through the live graph under every pattern and compares each label map, pixel by pixel, with the
one that `robust-perception evaluate` gives for the same frame and pattern.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from robust_perception import arguments, extras
from robust_perception.bag_commands.errors import CommandError
from robust_perception.bags.dataset import write_dataset
from robust_perception.datasets import FIRST_STAMP_NS
from robust_perception.vocabulary import Pattern

HELP = "replay a split through the live graph, compare with evaluation"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--model", required=True, help="model folder, or name of an installed model")
    parser.add_argument(
        "--data", required=True, type=Path, help="folder with <split>/{rgb,depth,thermal,audio}"
    )
    parser.add_argument("--split", default="test", help="split to replay (default: %(default)s)")
    parser.add_argument("--limit", type=arguments.positive, help="replay only the first so many frames")
    parser.add_argument(
        "--patterns",
        type=arguments.patterns,
        default=(),
        help="comma-separated, e.g. rgb+thermal,depth (default: all)",
    )
    parser.add_argument(
        "--rate", type=arguments.rate, default=3.0, help="frames a second (default: %(default)s)"
    )
    arguments.add_domain_option(parser)


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


def run(given: argparse.Namespace) -> int:
    """Compare replay with evaluation; 0 when every label map is there and identical, else 1.

    Raises:
        CommandError: model or data do not allow it, a pattern has no frame to compare, or a node failed.
    """
    from robust_perception.engine.engine import Engine
    from robust_perception.engine.errors import EngineError
    from robust_perception.evaluation import protocol
    from robust_perception.evaluation.errors import EvaluationError

    try:
        from robust_perception.ros.errors import RosError
        from robust_perception.ros.replay_check import LiveGraph
    except ModuleNotFoundError as error:
        msg = f"check runs the live graph and needs {error.name!r}; source ROS, or {extras.install('ros')}"
        raise CommandError(msg) from None

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
                raise CommandError(msg)
        found: list[Comparison] = []
        with tempfile.TemporaryDirectory() as folder:
            bag = Path(folder) / "bag"
            write_dataset(dataset, bag, rate=given.rate, limit=given.limit)
            with LiveGraph(given.model, dataset.modalities, given.domain, Path(folder)) as graph:
                for pattern in patterns:
                    live = graph.replay(bag, pattern, list(offline[pattern]))
                    compared = Comparison.of(live.label_maps, offline[pattern])
                    found.append(compared)
                    again = f", {live.replays} replays" if live.replays > 1 else ""
                    print(f"{pattern!s:<24} {compared}{again}", flush=True)
    except (EngineError, EvaluationError, RosError) as error:
        raise CommandError(str(error)) from None
    print(verdict(found, given.rate))
    return 0 if all(compared.identical == compared.frames for compared in found) else 1


def verdict(found: Sequence[Comparison], rate_hz: float) -> str:
    """All comparisons in a line, and what to do about frames that had no output."""
    missing = sum(compared.missing for compared in found)
    differing = sum(compared.frames - compared.identical for compared in found) - missing
    said = [f"replay differs in {differing} label maps"] if differing else []
    if missing:
        said.append(f"{missing} frames had no output at --rate {rate_hz:g}: give a lower one")
    return "; ".join(said) or "replay equals evaluation"
