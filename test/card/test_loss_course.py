"""When which sensor is lost for the card, and that the live graph would notice."""

from __future__ import annotations

import pytest

from robust_perception.card.loss_course import LOST_S, losses_script, seconds_of
from robust_perception.evaluation.losses import losses
from robust_perception.presence.config import timeouts_s
from robust_perception.vocabulary import MODALITIES, Modality

S = 1_000_000_000


@pytest.mark.parametrize("slow", [{}, {Modality.RGB: 1.0}, {Modality.DEPTH: 0.5, Modality.THERMAL: 2.0}])
def test_a_loss_is_longer_than_the_timeout_of_its_sensor(slow: dict[Modality, float]) -> None:
    """The slower a sensor, the longer its timeout: at one frame a second it is three seconds."""
    periods = dict.fromkeys(MODALITIES, 0.1) | slow
    timeouts = timeouts_s(periods)
    faults = losses_script(MODALITIES, 100.0, timeouts).faults
    windows = list(dict.fromkeys((fault.at, fault.until) for fault in faults))
    assert len(windows) == len(MODALITIES) + 1
    for modality in MODALITIES:
        own = [fault for fault in faults if fault.sensor is modality]
        times = [round(i * periods[modality] * S) for i in range(round(100 / periods[modality]))]
        arrived = [t for t in times if not any(f.at * S <= t < f.until * S for f in own)]
        assert len(losses({modality: arrived}, [], timeouts)) == 2, f"{modality}: alone, and with all others"


def test_at_usual_timeouts_the_whole_takes_what_it_says() -> None:
    timeouts = timeouts_s({})
    for count in range(1, len(MODALITIES) + 1):
        sensors = MODALITIES[:count]
        whole = losses_script(sensors, seconds_of(count), timeouts).faults
        assert len(whole) == 2 * count
        assert {round(fault.until - fault.at, 6) for fault in whole} == {LOST_S}
        assert len(losses_script(sensors, seconds_of(count) - 0.1, timeouts).faults) == count
