"""Which frame sets become samples, and which of their frames are of the same moment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robust_perception.bags.truth import Truth
from robust_perception.datasets import Sample
from robust_perception.evaluation.samples import samples
from robust_perception.evaluation.stream import Arrival
from robust_perception.faults.kinds import Fault
from robust_perception.faults.script import FaultScript
from robust_perception.runtime.errors import MessageError
from robust_perception.vocabulary import MODALITIES, Modality, Reason, SensorFrame

S = 1_000_000_000
PERIOD_S = 0.1
RGB, DEPTH = Modality.RGB, Modality.DEPTH


@dataclass
class Schedule:
    """Cameras that take pictures at given times, ms; the content of each is its own."""

    times_ms: Mapping[Modality, list[int]]
    truths_ms: list[int] = field(default_factory=list)
    scene_names: tuple[str, ...] = ()
    check_header_age: bool = True
    start_ns: int = S
    unfit: Mapping[Modality, str] = field(default_factory=dict)

    @property
    def modalities(self) -> tuple[Modality, ...]:
        return tuple(m for m in MODALITIES if m in self.times_ms)

    @property
    def periods_s(self) -> Mapping[Modality, float]:
        return dict.fromkeys(self.modalities, PERIOD_S)

    @property
    def seconds(self) -> float:
        return max(t for times in self.times_ms.values() for t in times) / 1e3

    def arrivals(self, script: FaultScript, lead_s: float = 0.0) -> Iterator[Arrival]:
        found = []
        for m, times in self.times_ms.items():
            for i, ms in enumerate(times):
                time_ns = S + ms * 1_000_000
                sent = SensorFrame(m, np.full((2, 2), i, np.float32), time_ns)
                found += [Arrival(time_ns, d.frame) for d in script.apply(sent, ms / 1e3 + lead_s)]
        yield from sorted(found, key=lambda arrival: arrival.time_ns)

    def truths(self) -> Iterator[Truth]:
        for ms in self.truths_ms:
            yield Truth(S + ms * 1_000_000, np.full((2, 2), ms % 251, np.uint8))


def taken(source: Schedule, **how: float) -> list[dict[str, int]]:
    """Of every sample the time of each frame, ms."""
    return [ms_of(sample) for sample in samples(source, **how)]


def ms_of(sample: Sample) -> dict[str, int]:
    return {str(m): (f.end_ns - S) // 1_000_000 for m, f in sample.frames.items()}


def test_a_missing_frame_is_missing_and_not_the_one_before() -> None:
    source = Schedule({RGB: [0, 100, 300, 400], DEPTH: [0, 200, 300, 700, 800]})
    assert taken(source) == [
        {"rgb": 0, "depth": 0},
        {"rgb": 100},
        {"depth": 200},
        {"rgb": 300, "depth": 300},
        {"rgb": 400},
        {"depth": 700},
        {"depth": 800},
    ]


def test_cameras_that_do_not_tick_together_meet_in_one_sample_a_picture() -> None:
    source = Schedule({RGB: [100 * i for i in range(5)], DEPTH: [60 + 100 * i for i in range(5)]})
    assert taken(source) == [{"rgb": 0}, *({"rgb": 100 * i, "depth": 100 * i - 40} for i in range(1, 5))]
    assert taken(source, slop_s=0.02) != taken(source), "with less patience they do not meet"


@pytest.mark.parametrize(("behind", "meet"), [(90, True), (91, False)])
def test_frames_of_one_moment_are_less_than_a_period_apart(behind: int, meet: bool) -> None:
    source = Schedule({RGB: [100, 200], DEPTH: [200 - behind]})
    assert taken(source)[-1] == ({"rgb": 200, "depth": 200 - behind} if meet else {"rgb": 200})


def test_no_more_samples_a_second_than_asked_for() -> None:
    source = Schedule({RGB: [33 * i for i in range(90)], DEPTH: [33 * i + 3 for i in range(90)]})
    assert 28 <= len(taken(source, rate_hz=10.0)) <= 32
    assert len(taken(source, rate_hz=100.0)) == 90


def test_a_label_is_that_of_the_very_instant() -> None:
    source = Schedule({RGB: [0, 100, 200, 300, 400, 500]}, truths_ms=[0, 50, 200, 305, 401, 498])
    labels = [None if s.label is None else int(s.label[0, 0]) for s in samples(source)]
    assert labels == [0, None, 200, None, 401 % 251, None], "but for a millisecond"


def test_a_sensor_that_comes_and_goes_is_taken_whenever_it_comes() -> None:
    depth = [at + step for at in range(0, 6_000, 500) for step in (0, 100)]
    found = taken(Schedule({RGB: list(range(0, 6_000, 100)), DEPTH: depth}))
    assert [sample["depth"] for sample in found if "depth" in sample] == depth


def test_faults_act_on_the_way() -> None:
    times = list(range(0, 1_001, 100))
    script = FaultScript([Fault(0.35, 0.75, DEPTH, "loss")])
    found = list(samples(Schedule({RGB: times, DEPTH: times}), script=script))
    assert [ms["rgb"] for ms in map(ms_of, found) if "depth" not in ms] == [400, 500, 600, 700]


def test_what_was_refused_and_who_is_silent_at_the_end_is_told() -> None:
    class Torn(Schedule):
        def arrivals(self, script: FaultScript, lead_s: float = 0.0) -> Iterator[Arrival]:
            yield from super().arrivals(script, lead_s)
            error = MessageError(DEPTH, Reason.BAD_DATA, "expected a picture, got a torn one")
            yield from [Arrival(S + 1_100_000_000, error)] * 2

    refused: dict[str, int] = {}
    absent: list[str] = []
    source = Torn({RGB: list(range(0, 1_001, 100)), DEPTH: [0, 100]})
    assert len(list(samples(source, refused=refused, absent=absent))) == 11
    assert refused == {"depth: bad data: expected a picture, got a torn one": 2}
    (told,) = absent
    assert told.startswith("depth: ")


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(MODALITIES[:3]), st.sets(st.integers(0, 1500), min_size=1, max_size=12), min_size=1
    ),
    st.sampled_from([5.0, 15.0, 200.0]),
)
def test_whatever_comes_samples_are_of_one_moment_and_none_comes_twice(
    times: dict[Modality, set[int]], rate_hz: float
) -> None:
    source = Schedule({m: sorted(own) for m, own in times.items()})
    found = taken(source, rate_hz=rate_hz)
    firsts = [next(iter(sample.items())) for sample in found]
    assert len(set(firsts)) == len(firsts)
    for sample in found:
        assert max(sample.values()) - min(sample.values()) <= 1e3 * PERIOD_S
        assert all(ms in times[Modality(name)] for name, ms in sample.items())
    assert sum(len(own) for own in times.values()) == 0 or found, "something was there, something is taken"


def test_stamps_name_the_samples() -> None:
    names = [sample.name for sample in samples(Schedule({RGB: [0, 100]}))]
    assert names == ["0000000001000000000", "0000000001100000000"]
    assert names == sorted(names)
