"""`robust-perception evaluate`: the quality of a model under every pattern of its sensors, or on bags.

A bag is played through the live graph's own presence and engine, as fast as the machine perceives; many bags
are shared out among workers, see the room `fleet`.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from robust_perception import arguments, extras
from robust_perception.bags.errors import BagError
from robust_perception.datasets import DatasetError
from robust_perception.engine.ahead import Ahead
from robust_perception.engine.engine import Engine
from robust_perception.engine.errors import EngineError
from robust_perception.engine.threads import usable_cores
from robust_perception.evaluation.bag_source import BagSource
from robust_perception.evaluation.errors import EvaluationError
from robust_perception.evaluation.on_bag import BagReport, evaluate_bag
from robust_perception.evaluation.options import add_classes_option, add_engine_options, bag_config
from robust_perception.evaluation.protocol import LabelMapSink, choose_patterns, evaluate, open_dataset
from robust_perception.evaluation.recipe import bag_sha256, versions
from robust_perception.evaluation.report import Report
from robust_perception.faults.errors import FaultError
from robust_perception.faults.find import find_script
from robust_perception.fleet import command as fleet
from robust_perception.fleet.errors import FleetError
from robust_perception.fleet.find import find_bags
from robust_perception.fleet.job import Job
from robust_perception.fleet.merge import FleetReport
from robust_perception.fleet.result import Store
from robust_perception.progress import ProgressLine
from robust_perception.runtime.pacing import RATE_HZ
from robust_perception.vocabulary import Pattern

USEFUL = {
    ("split", "classes", "limit"): ("data",),
    ("label_maps",): ("data", "bag"),
    ("faults", *arguments.BAG_OPTIONS, "rate"): ("bag", "bags"),
    fleet.OPTIONS: ("bags",),
}
"""Options that mean something for some of what is measured; beside the others they are refused."""


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="robust-perception evaluate",
        description="Measure a model under every pattern of its sensors: mean IoU, box mAP, scene classes.",
    )
    parser.add_argument("--model", required=True, help="model folder, or name of an installed model")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--data", type=Path, help="data folder, <split>/{rgb,depth,thermal,audio,label}")
    what.add_argument("--bag", type=Path, help="folder of a bag, or its .mcap or .db3 file")
    what.add_argument(
        "--bags",
        type=Path,
        metavar="DIR_OR_LIST",
        help="folder with bags, or a text file that lists them",
    )
    parser.add_argument("--split", default="test", help="split to measure on (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the report here")
    parser.add_argument(
        "--patterns",
        type=arguments.patterns,
        default=(),
        help="comma-separated, e.g. rgb+thermal,depth (default: all; of a bag: all sensors, as they come)",
    )
    add_classes_option(parser)
    add_engine_options(parser)
    parser.add_argument("--limit", type=arguments.positive, help="measure only the first so many frames")
    parser.add_argument("--label-maps", type=Path, help="write <DIR>/<pattern>/<NAME>.png for every frame")
    bag = parser.add_argument_group("bags")
    bag.add_argument(
        "--faults", default="", help="fault script: a file, or a name out of config/faults (default: none)"
    )
    arguments.add_bag_options(bag)
    bag.add_argument(
        "--rate", type=arguments.rate, default=RATE_HZ, help="most outputs a second (default: %(default)s)"
    )
    fleet.add_options(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command: 0 when the report was made, 1 when model or data do not allow it, 2 on wrong usage.

    Of many bags, 1 also when one of them could not be measured; the report is of the others then.
    """
    parser = build_parser()
    given = parser.parse_args(argv)
    arguments.refuse_idle(parser, argv, USEFUL)
    try:
        arguments.make_way(given.json, given.html)
        engine = Engine.load(
            given.model, given.backend, given.threads, given.precision, given.cache, abreast=True
        )
        report = of_one(engine, given) if given.bags is None else of_bags(engine, given)
        try:
            print(report.table())
        finally:  # a reader that has enough, as `| head` has, takes no file away
            if given.json is not None:
                given.json.write_text(report.to_text(), encoding="utf-8")
            if given.html is not None and isinstance(report, FleetReport):
                write_page(given.html, report)
    except BrokenPipeError:
        raise  # nothing went wrong: who called ends as one does whose reader has gone
    except (
        BagError,
        DatasetError,
        EngineError,
        EvaluationError,
        FaultError,
        FleetError,
        ModuleNotFoundError,
        OSError,
    ) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 1
    return 1 if isinstance(report, FleetReport) and report.failed else 0


def write_page(path: Path, report: FleetReport) -> None:
    """Write the page of many bags."""
    # Imported here: only pages need jinja2.
    from robust_perception.card.fleet_page import render
    from robust_perception.card.page import today

    path.write_text(render(report.to_json(), today()), encoding="utf-8")


def of_one(engine: Engine, given: argparse.Namespace) -> Report | BagReport:
    """The report on a data folder or a bag."""
    with Ahead(engine, given.threads) as ahead:
        return of_data(engine, ahead, given) if given.bag is None else of_bag(engine, ahead, given)


def of_data(engine: Engine, ahead: Ahead, given: argparse.Namespace) -> Report:
    """The report on a data folder."""
    dataset = open_dataset(given.data, given.split, engine.manifest.class_names, given.classes)
    return evaluate(
        engine,
        dataset,
        choose_patterns(engine, dataset, given.patterns),
        ahead=ahead,
        limit=given.limit,
        head=head(engine) | {"data": given.data.resolve().name, "split": given.split, "versions": versions()},
        progress=ProgressLine(sys.stderr),
        label_maps=None if given.label_maps is None else png_sink(given.label_maps),
    )


def of_bag(engine: Engine, ahead: Ahead, given: argparse.Namespace) -> BagReport:
    """The report on a bag."""
    script = find_script(given.faults)
    source = open_bag(engine, given)
    line = ProgressLine(sys.stderr, unit="s of the bag", scale=0.1)
    tenths = max(1, round(10 * source.seconds))
    report = evaluate_bag(
        engine,
        source,
        given.patterns,
        ahead=ahead,
        script=script,
        rate_hz=given.rate,
        head=head(engine)
        | {
            "bag": given.bag.resolve().name,
            "bag_sha256": bag_sha256(given.bag),
            "faults": Path(script.name).name,
            "versions": versions(),
        },
        label_maps=None if given.label_maps is None else png_sink(given.label_maps),
        progress=lambda seconds: line(min(max(1, round(10 * seconds)), tenths), tenths),
    )
    for text in source.said:
        print(f"evaluate: {text}", file=sys.stderr)
    if not source.has_truth:
        print(
            f"evaluate: {given.bag} has no /truth topics, so there is no quality, only what came when; "
            "`robust-perception bag from-dataset --labels` writes them",
            file=sys.stderr,
        )
    return report


def of_bags(engine: Engine, given: argparse.Namespace) -> FleetReport:
    """The report on many bags."""
    if given.html is not None and importlib.util.find_spec("jinja2") is None:
        msg = f"--html needs jinja2, which is not installed: {extras.install('evaluate')}"
        raise FleetError(msg)
    bags = find_bags(given.bags)
    crew = fleet.crew_of(given.workers, given.address, len(bags), _say)
    alone = crew.workers == 1 and crew.address is None
    share = 1 if crew.address is not None else max(1, usable_cores() // crew.workers)
    job = Job(
        model=str(Path(given.model).resolve()) if Path(given.model).is_dir() else given.model,
        backend=given.backend,
        precision=given.precision,
        cache=None if given.cache is None else given.cache.resolve(),
        threads=given.threads if given.threads or alone else share,
        patterns=tuple(given.patterns),
        script=find_script(given.faults),
        rate_hz=given.rate,
        config=bag_config(given),
    )
    return fleet.evaluate_bags(
        engine,
        job,
        bags,
        Store(given.results),
        crew,
        head=head(engine) | {"bags_from": given.bags.resolve().name, "faults": Path(job.script.name).name},
        progress=ProgressLine(sys.stderr, unit="bags"),
        say=_say,
    )


def _say(text: str) -> None:
    print(f"evaluate: {text}", file=sys.stderr)


def open_bag(engine: Engine, given: argparse.Namespace) -> BagSource:
    """The bag that a command line names, for the sensors and classes of a model."""
    manifest, config = engine.manifest, bag_config(given)
    return BagSource(given.bag, manifest.modalities, manifest.class_names, manifest.scene_names, config)


def head(engine: Engine) -> dict[str, Any]:
    """What ran, as a report begins."""
    return {
        "model": engine.manifest.name,
        "model_version": engine.manifest.version,
        "model_sha256": engine.info.sha,
        "backend": engine.info.backend,
        "precision": engine.info.precision,
    }


def png_sink(folder: Path) -> LabelMapSink:
    """Writes label maps as `<folder>/<pattern>/<NAME>.png`, 8-bit, value = class index."""

    def write(pattern: Pattern, name: str, label_map: npt.NDArray[np.uint8]) -> None:
        path = folder / str(pattern) / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not cv2.imwrite(str(path), label_map):
            msg = f"{path}: cannot be written"
            raise EvaluationError(msg)

    return write


if __name__ == "__main__":
    sys.exit(main())
