"""The parameters of `replay_node`, and which of them do not go together or with the bag."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from rclpy.exceptions import NameValidationException
from rclpy.expand_topic_name import expand_topic_name
from rclpy.validate_full_topic_name import validate_full_topic_name

from robust_perception.bags.sensor_topics import SENSOR_TOPICS
from robust_perception.faults.script import FaultScript
from robust_perception.ros.errors import ParameterError, RosError
from robust_perception.ros.parameters import Parameter, ParameterTable
from robust_perception.ros.unit_parameters import UNITS
from robust_perception.vocabulary import MODALITIES

REPLAY: tuple[Parameter, ...] = (
    Parameter("bag", "", "Folder of the bag, or its .mcap or .db3 file.", "configured"),
    Parameter(
        "speed",
        1.0,
        "Times as fast as it was recorded; 0 = as fast as listeners confirm, and needs stamps recorded.",
        "configured",
        0.0,
        100.0,
    ),
    Parameter("start", 0.0, "Begin so long after the bag's first message, s.", "configured", 0.0),
    Parameter("start_paused", False, "Begin paused: ~/resume, ~/play_next or ~/step lead on.", "configured"),
    Parameter(
        "step_window",
        0.05,
        "What ~/step plays: the next message and all within this time after it, s.",
        "configured",
        0.0,
        60.0,
    ),
    Parameter(
        "remaps",
        [""],
        "Topics that are published under another name, each as /from:=/to.",
        "configured",
    ),
    Parameter("loop", False, "Begin again at the end.", "configured"),
    Parameter(
        "stamps",
        "now",
        "now moves header stamps as if the recording happened now, recorded leaves them as they are.",
        "configured",
        choices=("now", "recorded"),
    ),
    Parameter(
        "clock", False, "Publish the time of the recording on /clock; needs stamps recorded.", "configured"
    ),
    Parameter(
        "topics",
        [""],
        "Play only these; an empty name asks for all but outputs of fusion, diagnostics, clock and logs.",
        "configured",
    ),
    Parameter(
        "faults", "", "Fault script: a file, or a name out of config/faults; empty = none.", "configured"
    ),
    *(
        Parameter(f"{m}.topic", topic, f"Topic of the bag that faults of {m} act on.", "configured")
        for m, topic in SENSOR_TOPICS.items()
    ),
    *UNITS,
    Parameter("wait", True, "Begin when somebody listens to a sensor's topic, not before.", "configured"),
    Parameter(
        "exit_at_end",
        True,
        "End the process at the end of the bag, or when it cannot be played.",
        "configured",
    ),
    Parameter("autostart", True, "Configure and activate without being asked.", "start"),
)
"""The table of parameters."""


def check_stamps(table: ParameterTable) -> None:
    """RosError where stamps that move do not go with what else is asked for."""
    if table["stamps"] == "recorded":
        return
    if table["clock"]:
        msg = "parameter clock: expected stamps recorded beside it, got stamps now"
        raise RosError(msg)
    if not table["speed"]:
        msg = "parameter speed: expected stamps recorded beside 0, got stamps now"
        raise RosError(msg)


def check_span(table: ParameterTable, seconds: float) -> None:
    """RosError where nothing of a bag of so many seconds would be played, or a loop would not take time."""
    if table["start"] > seconds:
        msg = f"parameter start: expected a time within {seconds:.2f} s, got {table['start']:g}"
        raise RosError(msg)
    if table["loop"] and table["start"] >= seconds:
        msg = f"parameter loop: expected a bag that goes on after start, got one of {seconds:.2f} s"
        raise RosError(f"{msg}, which would be published without a pause")


def remapped(node: Any, table: ParameterTable, played: Collection[str]) -> dict[str, str]:
    """`/from:=/to` as names.

    Args:
        node: the node that publishes.
        table: its parameters.
        played: names of the topics that are played.

    Raises:
        ParameterError: what is not of this form, or no name of a topic.
        RosError: a topic that is not played.
    """
    found = {}
    for pair in filter(None, table["remaps"]):
        source, _, target = pair.partition(":=")
        if not source.startswith("/") or not _is_name(node, target):
            raise ParameterError("remaps", "names as /from:=/to", pair)
        found[source] = target
    if strange := sorted(found.keys() - set(played)):
        msg = f"parameter remaps: expected topics that are played ({', '.join(played)})"
        raise RosError(f"{msg}, got {', '.join(strange)}")
    return found


def _is_name(node: Any, topic: str) -> bool:
    try:
        validate_full_topic_name(expand_topic_name(topic, node.get_name(), node.get_namespace()))
    except (NameValidationException, RuntimeError, ValueError):
        return False
    return True


def sensors_not_played(table: ParameterTable, script: FaultScript, played: Collection[str]) -> list[str]:
    """The sensors of a script whose topics are not played, with their topics, in words.

    Raises:
        RosError: these are all its sensors.
    """
    named = {fault.sensor for fault in script.faults}
    missing = [m for m in MODALITIES if m in named and table[f"{m}.topic"] not in played]
    words = [f"{m} ({table[f'{m}.topic']})" for m in missing]
    if named and len(missing) == len(named):
        msg = f"parameter faults: expected a sensor whose topic is played ({', '.join(played)})"
        raise RosError(f"{msg}, got {', '.join(words)}; say the topics with {missing[0]}.topic and so on")
    return words
