"""How long one inference takes under every pattern, all of its frames new.

ratio                  to the first variant in the same round; median
ratio_to_full          to this variant's own first pattern in the same round; median
cost_to_full           the same in time of the process's processors, whatever runs side by side
p50, p95, p99          of the time of one inference
cost                   time of the process's processors; median
throughput             inferences a second: rounds over the sum of their times
encode, fuse, decode   medians of the engine's own steps; images are encoded side by side

Each is taken right after an inference of the same variant under the same pattern, which is not counted. On a
robot nothing else runs in between; here the variant before did, whose data fill the caches and whose threads
may look for work some milliseconds longer: those of torch cost the next variant a third.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from robust_perception.benchmarking.frames import Frames
from robust_perception.benchmarking.records import Record
from robust_perception.benchmarking.turns import Clock, order, paired_ratio, steady, timed
from robust_perception.benchmarking.variants import Variant
from robust_perception.vocabulary import Pattern

NAME = "latency"


def measure(
    variants: Sequence[Variant],
    frames: Frames,
    patterns: Sequence[Pattern],
    rounds: int,
    clock: Clock = steady,
    processors: Clock = time.process_time,
) -> list[Record]:
    """Records of every variant and pattern; in each round each variant sees the same frames."""
    spent: list[dict[Pattern, list[float]]] = [{p: [] for p in patterns} for _ in variants]
    costs: list[dict[Pattern, list[float]]] = [{p: [] for p in patterns} for _ in variants]
    steps: list[dict[Pattern, list[tuple[float, float, float]]]] = [
        {p: [] for p in patterns} for _ in variants
    ]
    for turn in range(rounds):
        for pattern in patterns:
            before_it, frame_set = frames.frame_set(pattern), frames.frame_set(pattern)
            for index in order(len(variants), turn):
                variants[index].engine.infer(before_it)
                before = processors()
                seconds, perception = timed(clock, variants[index].engine.infer, frame_set)
                costs[index][pattern].append(processors() - before)
                spent[index][pattern].append(seconds)
                took = perception.timings_ms
                encode = sum(ms for step, ms in took.items() if step.startswith("encode/"))
                steps[index][pattern].append((encode, took["fuse"], took["decode"]))
    records = []
    for index, variant in enumerate(variants):
        for pattern in patterns:
            seconds_of = np.array(spent[index][pattern])
            figures = [
                ("ratio", paired_ratio(seconds_of, spent[0][pattern]), "1"),
                ("ratio_to_full", paired_ratio(seconds_of, spent[index][patterns[0]]), "1"),
                ("cost_to_full", paired_ratio(costs[index][pattern], costs[index][patterns[0]]), "1"),
                *((f"p{p}", np.percentile(seconds_of, p) * 1e3, "ms") for p in (50, 95, 99)),
                ("cost", np.median(costs[index][pattern]) * 1e3, "ms"),
                ("throughput", len(seconds_of) / seconds_of.sum(), "frames/s"),
            ]
            medians = np.median(np.array(steps[index][pattern]), axis=0)
            figures += zip(("encode", "fuse", "decode"), medians, ("ms",) * 3, strict=True)
            records += [variant.record(NAME, pattern, *figure) for figure in figures]
    return records
