"""A fault script applied to recorded messages.

A fault that only decides whether and when a message arrives leaves its bytes alone. One that changes content
takes the message apart and puts it together again in the same encoding, a compressed one in the same format;
pictures with an alpha channel and grey ones of an RGB camera become rgb8. How samples of sound are stored is
learnt from the AudioInfo that the same recording holds; until it has come, such a fault has none on sound.
Where a fault of content has no effect, those of arrival have theirs all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from robust_perception import units
from robust_perception.bags import dataset, types
from robust_perception.bags.errors import BagError
from robust_perception.bags.reader import RawMessage
from robust_perception.bags.sensor_topics import audio_info_topics
from robust_perception.faults.kinds import KINDS
from robust_perception.faults.script import FaultScript
from robust_perception.faults.values import counts
from robust_perception.runtime import images
from robust_perception.runtime.audio import AudioFormat
from robust_perception.runtime.decoders import ImageDecoder, ImageUnits, stamp_to_ns
from robust_perception.runtime.errors import DecodingError, EncodingError, MessageError
from robust_perception.vocabulary import IMAGE_MODALITIES, Array, Modality, Reason, SensorFrame


class RecordedFaults:
    """Applies a script to the sensors of a bag.

    Args:
        script: what happens.
        sensors: topic -> the sensor on it; other topics pass.
        image_units: what the counts of integer images mean, asked for every message.
        say: told once a topic why a fault cannot be applied to it.
        audio: how sound is stored, whatever AudioInfo says; None = as that says.

    Attributes:
        unfit: the newest such reason, by sensor.
    """

    def __init__(
        self,
        script: FaultScript,
        sensors: Mapping[str, Modality],
        image_units: Callable[[], ImageUnits],
        say: Callable[[str], None],
        audio: AudioFormat | None = None,
    ) -> None:
        self._script, self._sensors, self._say = script, sensors, say
        self._units = image_units
        self._said: set[str] = set()
        self.unfit: dict[Modality, str] = {}
        self._time_s = 0.0
        self._decoders = {m: ImageDecoder(m, image_units, lambda _: None) for m in IMAGE_MODALITIES}
        self._formats: dict[str, AudioFormat | str] = {}
        # As of one channel: faults act on every sample alike.
        self._audio = None if audio is None else replace(audio, channels=1)

    def __call__(self, message: RawMessage, time_s: float) -> list[tuple[bytes, float]]:
        """What arrives of a message measured at `time_s`: bytes and seconds of delay."""
        if time_s < self._time_s:
            self._script.reset()  # the bag has begun again
        self._time_s = time_s
        if message.msgtype == types.AUDIO_INFO:
            self._formats[message.topic] = _format(message)
        modality = self._sensors.get(message.topic)
        active = [fault for fault in self._script.active(time_s) if fault.sensor is modality]
        if modality is None or not active:
            return [(message.data, 0.0)]
        changing = [fault.kind for fault in active if KINDS[fault.kind].nature == "content"]
        if not changing:
            return self._arrivals_of(message, modality, time_s)
        try:
            frame, encode = self._open(message, modality)
        except (DecodingError, BagError) as error:
            detail = error.detail if isinstance(error, MessageError) else str(error)
            self.unfit[modality] = detail
            if message.topic not in self._said:
                self._said.add(message.topic)
                self._say(f"{message.topic}: {changing[0]} has no effect: {detail}")
            return self._arrivals_of(message, modality, time_s)
        return [(encode(delivery.frame), delivery.delay_s) for delivery in self._script.apply(frame, time_s)]

    def _arrivals_of(
        self, message: RawMessage, modality: Modality, time_s: float
    ) -> list[tuple[bytes, float]]:
        """What arrives of a message whose content nothing changes."""
        token = SensorFrame(modality, np.zeros(0, np.float32), 0)
        return [(message.data, d.delay_s) for d in self._script.apply(token, time_s, content=False)]

    def _open(
        self, message: RawMessage, modality: Modality
    ) -> tuple[SensorFrame, Callable[[SensorFrame], bytes]]:
        """The frame in a message, and what makes a message of the same encoding of a frame."""
        if message.msgtype == types.IMAGE and modality.is_image:
            image = types.deserialize(message.data, types.IMAGE)
            frame = self._decoders[modality].decode(image)
            return frame, lambda changed: _image(changed, image.encoding, self._units())
        if message.msgtype == types.COMPRESSED and modality.is_image:
            packed = types.deserialize(message.data, types.COMPRESSED)
            frame = self._decoders[modality].decode(packed)
            return frame, lambda changed: _compressed(changed, packed, self._units())
        if message.msgtype == types.AUDIO and modality is Modality.AUDIO:
            chunk = types.deserialize(message.data, types.AUDIO)
            stored = self._format_of(message.topic)
            samples = stored.decode(memoryview(chunk.audio.data))
            stamp_ns, frame_id = stamp_to_ns(chunk.header.stamp), str(chunk.header.frame_id)
            return SensorFrame(modality, samples, stamp_ns, frame_id), lambda changed: _audio(changed, stored)
        expected = f"{types.IMAGE} or {types.COMPRESSED}" if modality.is_image else types.AUDIO
        detail = f"expected {expected}, got {message.msgtype}"
        raise MessageError(modality, Reason.WRONG_ENCODING, detail)

    def _format_of(self, topic: str) -> AudioFormat:
        names = audio_info_topics(topic)
        told = self._audio or next((self._formats[name] for name in names if name in self._formats), None)
        if isinstance(told, AudioFormat):
            return told
        msg = told or f"expected the sample format on {' or '.join(names)} before it, got none"
        raise EncodingError(msg)


def _format(message: RawMessage) -> AudioFormat | str:
    """How samples are stored, as of one channel, or why nobody knows."""
    try:
        info = types.deserialize(message.data, types.AUDIO_INFO)
        return AudioFormat(info.sample_rate, 1, info.sample_format, info.coding_format)
    except (BagError, EncodingError) as error:
        return f"{message.topic}: {error}"


def _audio(frame: SensorFrame, stored: AudioFormat) -> bytes:
    return dataset.audio(stored.encode(frame.data), frame.stamp_ns, frame.frame_id)


def _image(frame: SensorFrame, encoding: str, scale: ImageUnits) -> bytes:
    stamped = (frame.stamp_ns, frame.frame_id)
    if frame.modality is Modality.RGB:
        if encoding == "bgr8":
            return dataset.image(frame.data[..., ::-1], encoding, *stamped)
        return dataset.image(frame.data, "rgb8", *stamped)
    if not frame.radiometric:
        return dataset.image(_counts(frame, scale), "mono8", *stamped)
    # mono16 is 16UC1 by another name
    data = frame.data if encoding == "32FC1" else _counts(frame, scale)
    return dataset.image(data, encoding, *stamped)


def _compressed(frame: SensorFrame, before: Any, scale: ImageUnits) -> bytes:
    header = dataset.header(frame.stamp_ns, frame.frame_id)
    if frame.modality is Modality.RGB or before.format.startswith("32FC1"):
        data = images.compress(frame.data, before)
    else:
        data = images.compress(_counts(frame, scale), before)
    message = types.message_class(types.COMPRESSED)(header, before.format, data)
    return types.serialize(message, types.COMPRESSED)


def _counts(frame: SensorFrame, scale: ImageUnits) -> Array:
    """Depth or thermal values as integers of a camera."""
    if not frame.radiometric:
        return counts(frame.data.astype(np.float32, copy=False))
    if frame.modality is Modality.DEPTH:
        return units.counts_from_depth(frame.data, scale.depth_scale)
    return units.counts_from_thermal(frame.data, scale.thermal_scale, scale.thermal_offset)
