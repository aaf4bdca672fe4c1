"""What a change of the pattern costs: time, frames, and whether it leaves a trace.

Each variant goes through the patterns with three frames each: one still under the pattern before, which is
not measured because another variant had its turn before it, then the first after the switch, then a steady
one. All frames have the same content and are new, so that the measured ones do the same work.

The first one finds the encoders of other sensors, or another copy of them, in the processor's caches; the
second finds its own. That is no matter of the pattern, and would be so if a sensor were encoded for anybody
else. So there is a fourth frame, before which the sensors of the pattern before are encoded as well, but no
pattern changes: what the first takes longer than that one is the switch's own.

    ratio             time of the first frame to that of the second, median over all switches
    cost              time of the first frame less that of the second, median
    own_ratio         time of the first frame to that of the fourth, median
    own_cost          time of the first frame less that of the fourth, median
    lost_frames       frames after a switch that were not answered under their pattern
    differing_frames  frames after a switch, and steady ones, whose output is not that of a fresh session, bit
                      by bit; asked under the first and the last pattern, because each needs a session of its
                      own. Under the others the first output seen stands for it. Left out for variants that
                      make no fresh session.
    count             of switches
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robust_perception.benchmarking.frames import Frames
from robust_perception.benchmarking.records import Record
from robust_perception.benchmarking.turns import Clock, order, paired_ratio, steady, timed
from robust_perception.benchmarking.variants import Variant
from robust_perception.vocabulary import Pattern, Perception

NAME = "switch"
CONTENT = 0


def measure(
    variants: Sequence[Variant],
    frames: Frames,
    patterns: Sequence[Pattern],
    rounds: int,
    clock: Clock = steady,
) -> list[Record]:
    """Records of every variant; none where there is one pattern and nothing to switch."""
    if len(patterns) < 2:
        return []
    times: list[list[tuple[float, float, float]]] = [[] for _ in variants]
    lost = [0] * len(variants)
    outputs: list[list[tuple[Pattern, bytes]]] = [[] for _ in variants]

    def timed_frame(index: int, pattern: Pattern) -> float:
        frame_set = frames.frame_set(pattern, CONTENT)
        seconds, perception = timed(clock, variants[index].engine.infer, frame_set)
        outputs[index].append((pattern, content_of(perception)))
        lost[index] += perception.frame_set.pattern != pattern
        return seconds

    for turn in range(rounds):
        for before, pattern in zip((patterns[-1], *patterns), patterns, strict=False):
            for index in order(len(variants), turn):
                engine = variants[index].engine
                engine.infer(frames.frame_set(before, CONTENT))
                first, second = timed_frame(index, pattern), timed_frame(index, pattern)
                engine.encode(frames.frame_set(before, CONTENT).frames.values(), before)
                times[index].append((first, second, timed_frame(index, pattern)))
    records = []
    for index, variant in enumerate(variants):
        first_ones, second_ones, unswitched = np.array(times[index]).T
        figures = [
            ("ratio", paired_ratio(first_ones, second_ones), "1"),
            ("cost", float(np.median(first_ones - second_ones)) * 1e6, "us"),
            ("own_ratio", paired_ratio(first_ones, unswitched), "1"),
            ("own_cost", float(np.median(first_ones - unswitched)) * 1e6, "us"),
            ("lost_frames", lost[index], "frames"),
        ]
        if variant.load is not None:
            expected = {}
            for pattern in (patterns[0], patterns[-1]):
                fresh = variant.load().infer(frames.frame_set(pattern, CONTENT))
                expected[pattern] = content_of(fresh)
            differing = sum(expected.setdefault(pattern, got) != got for pattern, got in outputs[index])
            figures.append(("differing_frames", differing, "frames"))
        figures.append(("count", len(times[index]), "switches"))
        records += [variant.record(NAME, None, *figure) for figure in figures]
    return records


def content_of(perception: Perception) -> bytes:
    """All that is said, as bytes that are equal only where every bit is."""
    arrays = (
        perception.label_map,
        perception.boxes,
        perception.scores,
        perception.class_ids,
        perception.scene,
        np.float64(perception.confidence),
    )
    return b"|".join(array.tobytes() for array in arrays)
