"""`robust-perception card`: measure a model into one page, and hold it against another."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from robust_perception import arguments
from robust_perception.bags.errors import BagError
from robust_perception.card import page
from robust_perception.card.compare import Comparison, compare, read_card, sensor_of
from robust_perception.card.errors import CardError
from robust_perception.card.measure import RATE_HZ, SLIDES, Measured, Options, measure
from robust_perception.datasets import DatasetError
from robust_perception.engine.ahead import Ahead
from robust_perception.engine.choice import runs_abreast
from robust_perception.engine.engine import Engine
from robust_perception.engine.errors import EngineError
from robust_perception.evaluation.bag_source import BagSource
from robust_perception.evaluation.errors import EvaluationError
from robust_perception.evaluation.options import add_classes_option, add_engine_options, bag_config
from robust_perception.evaluation.protocol import open_dataset
from robust_perception.evaluation.recipe import bag_sha256, data_sha256, versions
from robust_perception.evaluation.report import to_text
from robust_perception.vocabulary import Modality

BAG_SECONDS = 20.0
"""How much of a bag is played for every fault where nobody says."""


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="robust-perception card",
        description="Measure how a model perceives when sensors fail, into one self-contained page.",
    )
    parser.add_argument("--model", required=True, help="model folder, or name of an installed model")
    parser.add_argument(
        "--data", required=True, type=Path, help="data folder, <split>/{rgb,depth,thermal,audio,label}"
    )
    parser.add_argument("--split", default="test", help="split to measure on (default: %(default)s)")
    add_classes_option(parser)
    parser.add_argument("--out", required=True, type=Path, help="the page, e.g. card.html")
    parser.add_argument("--json", type=Path, help="write the numbers here, e.g. card.json")
    parser.add_argument(
        "--limit", type=arguments.positive, help="measure only the first so many frames of the split"
    )
    parser.add_argument(
        "--seed",
        type=arguments.seed,
        default=0,
        help="seed of what is left to chance in faults (default: %(default)s)",
    )
    parser.add_argument(
        "--slides",
        type=arguments.positive,
        default=SLIDES,
        help="frames that are shown for a second each where time matters (default: %(default)s)",
    )
    parser.add_argument(
        "--rounds",
        type=arguments.positive,
        default=10,
        help="inferences a pattern for the latency (default: %(default)s)",
    )
    add_engine_options(parser)
    against = parser.add_argument_group("comparison")
    against.add_argument("--against", type=Path, metavar="CARD.JSON", help="an older card of the same data")
    against.add_argument(
        "--tolerance",
        type=arguments.number_from_zero,  # NaN would let everything pass
        default=1.0,
        metavar="POINTS",
        help="exit with 1 when a pattern or a fault lost more than this (default: %(default)s)",
    )
    bag = parser.add_argument_group("bags", "losses and faults on a bag with /truth topics, not on --data")
    bag.add_argument("--bag", type=Path, help="folder of a bag, or its .mcap or .db3 file")
    arguments.add_bag_options(bag)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command: 0 when the card was made, 1 when it could not be or is worse, 2 on wrong usage."""
    parser = build_parser()
    given = parser.parse_args(argv)
    arguments.refuse_idle(parser, argv, {arguments.BAG_OPTIONS: ("bag",), ("tolerance",): ("against",)})
    try:
        arguments.make_way(given.out, given.json)
        before = None if given.against is None else read_card(given.against)
        measured = make(given, None if before is None else sensor_of(before))
        comparison = None if before is None else compare(measured.content, before, given.tolerance)
        date = page.today()
        given.out.write_text(page.render(measured, comparison, date), encoding="utf-8")
        if given.json is not None:
            given.json.write_text(to_text({"generated": date, **measured.content}), encoding="utf-8")
    except (
        BagError,
        CardError,
        DatasetError,
        EngineError,
        EvaluationError,
        ModuleNotFoundError,
        OSError,
    ) as error:
        print(f"card: {error}", file=sys.stderr)
        return 1
    print(page.in_words(measured.content))
    print(f"card: {given.out}")
    return verdict(comparison)


def verdict(comparison: Comparison | None) -> int:
    """Say what has become worse; 1 if anything has."""
    if comparison is None:
        return 0
    print(comparison.to_text())
    return 1 if comparison.regressions else 0


def make(given: argparse.Namespace, sensor: Modality | None = None) -> Measured:
    """Measure what a command line asks for, with the recipe.

    Args:
        given: the command line.
        sensor: that faults of link and clock hit, so that a card has the rows of the one it is held against;
            None = the one that matters most.
    """
    engine = Engine.load(given.model, given.backend, given.threads, given.precision, given.cache)
    dataset = open_dataset(given.data, given.split, engine.manifest.class_names, given.classes)
    bag = None if given.bag is None else _open_bag(engine, given)
    options = Options(given.limit, given.slides, given.rounds, given.seed, sensor)
    side = engine
    if runs_abreast(engine.info.backend):
        side = Engine.load(
            given.model, engine.info.backend, given.threads, engine.info.precision, abreast=True
        )
    with Ahead(side, given.threads) as ahead:
        measured = measure(ahead, engine, dataset, bag, options, Progress())
    recipe: dict[str, Any] = {
        "model": engine.manifest.name,
        "model_version": engine.manifest.version,
        "model_sha256": engine.info.sha,
        "backend": engine.info.backend,
        "precision": engine.info.precision,
        "data": given.data.resolve().name,
        "data_sha256": data_sha256(given.data, given.split),
        "split": given.split,
        "seed": given.seed,
        "slides": given.slides,
        "rate_hz": RATE_HZ,
    }
    if bag is not None:
        recipe |= {
            "bag": given.bag.resolve().name,
            "bag_sha256": bag_sha256(given.bag),
            "seconds": bag.seconds,
            "topics": {str(modality): topic for modality, topic in bag.topics.items()},
            "depth_scale": given.depth_scale,
            "thermal_scale": given.thermal_scale,
            "thermal_offset": given.thermal_offset,
            "header_age": not given.no_header_age,
        }
        if (audio := bag_config(given).audio) is not None:
            recipe["audio"] = str(audio)
    recipe["versions"] = versions()
    return measured._replace(content={"recipe": recipe, **measured.content})


def _open_bag(engine: Engine, given: argparse.Namespace) -> BagSource:
    config = replace(bag_config(given), seconds=given.seconds or BAG_SECONDS)
    manifest = engine.manifest
    source = BagSource(given.bag, manifest.modalities, manifest.class_names, manifest.scene_names, config)
    for text in source.said:
        print(f"card: {text}", file=sys.stderr)
    return source


class Progress:
    """One line a part: on a terminal it moves, in a log it comes at the end of the part."""

    def __call__(self, part: str, done: int, count: int) -> None:
        """Show that `done` of `count` of a part is through."""
        if sys.stderr.isatty():
            end = "\n" if done == count else ""
            sys.stderr.write(f"\r{part}: {done}/{count}\033[K{end}")
        elif done == count:
            sys.stderr.write(f"{part}: done\n")
        sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
