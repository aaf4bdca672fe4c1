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
    return tuple(dict.fromkeys((f"{topic}_info", AUDIO_INFO_TOPIC)))
