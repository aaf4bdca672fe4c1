"""What is measured of a TensorRT backend: outputs, switching, garbage, memory. Needs a GPU.

Each function returns plain numbers; `gpu.py` makes records of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.noise import noise_inputs
from robust_perception.engine import tensorrt, tensorrt_kernels, tensorrt_library
from robust_perception.engine.label_map import label_map, magnification
from robust_perception.engine.manifest import SCORES, Manifest
from robust_perception.engine.pipeline import Latents, Pipeline, RawOutputs
from robust_perception.engine.plan_building import Request, build_model
from robust_perception.engine.plan_store import PlanStore
from robust_perception.engine.tensorrt import TensorRtBackend
from robust_perception.engine.tensorrt_builder import BuildOptions
from robust_perception.vocabulary import Array, Modality, Pattern

OUTPUTS = ("label_map", "confidence", "box_scores", "boxes", "scene")
NUMBERS = OUTPUTS[1:]
Inputs = Mapping[Modality, Array]


@dataclass(frozen=True)
class Place:
    """A model and where its plans go."""

    folder: Path
    manifest: Manifest
    cache: Path


def build(place: Place, backend: str, precision: str, until: float) -> dict[str, float]:
    """Build the plans: seconds and bytes; what is not done at `until`, by `time.monotonic`, is cancelled."""
    start = time.perf_counter()
    library = tensorrt_library.load(backend)
    request = Request(place.folder, place.manifest, [precision], BuildOptions(until=until), again=True)
    paths = build_model(request, library, PlanStore(place.cache), lambda words: print(words, flush=True))
    for path in paths:
        path.with_suffix(tensorrt_kernels.SUFFIX).unlink(missing_ok=True)  # the first load is a first one
    return {"build": time.perf_counter() - start, "plans": float(sum(p.stat().st_size for p in paths))}


def open_backend(place: Place, backend: str, precision: str) -> TensorRtBackend:
    """A fresh session on the plans that were built."""
    return tensorrt.load(backend, place.folder, place.manifest, precision, place.cache)


def label_map_on_host(pipeline: Pipeline, inputs: Inputs) -> float:
    """Milliseconds of a frame in which the CPU makes the label map; 0 where the graph does."""
    full = pipeline.manifest.patterns[0]
    feeds: dict[str, Array] = {"pattern": np.array([full.bits], np.int64)}
    for m in pipeline.manifest.modalities:
        feeds.update(pipeline.encode(m, inputs[m], full))
    scores = pipeline.backend.run("fusion", feeds).get(SCORES)
    if scores is None:
        return 0.0
    factor = magnification(pipeline.manifest.size, scores.shape[2:])
    assert factor is not None  # the pipeline would have refused the graph
    make = partial(label_map, scores[0].astype(np.float32, copy=False), factor)
    return float(np.median([_microseconds(make) for _ in range(30)])) / 1e3


def parity(
    pipeline: Pipeline, truth: Callable[[Inputs, Pattern], Mapping[str, Array]], inputs: Inputs
) -> dict[Pattern, dict[str, float]]:
    """By pattern: largest difference of a number, relative to the larger of it and one; pixels that agree."""
    found = {}
    for pattern in pipeline.manifest.patterns:
        given = {m: inputs[m] for m in pattern}
        got, expected = pipeline.run(given, pattern), truth(given, pattern)
        largest = 0.0
        for name in NUMBERS:
            if name in expected:
                new = getattr(got, name).astype(np.float64)
                old = expected[name].astype(np.float64).reshape(new.shape)
                difference = np.abs(new - old) / np.maximum(1.0, np.abs(old))
                largest = max(largest, float(difference.max(initial=0.0)))
        agreement = float(np.mean(got.label_map == expected["label_map"][0]))
        found[pattern] = {"largest_difference": largest, "pixel_agreement": agreement}
    return found


def switching(
    pipeline: Pipeline, fresh: Callable[[], Pipeline], inputs: Inputs, pairs: int, deadline: float
) -> dict[str, float]:
    """What it costs to change the pattern in one captured graph.

    Two patterns take turns of two fusions each: the first after a change is compared with the one after it.

    Returns:
        switch_cost: median of the difference, microseconds; fusion: median of a fusion, microseconds;
        switch_share: the former as a share of a whole frame of all sensors; frames_that_differ: of
        frames_compared, in a random sequence of patterns, those whose outputs are not bit for bit those of a
        session that never had another pattern.
    """
    manifest = pipeline.manifest
    full = manifest.patterns[0]
    latents = {m: pipeline.encode(m, inputs[m], full) for m in manifest.modalities}
    others = (full, manifest.patterns[-1])
    first, second = [], []
    half = (time.perf_counter() + deadline) / 2
    for index in range(pairs):
        if index and time.perf_counter() > half:
            break
        pattern = others[index % 2]
        given = {m: latents[m] for m in pattern}
        fuse = partial(pipeline.fuse, given, pattern)
        first.append(_microseconds(fuse))
        second.append(_microseconds(fuse))
    cost = float(np.median(np.array(first) - np.array(second)))
    frames = [_microseconds(lambda: pipeline.run(inputs, full)) for _ in range(20)]
    differing, compared = _differing(pipeline, fresh, inputs, deadline)
    return {
        "switch_cost": cost,
        "fusion": float(np.median(second)),
        "switch_share": cost / float(np.median(frames)),
        "frames_that_differ": float(differing),
        "frames_compared": float(compared),
    }


def garbage(pipeline: Pipeline, inputs: Inputs) -> int:
    """Patterns whose outputs change in any bit when the latents of absent sensors are NaN."""
    manifest = pipeline.manifest
    changed = 0
    for pattern in manifest.patterns:
        latents: dict[Modality, Latents] = {m: pipeline.encode(m, inputs[m], pattern) for m in pattern}
        clean = pipeline.fuse(latents, pattern)
        for m in manifest.modalities:
            if m not in pattern:
                shapes = {t.name: t for t in manifest.graphs[f"encoder_{m.value}"].outputs}
                latents[m] = {n: np.full(t.shape, np.nan, t.dtype) for n, t in shapes.items()}
        changed += not _same(clean, pipeline.fuse(latents, pattern))
    return changed


def _differing(
    pipeline: Pipeline, fresh: Callable[[], Pipeline], inputs: Inputs, deadline: float
) -> tuple[int, int]:
    """Frames that differ from a session that never had another pattern, and frames that were compared."""
    manifest = pipeline.manifest
    expected: dict[Pattern, RawOutputs] = {}
    half = (time.perf_counter() + deadline) / 2
    for pattern in manifest.patterns:
        if expected and time.perf_counter() > half:
            break
        expected[pattern] = fresh().run({m: inputs[m] for m in pattern}, pattern)
    known = list(expected)
    order = np.random.default_rng(0).permutation(np.repeat(np.arange(len(known)), 4))
    differing = compared = 0
    for index in order:
        if compared and time.perf_counter() > deadline:
            break
        pattern = known[int(index)]
        compared += 1
        differing += not _same(pipeline.run({m: inputs[m] for m in pattern}, pattern), expected[pattern])
    return differing, compared


def _same(one: RawOutputs, other: RawOutputs) -> bool:
    return all(getattr(one, name).tobytes() == getattr(other, name).tobytes() for name in OUTPUTS)


def _microseconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1e6


def inputs_of(manifest: Manifest, seed: int) -> dict[Modality, Array]:
    """Noise for every sensor of a model."""
    return noise_inputs(manifest.modalities, manifest.size, seed)
