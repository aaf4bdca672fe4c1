"""Where a bag has its sensors unless it is told: the topics that drivers of this project's graphs publish."""

from __future__ import annotations

from robust_perception.vocabulary import Modality

SENSOR_TOPICS: dict[Modality, str] = {
    Modality.RGB: "/rgb/image",
    Modality.DEPTH: "/depth/image",
    Modality.THERMAL: "/thermal/image",
    Modality.AUDIO: "/audio",
}
AUDIO_INFO_TOPIC = "/audio_info"


def audio_info_topics(topic: str) -> tuple[str, ...]:
    """Where the format of the sound on a topic is told; the first that is there counts."""
    beside = f"{topic.rpartition('/')[0]}{AUDIO_INFO_TOPIC}"  # where the launch file looks for it
    return tuple(dict.fromkeys((f"{topic}_info", beside, AUDIO_INFO_TOPIC)))
