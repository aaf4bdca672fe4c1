"""From where on a picture that shows next to nothing is better left out.

    python benchmarks/blindness.py --data DATA --split val --json docs/results/blindness.json
    python benchmarks/performance_page.py docs/results/blindness.json docs/faults.md

Every frame of a split with all its sensors, one of which is blinded step by step, s from 1 down to 0:

    rgb      x' = s x + (1 - s) 210 + 1.5 N(0, 1)        fog or glare before the lens
    depth    a part s of the picture, in patches, has distances
    thermal  x' = m + s (x - m) + 0.05 N(0, 1)           before a closing shutter; m the mean, kelvin

Foreground mIoU in percent, beside that without the sensor. Where the two meet, between a step that costs and
one that gains, is where `rgb.min_contrast`, `depth.min_measured` and `thermal.min_span` of this model belong;
`presence.blindness` says what they are of a picture.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from robust_perception import arguments
from robust_perception.datasets import DatasetError
from robust_perception.engine.engine import Engine
from robust_perception.engine.errors import EngineError
from robust_perception.engine.postprocess import resize_label_map
from robust_perception.evaluation.errors import EvaluationError
from robust_perception.evaluation.options import add_engine_options
from robust_perception.evaluation.protocol import offline_frame_set, open_dataset
from robust_perception.evaluation.recipe import data_sha256, versions
from robust_perception.evaluation.segmentation import ConfusionMatrix
from robust_perception.presence.blindness import shown
from robust_perception.progress import ProgressLine
from robust_perception.units import GREY_A_KELVIN
from robust_perception.vocabulary import Array, FrameSet, Modality, Pattern, SensorFrame

STEPS = (0.4, 0.2, 0.1, 0.05, 0.02, 0.01)
GLARE = 210.0
"""Grey value of fog in daylight."""
PATCHES = (16, 12)
"""Of a depth image, each with distances or without."""


def foggy(frame: SensorFrame, step: float, chance: np.random.Generator) -> Array:
    """Colour behind fog."""
    veiled = step * frame.data.astype(np.float32) + (1 - step) * GLARE
    return np.clip(np.rint(veiled + chance.normal(0, 1.5, veiled.shape)), 0, 255).astype(np.uint8)


def patchy(frame: SensorFrame, step: float, chance: np.random.Generator) -> Array:
    """Depth of which patches are left."""
    height, width = frame.data.shape
    ranks = chance.permutation(PATCHES[0] * PATCHES[1]).reshape(PATCHES[1], PATCHES[0])
    kept = (ranks < round(step * ranks.size)).astype(np.uint8)
    mask = cv2.resize(kept, (width, height), interpolation=cv2.INTER_NEAREST)
    return np.where(mask > 0, frame.data, np.float32(np.nan))


def flat(frame: SensorFrame, step: float, chance: np.random.Generator) -> Array:
    """Temperatures near their mean."""
    kelvin = frame.data.astype(np.float64)
    mean = float(np.nanmean(kelvin))
    noise = 0.05 * (1.0 if frame.radiometric else GREY_A_KELVIN) * chance.standard_normal(kelvin.shape)
    flattened: Array = (mean + step * (kelvin - mean) + noise).astype(np.float32)
    return flattened


BLINDED: Mapping[Modality, Callable[[SensorFrame, float, np.random.Generator], Array]] = {
    Modality.RGB: foggy,
    Modality.DEPTH: patchy,
    Modality.THERMAL: flat,
}


def measure(engine: Engine, root: Path, split: str, limit: int | None) -> dict[str, Any]:
    """What the steps of every sensor do, out of a split's frames that have all sensors of the model."""
    dataset = open_dataset(root, split, engine.manifest.class_names)
    everything = Pattern.of(engine.manifest.modalities)
    found: defaultdict[tuple[Any, ...], ConfusionMatrix] = defaultdict(
        lambda: ConfusionMatrix(len(engine.manifest.class_names))
    )
    values: defaultdict[tuple[Modality, float], list[float]] = defaultdict(list)
    sensors = [m for m in BLINDED if m in everything]
    count = len(dataset) if limit is None else min(limit, len(dataset))
    told, frames = ProgressLine(sys.stderr), 0
    for number in range(count):
        sample = dataset[number]
        if sample.label is None or not set(everything) <= set(sample.frames):
            told(number + 1, count)
            continue
        truth, frames = sample.label, frames + 1

        def add(key: tuple[Any, ...], frame_set: FrameSet, truth: npt.NDArray[np.uint8] = truth) -> None:
            engine.reset()  # other values under the same stamp
            found[key].add(truth, resize_label_map(engine.infer(frame_set).label_map, truth.shape))

        add(("all",), offline_frame_set(sample, everything))
        for sensor in sensors:
            add((sensor,), offline_frame_set(sample, Pattern.of(m for m in everything if m is not sensor)))
            for step in STEPS:
                chance = np.random.default_rng([number, round(1000 * step)])
                blinded = replace(
                    sample.frames[sensor], data=BLINDED[sensor](sample.frames[sensor], step, chance)
                )
                values[sensor, step].append(shown(blinded) or 0.0)
                instead = replace(sample, frames={**sample.frames, sensor: blinded})
                add((sensor, step), offline_frame_set(instead, everything))
        told(number + 1, count)
    if not frames:
        msg = f"{root}: expected frames of {split} with a label map and {everything}, got none"
        raise EvaluationError(msg)
    return {
        "model": engine.manifest.name,
        "model_sha256": engine.manifest.sha256,
        "precision": engine.info.precision,
        "data_sha256": data_sha256(root, split),
        "split": split,
        "frames": frames,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "versions": versions(),
        "all": found["all",].foreground_miou(),
        "sensors": [
            {
                "sensor": sensor.value,
                "without": found[sensor,].foreground_miou(),
                "steps": [
                    {
                        "left": step,
                        "shown": median(values[sensor, step]),
                        "miou": found[sensor, step].foreground_miou(),
                    }
                    for step in STEPS
                ],
            }
            for sensor in sensors
        ],
    }


def table(measured: Mapping[str, Any]) -> str:
    """The figures as a page shows them."""
    head = (
        f"Model {measured['model']} ({measured['model_sha256'][:12]}) in {measured['precision']}, "
        f"{measured['frames']} frames of {measured['split']} (input {measured['data_sha256'][:12]}), "
        f"{measured['date']}; all sensors: {measured['all']:.1f} %."
    )
    lines = [head, "", "| sensor | left of it | shows | mIoU % | without it |", "|---|---|---|---|---|"]
    for sensor in measured["sensors"]:
        lines += [
            f"| {sensor['sensor']} | {step['left']:g} | {step['shown']:.3g} | {step['miou']:.1f} "
            f"| {sensor['without']:.1f} |"
            for step in sensor["steps"]
        ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description="Find from where on a picture that shows next to nothing is better left out."
    )
    parser.add_argument("--model", default="default", help="name or folder (default: %(default)s)")
    parser.add_argument("--data", type=Path, required=True, help="data folder with label maps")
    parser.add_argument("--split", default="val", help="default: %(default)s")
    parser.add_argument("--limit", type=arguments.positive, help="only the first frames")
    parser.add_argument("--json", type=Path, help="where the figures go")
    add_engine_options(parser)
    given = parser.parse_args(argv)
    try:
        engine = Engine.load(given.model, given.backend, given.threads, given.precision, given.cache)
        measured = measure(engine, given.data, given.split, given.limit)
    except (DatasetError, EngineError, EvaluationError) as error:
        print(f"blindness: {error}", file=sys.stderr)
        return 1
    print(table(measured))
    if given.json is not None:
        given.json.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
