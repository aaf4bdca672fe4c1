"""A fault script applied to recorded messages.

A fault that only decides whether and when a message arrives leaves its bytes alone. One that changes content
takes the message apart and puts it together again in the same encoding; pictures with an alpha channel and
grey ones of an RGB camera become rgb8.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from audio_common_msgs.msg import AudioDataStamped
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Image

from robust_perception import units
from robust_perception.bags.reader import RawMessage
from robust_perception.ros import images
from robust_perception.ros.errors import MessageError
from robust_perception.ros.messages import ImageDecoder, ImageUnits, audio_message, image_message, stamp_to_ns
from robust_perception.simulation.faults import FaultScript
from robust_perception.vocabulary import IMAGE_MODALITIES, Modality, Reason, SensorFrame

TIMING = ("loss", "flap", "delay")
"""Faults that leave content alone."""

IMAGE, AUDIO = "sensor_msgs/msg/Image", "audio_common_msgs/msg/AudioDataStamped"


class RecordedFaults:
    """Applies a script to the sensors of a bag.

    Args:
        script: what happens.
        sensors: topic -> the sensor on it; other topics pass.
        say: told once a topic why a fault cannot be applied to it.
    """

    def __init__(
        self, script: FaultScript, sensors: Mapping[str, Modality], say: Callable[[str], None]
    ) -> None:
        self._script, self._sensors, self._say = script, sensors, say
        self._said: set[str] = set()
        self._time_s = 0.0
        self._decoders = {m: ImageDecoder(m, ImageUnits, lambda _: None) for m in IMAGE_MODALITIES}

    def __call__(self, message: RawMessage, time_s: float) -> list[tuple[bytes, float]]:
        """What arrives of a message measured at `time_s`: bytes and seconds of delay."""
        if time_s < self._time_s:
            self._script.reset()  # the bag has begun again
        self._time_s = time_s
        modality = self._sensors.get(message.topic)
        active = [fault for fault in self._script.active(time_s) if fault.sensor is modality]
        if modality is None or not active:
            return [(message.data, 0.0)]
        if all(fault.kind in TIMING for fault in active):
            token = SensorFrame(modality, np.zeros(0, np.float32), 0)
            return [(message.data, delivery.delay_s) for delivery in self._script.apply(token, time_s)]
        try:
            frame, encode = self._open(message, modality)
        except MessageError as error:
            if message.topic not in self._said:
                self._said.add(message.topic)
                self._say(f"{message.topic}: {active[0].kind} has no effect: {error.detail}")
            return [(message.data, 0.0)]
        return [
            (bytes(serialize_message(encode(delivery.frame))), delivery.delay_s)
            for delivery in self._script.apply(frame, time_s)
        ]

    def _open(
        self, message: RawMessage, modality: Modality
    ) -> tuple[SensorFrame, Callable[[SensorFrame], Any]]:
        """The frame in a message, and what makes a message of the same encoding of a frame."""
        if message.msgtype == IMAGE and modality.is_image:
            image = deserialize_message(message.data, Image)
            return self._decoders[modality].decode(image), lambda frame: _image(frame, image.encoding)
        if message.msgtype == AUDIO and modality is Modality.AUDIO:
            chunk = deserialize_message(message.data, AudioDataStamped)
            # A chunk of whole S16LE samples; more is not known here, and faults of sound are not about pitch.
            counts = np.frombuffer(chunk.audio.data, dtype="<i2").astype(np.int16, copy=False)
            samples = units.audio_from_pcm16(counts)
            header = chunk.header
            return SensorFrame(modality, samples, stamp_to_ns(header.stamp), header.frame_id), audio_message
        detail = f"expected {IMAGE if modality.is_image else AUDIO}, got {message.msgtype}"
        raise MessageError(modality, Reason.WRONG_ENCODING, detail)


def _image(frame: SensorFrame, encoding: str) -> Image:
    if not frame.radiometric:
        grey = np.clip(np.rint(frame.data), 0, 255).astype(np.uint8)
        message = images.from_array(grey, "mono8")
        message.header = image_message(frame, "32FC1").header
        return message
    if frame.modality is Modality.RGB:
        if encoding == "bgr8":
            return image_message(replace(frame, data=frame.data[..., ::-1]), encoding)
        return image_message(frame, "rgb8")
    message = image_message(frame, "32FC1" if encoding == "32FC1" else "16UC1")
    message.encoding = encoding  # mono16 is 16UC1 by another name
    return message
