"""`robust-perception evaluate`: the quality of a model under every pattern of its sensors."""

from __future__ import annotations

import argparse
import importlib.metadata
import platform
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

import cv2
import numpy as np
import numpy.typing as npt

from robust_perception import __version__, arguments
from robust_perception.datasets import DatasetError
from robust_perception.engine.choice import CHOICES, PRECISION_CHOICES
from robust_perception.engine.engine import Engine
from robust_perception.engine.errors import EngineError
from robust_perception.evaluation.errors import EvaluationError
from robust_perception.evaluation.protocol import LabelMapSink, choose_patterns, evaluate, open_dataset
from robust_perception.vocabulary import Pattern

_PACKAGES = ("numpy", "onnxruntime", "pycocotools")


class ProgressLine:
    """Frames done, time passed and time left, on one line of a terminal or every tenth in a log."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._start = clock()
        self._tenth = -1

    def __call__(self, done: int, count: int) -> None:
        """Show that `done` of `count` frames are through."""
        passed = self._clock() - self._start
        left = passed / done * (count - done)
        text = f"{done}/{count} frames, {passed:.0f} s passed, {left:.0f} s left"
        if self._stream.isatty():
            self._stream.write(f"\r{text}\033[K" + ("\n" if done == count else ""))
        elif 10 * done // count > self._tenth:
            self._tenth = 10 * done // count
            self._stream.write(text + "\n")
        self._stream.flush()


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="robust-perception evaluate",
        description="Measure a model under every pattern of its sensors: mean IoU, box mAP, scene classes.",
    )
    parser.add_argument("--model", required=True, help="model folder, or name of an installed model")
    parser.add_argument(
        "--data", required=True, type=Path, help="folder with <split>/{rgb,depth,thermal,label}"
    )
    parser.add_argument("--split", default="test", help="split to measure on (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the report here")
    parser.add_argument(
        "--patterns",
        type=arguments.patterns,
        default=(),
        help="comma-separated, e.g. rgb+thermal,depth (default: all)",
    )
    parser.add_argument("--classes", choices=("auto", "fine", "coarse"), default="auto", help="labels to use")
    parser.add_argument("--backend", choices=CHOICES, default="auto", help="what runs the model")
    parser.add_argument("--precision", choices=PRECISION_CHOICES, default="auto", help="in which arithmetic")
    parser.add_argument(
        "--threads", type=arguments.positive, help="threads of one operator (default: all cores)"
    )
    parser.add_argument("--limit", type=arguments.positive, help="only the first frames")
    parser.add_argument("--label-maps", type=Path, help="write <DIR>/<pattern>/<NAME>.png for every frame")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command: 0 when the report was made, 1 when model or data do not allow it, 2 on wrong usage."""
    given = build_parser().parse_args(argv)
    try:
        if given.json is not None:  # found out now, not after the last frame
            given.json.parent.mkdir(parents=True, exist_ok=True)
        engine = Engine.load(given.model, given.backend, given.threads, given.precision)
        dataset = open_dataset(given.data, given.split, engine.manifest.class_names, given.classes)
        patterns = choose_patterns(engine, dataset, given.patterns)
        report = evaluate(
            engine,
            dataset,
            patterns,
            limit=given.limit,
            head={
                "model": engine.manifest.name,
                "model_version": engine.manifest.version,
                "model_sha256": engine.info.sha,
                "backend": engine.info.backend,
                "precision": engine.info.precision,
                "data": given.data.resolve().name,
                "split": given.split,
                "versions": versions(),
            },
            progress=ProgressLine(sys.stderr),
            label_maps=None if given.label_maps is None else png_sink(given.label_maps),
        )
    except (DatasetError, EngineError, EvaluationError, ModuleNotFoundError, OSError) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 1
    print(report.table())
    if given.json is not None:
        given.json.write_text(report.to_text(), encoding="utf-8")
    return 0


def png_sink(folder: Path) -> LabelMapSink:
    """Writes label maps as `<folder>/<pattern>/<NAME>.png`, 8-bit, value = class index."""

    def write(pattern: Pattern, name: str, label_map: npt.NDArray[np.uint8]) -> None:
        path = folder / str(pattern) / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not cv2.imwrite(str(path), label_map):
            msg = f"{path}: cannot be written"
            raise EvaluationError(msg)

    return write


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    found = {"robust_perception": __version__, "python": platform.python_version(), "opencv": cv2.__version__}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


if __name__ == "__main__":
    sys.exit(main())
