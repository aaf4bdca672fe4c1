"""Which validation frames an export looks at.

    F     the frames that can tell anything, n = their number
    S     min(limit, n) of F, evenly spread, always the same
    K_i   those of F that show one of the things that are asked for
    chosen = S, and for every i evenly spread ones of K_i until limit / 4 of them are chosen, or all there are

So a sensor that few frames have, or a class of things that few frames show, is not missed by chance.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence

from robust_perception.training.mixture import MixedDataset
from robust_perception.training.validation import spread
from robust_perception.vocabulary import Modality, Pattern

PART = 4
"""The frames asked for, over those of one kind that are wanted among them at least."""


def calibration_frames(dataset: MixedDataset, modalities: Sequence[Modality], limit: int) -> list[int]:
    """Frames that show the ranges of values: of every sensor some, if there are any.

    Args:
        dataset: validation frames.
        modalities: of the network.
        limit: frames to look at if all have all sensors.
    """
    having = [{i for i, name in enumerate(dataset.names) if dataset.path(m, name)} for m in modalities]
    return _choose(set().union(*having), having, limit)


def threshold_frames(
    dataset: MixedDataset, patterns: Sequence[Pattern], limit: int
) -> tuple[list[int], list[Pattern]]:
    """Frames of which the boxes are known, and the patterns that none of those with a box can show.

    Args:
        dataset: validation frames; no sensor's file is read.
        patterns: that want a threshold each: some of the frames with a box have its sensors.
        limit: frames to look at if all have boxes and all sensors; 0 = all.

    Raises:
        DatasetError: a label map cannot be read.
    """
    counts = [dataset.box_count(index) for index in range(len(dataset))]
    known = {index for index, count in enumerate(counts) if count is not None}
    showing = {
        pattern: {i for i in known if counts[i] and all(dataset.path(m, dataset.names[i]) for m in pattern)}
        for pattern in patterns
    }
    return _choose(known, showing.values(), limit), [p for p, frames in showing.items() if not frames]


def _choose(candidates: Collection[int], kinds: Iterable[Collection[int]], limit: int) -> list[int]:
    chosen = _spread_over(candidates, limit)
    for kind in kinds:
        lacking = math.ceil(limit / PART) - len(chosen.intersection(kind))
        if lacking > 0:
            chosen |= _spread_over(set(kind) - chosen, lacking)
    return sorted(chosen)


def _spread_over(frames: Collection[int], limit: int) -> set[int]:
    ordered = sorted(frames)
    return {ordered[position] for position in spread(len(ordered), limit)}
