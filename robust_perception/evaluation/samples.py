"""A bag as samples for training: what the live graph would have perceived from, one frame set a picture.

The bag is played through the live graph's own presence and pacing, with somebody in the engine's place who
only takes frame sets. Of a set, a sample keeps the frames of one moment:

    kept       frames whose measurement ended at most `slop` before that of the newest in the set, where slop
               is 0.9 periods of their sensor: a sensor that is one frame behind has none of this moment
    a sample   when the first kept one of rgb, depth, thermal, audio is in no earlier sample

A sensor that returns is taken at once: how often it was lost is the graph's concern, not that of a sample.
The graph itself holds on to a sensor's last frame until its timeout, which is right for a robot that must go
on and wrong for a label: the picture is of another moment. A sensor that is missing is missing in the sample.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import replace

from robust_perception.bags.truth import Truth
from robust_perception.datasets import Sample
from robust_perception.evaluation.playback import Playback, Taker, in_words
from robust_perception.evaluation.stream import SECOND, Source
from robust_perception.faults.script import FaultScript
from robust_perception.presence.config import timeouts_s
from robust_perception.runtime.pacing import RATE_HZ
from robust_perception.vocabulary import MODALITIES, Modality, SensorFrame

SLOP_PERIODS = 0.9
"""Part of a sensor's period up to which its frame is of the same moment."""
SAME_NS = 1_000_000
"""Two stamps of one instant may differ by so much: the end of sound is a count of samples."""


def samples(
    source: Source,
    *,
    rate_hz: float = RATE_HZ,
    slop_s: float | None = None,
    script: FaultScript | None = None,
    refused: dict[str, int] | None = None,
    absent: list[str] | None = None,
) -> Iterator[Sample]:
    """The samples of a source, in order; the name of each is the stamp of its first frame's end, 19 digits.

    Args:
        source: what is played.
        rate_hz: most samples a second.
        slop_s: seconds instead of 0.9 periods.
        script: faults on the way.
        refused: takes in words what messages could not become frames, and how often.
        absent: takes in words what sensors are not alive at the end, and why.

    Raises:
        BagError: the bag is damaged, or its truth cannot be read.
    """
    playback = Playback(
        Taker(),
        source,
        script or FaultScript(),
        rate_hz=rate_hz,
        settings={"recover_frames": 1, "flap_hold_ns": 0},
    )
    slop_ns = {m: round(SECOND * s) for m, s in _slop(source.periods_s, slop_s).items()}
    truths = _TruthAt(source.truths())
    seen: dict[Modality, int] = {}
    for played in playback.run():
        frames = played.perception.frame_set.frames
        newest_ns = max(frame.end_ns for frame in frames.values())
        kept = {m: f for m, f in frames.items() if newest_ns - f.end_ns <= slop_ns[m]}
        first = next(m for m in MODALITIES if m in kept)
        end_ns = kept[first].end_ns
        if end_ns > seen.get(first, -1):
            seen |= {m: f.end_ns for m, f in kept.items()}
            yield _sample(kept, truths.at(end_ns), end_ns)
    if refused is not None:
        refused |= playback.refused
    if absent is not None:
        absent += in_words(playback.absent)


def _slop(periods_s: Mapping[Modality, float], slop_s: float | None) -> dict[Modality, float]:
    if slop_s is not None:
        return dict.fromkeys(MODALITIES, slop_s)
    whole = timeouts_s(periods_s)
    return {m: SLOP_PERIODS * periods_s[m] if m in periods_s else whole[m] for m in MODALITIES}


def _sample(frames: Mapping[Modality, SensorFrame], truth: Truth | None, end_ns: int) -> Sample:
    sample = Sample(f"{end_ns:019}", frames, None, None, None, None)
    if truth is None:
        return sample
    return replace(
        sample,
        label=truth.label,
        boxes=truth.boxes,
        class_ids=truth.class_ids,
        scene=truth.scene,
        boxes_from_label=truth.boxes_from_label,
        crowds=truth.crowds,
    )


class _TruthAt:
    """The truth of exactly an instant; instants may go back by a little where sensors take turns."""

    def __init__(self, truths: Iterator[Truth], kept: int = 64) -> None:
        self._truths = truths
        self._last: deque[Truth] = deque(maxlen=kept)

    def at(self, time_ns: int) -> Truth | None:
        while not self._last or self._last[-1].stamp_ns < time_ns + SAME_NS:
            truth = next(self._truths, None)
            if truth is None:
                break
            self._last.append(truth)
        nearest = min(self._last, key=lambda truth: abs(truth.stamp_ns - time_ns), default=None)
        return nearest if nearest and abs(nearest.stamp_ns - time_ns) <= SAME_NS else None
