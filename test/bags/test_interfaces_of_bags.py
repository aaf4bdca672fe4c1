"""The definitions that bags carry are those of the released packages."""

from __future__ import annotations

import pytest

from robust_perception.bags import types
from robust_perception.bags.interfaces import DEFINITIONS

RELEASED = {
    "vision_msgs/msg/Detection2DArray": "214274120007f4a683866481336b70310268cfa107aebe9d594a6acf75bda968",
    "vision_msgs/msg/Detection2D": "0d12b69df5c593b3455b7346fac8205437a7d4bcb09b9e0e0b2dde787ded38ea",
    "vision_msgs/msg/BoundingBox2D": "008eacbb0cf8f26e83795547bed013eec3675485ef386ec056d80eaaf1c1ce2f",
    "vision_msgs/msg/VisionClass": "1e4a11f0fed50b5623cb8ff26ca0e37952a48a9c074d16f804b44e9164c2037a",
    "vision_msgs/msg/Classification": "f74db28d0eaef3afb78f48bf2161cd709a1383a0309d3454383b25be11345143",
    "vision_msgs/msg/LabelInfo": "3d37df4015cdf660cc851c51897f2acd957e1ca6205ba0a99aebffb9406b0783",
    "vision_msgs/msg/VisionInfo": "95d3116a17484ad91c9a2686e1d54890bbfc3ff6c6a2de137738c4950d45d284",
    "audio_common_msgs/msg/AudioDataStamped": (
        "6fc679d5a868ed68e4d301f1ef42abecc86140afb57d255656ff2d9e476ea9e3"
    ),
    "audio_common_msgs/msg/AudioInfo": "b3494d204e513d2cceefae1888e5be3da7c8c8ca31eb277f7b5b62f364bcb1fb",
}
"""Type -> RIHS01 hash in vision_msgs 4.1 and audio_common_msgs 0.4."""


@pytest.mark.parametrize("msgtype", RELEASED)
def test_hashes_are_those_of_the_released_packages(msgtype: str) -> None:
    assert types.typestore().hash_rihs01(msgtype) == f"RIHS01_{RELEASED[msgtype]}"


def test_every_definition_is_known_to_the_typestore() -> None:
    for msgtype in DEFINITIONS:
        assert types.message_class(msgtype).__msgtype__ == msgtype
