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
