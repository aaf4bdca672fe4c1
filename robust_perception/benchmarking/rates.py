"""What an average output costs when sensors tick at rates of their own and latents are used again.

Colour and depth come 30 times a second, thermal 9 times, sound once; an output is made 30 times a second, of
the newest frame of each. Beside it, at every instant, a second engine on the same backend gets new frames of
all sensors, and what the encoders of those spent that had nothing new at this instant is taken off: what the
output has to cost if nothing is computed but what is new.

    ratio           mean output over mean price of its new frames; median over seconds
    average_output  mean
    price           mean, of its new frames
    all_new         mean, with all frames new
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robust_perception.benchmarking.frames import Frames
from robust_perception.benchmarking.records import Record
from robust_perception.benchmarking.turns import Clock, order, steady, timed
from robust_perception.benchmarking.variants import Variant
from robust_perception.vocabulary import FrameSet, Modality, Pattern, SensorFrame

NAME = "rates"
OUTPUTS = 30
RATES = {Modality.RGB: 30, Modality.DEPTH: 30, Modality.THERMAL: 9, Modality.AUDIO: 1}
"""Frames a second of each sensor, and of outputs."""


def ticks(instant: int) -> set[Modality]:
    """Sensors with a new frame at an instant 0 .. OUTPUTS-1 of a second: as many as `RATES` says of each."""
    return {m for m, rate in RATES.items() if instant * rate // OUTPUTS != (instant - 1) * rate // OUTPUTS}


def measure(
    variants: Sequence[Variant], frames: Frames, pattern: Pattern, seconds: int, clock: Clock = steady
) -> list[Record]:
    """Records of every variant under a pattern."""
    # Side by side, an encoder's time on the wall is not what it costs.
    reusing, beside = ([variant.beside() for variant in variants] for _ in range(2))
    shape = (len(variants), seconds, OUTPUTS)
    output, price, all_new = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    newest: dict[Modality, SensorFrame] = {}
    for second in range(seconds):
        for instant in range(OUTPUTS):
            ticking = ticks(instant)
            newest |= {m: frames.frame(m) for m in pattern if m in ticking}
            reused = FrameSet(pattern, dict(newest), next(iter(pattern)))
            new = frames.frame_set(pattern)
            for index in order(len(variants), second * OUTPUTS + instant):
                at = index, second, instant
                if instant % 2:  # the first of the two comes right after another variant's
                    output[at], _ = timed(clock, reusing[index].infer, reused)
                all_new[at], perception = timed(clock, beside[index].infer, new)
                if not instant % 2:
                    output[at], _ = timed(clock, reusing[index].infer, reused)
                took = perception.timings_ms
                old = sum(took[f"encode/{m.value}"] for m in pattern if m not in ticking)
                price[at] = all_new[at] - old * 1e-3
    records = []
    for index, variant in enumerate(variants):
        ratios = output[index].mean(axis=1) / price[index].mean(axis=1)
        records += [
            variant.record(NAME, pattern, "ratio", float(np.median(ratios)), "1"),
            variant.record(NAME, pattern, "average_output", output[index].mean() * 1e3, "ms"),
            variant.record(NAME, pattern, "price", price[index].mean() * 1e3, "ms"),
            variant.record(NAME, pattern, "all_new", all_new[index].mean() * 1e3, "ms"),
        ]
    return records
