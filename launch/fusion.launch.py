"""Start the graph: fusion_node, and where asked for the simulation or a bag as its source of sensor data.

ros2 launch robust_perception fusion.launch.py                       # a robot: the sensors are there
ros2 launch robust_perception fusion.launch.py source:=simulation faults:=demo
ros2 launch robust_perception fusion.launch.py source:=bag bag:=/data/run.mcap start:=10.0 speed:=0.5
ros2 launch robust_perception fusion.launch.py record:=/data/today
ros2 launch robust_perception fusion.launch.py rgb_topic:=/camera/color/image_raw thermal_enabled:=false
"""

import json
import re
import tempfile
from pathlib import Path

import yaml
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from robust_perception import environment
from robust_perception.engine import choice

TOPICS = {"rgb": "rgb/image", "depth": "depth/image", "thermal": "thermal/image", "audio": "audio"}
TRUTH = ("false", "true")
TRANSPORTS = ("compressed", "compressedDepth")
UNITS = ("depth.scale", "thermal.encoding_scale", "thermal.offset")
AS_SIMULATED = {"audio.sample_rate": 0} | {f"{m}.transport": "raw" for m in ("rgb", "depth", "thermal")}
"""How the simulation sends, whatever the sensors of a robot do: raw images, sound as audio_info says."""
OF_A_BAG = {"bag": "", "speed": "1.0", "start": "0.0", "loop": "false"}


def arguments():
    """What can be said on the command line, each with its meaning, default and choices."""
    yield DeclareLaunchArgument(
        "source",
        default_value="live",
        choices=["live", "simulation", "bag"],
        description="where sensor data comes from: topics that are there, the simulated rig, or a bag",
    )
    yield DeclareLaunchArgument(
        "bag",
        default_value=OF_A_BAG["bag"],
        description="bag to play with source:=bag: a folder or an .mcap file",
    )
    yield DeclareLaunchArgument(
        "faults",
        default_value="",
        description="fault script for the simulation or the bag player: a file, or a name in config/faults",
    )
    yield DeclareLaunchArgument(
        "speed",
        default_value=OF_A_BAG["speed"],
        description="times as fast as it was recorded, for source:=bag",
    )
    yield DeclareLaunchArgument(
        "start",
        default_value=OF_A_BAG["start"],
        description="seconds of the bag to leave out, for source:=bag",
    )
    yield DeclareLaunchArgument(
        "loop",
        default_value=OF_A_BAG["loop"],
        choices=TRUTH,
        description="play the bag again and again, for source:=bag",
    )
    yield DeclareLaunchArgument(
        "record",
        default_value="",
        description="folder of a new bag that all topics are recorded to; empty: no recording",
    )
    yield DeclareLaunchArgument(
        "namespace", default_value="", description="namespace of every node and topic"
    )
    yield DeclareLaunchArgument(
        "params_file", default_value="", description="parameters of fusion_node; empty: config/fusion.yaml"
    )
    yield DeclareLaunchArgument(
        "model", default_value="", description="model folder or name; empty: as the parameters say"
    )
    yield DeclareLaunchArgument(
        "backend",
        default_value="",
        choices=["", *choice.CHOICES],
        description="what runs the graphs; empty: as the parameters say",
    )
    yield DeclareLaunchArgument(
        "precision",
        default_value="",
        choices=["", *choice.PRECISION_CHOICES],
        description="arithmetic of the graphs; empty: as the parameters say",
    )
    yield DeclareLaunchArgument(
        "use_sim_time",
        default_value="",
        choices=["", *TRUTH],
        description="take time from /clock; empty: as the parameters say",
    )
    yield DeclareLaunchArgument(
        "log_level",
        default_value="info",
        choices=["debug", "info", "warn", "error", "fatal"],
        description="least severity that the nodes log",
    )
    for sensor, topic in TOPICS.items():
        yield DeclareLaunchArgument(
            f"{sensor}_topic",
            default_value=topic,
            description=f"topic of the {sensor} sensor; images of .../compressed are taken compressed",
        )
        yield DeclareLaunchArgument(
            f"{sensor}_enabled",
            default_value="",
            choices=["", *TRUTH],
            description=f"whether the {sensor} sensor is used at all; empty: as the parameters say",
        )


def nodes(context):
    """The nodes for the values that were said."""
    said = {name: LaunchConfiguration(name).perform(context) for name in context.launch_configurations}
    _refuse_contradictions(said)
    share = environment.share_folder()
    common = {
        "package": environment.NAME,
        "namespace": said["namespace"],
        "output": "screen",
        "arguments": ["--ros-args", "--log-level", said["log_level"]],
    }
    # What this file plays itself has the clock that it says; on a robot parameters may say it, too.
    left_open = said["source"] == "live" and not said["use_sim_time"]
    sim_time = {} if left_open else {"use_sim_time": said["use_sim_time"] == "true"}
    values = dict(sim_time)
    for sensor in TOPICS:
        if said[f"{sensor}_enabled"]:
            values[f"{sensor}.enabled"] = said[f"{sensor}_enabled"] == "true"
        if _transport(sensor, said):
            values[f"{sensor}.transport"] = "compressed"
    for name in ("model", "backend", "precision"):
        if said[name]:
            values[name] = said[name]
    names = [pair for sensor in TOPICS for pair in _names(sensor, said)]
    remappings = [(own, name) for own, name in names if own != name]
    # A shell leaves `~` behind `:=` as it is; the nodes expand it in their own paths.
    params_file = str(Path(said["params_file"] or share / "config" / "fusion.yaml").expanduser())
    namespace = _namespace(said)
    # Whoever plays the sensors needs to know what the counts of pictures mean, as fusion_node does.
    sections = _said_to(f"{namespace}/fusion", params_file)
    in_file = dict(pair for _, below in sections for pair in _flat(below))
    units = _units(in_file)
    if left_open and in_file.get("use_sim_time") is True:
        sim_time = {"use_sim_time": True}  # whoever records stamps what it receives with that clock, too
    if said["source"] == "simulation":
        values |= AS_SIMULATED
    started = [
        Node(
            executable="fusion_node",
            name="fusion",
            parameters=[params_file, values, *_said_again(values, f"{namespace}/fusion", sections)],
            remappings=remappings,
            **common,
        )
    ]
    faults = {"faults": _fault_script(said["faults"], share)} if said["faults"] else {}
    if said["source"] == "simulation":
        started.append(
            Node(
                executable="simulation_node",
                name="simulation",
                parameters=[sim_time | units | faults],
                remappings=remappings,
                **common,
            )
        )
    elif said["source"] == "bag":
        values = {"bag": said["bag"]} | {name: _number(name, said[name]) for name in ("speed", "start")}
        values |= {"loop": said["loop"] == "true"} | units | faults
        if said["use_sim_time"] == "true":
            values |= {"stamps": "recorded", "clock": True}
        for sensor, topic in TOPICS.items():
            if said[f"{sensor}_topic"] != topic:
                values[f"{sensor}.topic"] = "/" + said[f"{sensor}_topic"].removeprefix("/")
        started.append(
            Node(
                executable="replay_node",
                name="replay",
                parameters=[values],
                # Recorded names are absolute: those that are not meant so move into the namespace.
                remappings=[("/" + name, name) for _, name in names if namespace and name[:1] != "/"],
                **common,
            )
        )
    if said["record"]:
        started.append(
            Node(
                executable="recorder_node",
                name="recorder",
                parameters=[sim_time | {"bag": said["record"]}],
                **common,
            )
        )
    return started


def _said_again(values, node, sections):
    """Files with values for the sections of the parameter file that would win over them: one, or none.

    Of the sections that fit a node the last counts, and one that comes again keeps its place. Values stand
    under the node's name, so a `/**` or `/*` below it in the file beats them.
    """
    names = [name for name, _ in sections]
    below = names[names.index(node) + 1 :] if node in names else []
    if not (values and below):
        return []
    with tempfile.NamedTemporaryFile("w", prefix="launch_params_", suffix=".yaml", delete=False) as file:
        json.dump({name: {"ros__parameters": values} for name in below}, file)  # YAML, too, and types stay
    return [file.name]


def _refuse_contradictions(said):
    """What was said must be of use to somebody."""
    source = said["source"]
    if source == "bag" and not said["bag"]:
        raise RuntimeError("source:=bag needs a bag to play: say bag:=FOLDER or bag:=FILE.mcap")
    idle = [f"{name}:={said[name]}" for name, default in OF_A_BAG.items() if said[name] != default]
    if source != "bag" and idle:
        raise RuntimeError(f"{' '.join(idle)} is for the bag player: say source:=bag too")
    if source == "live" and said["faults"]:
        raise RuntimeError(
            "faults:= is applied by the simulation or the bag player: say source:=simulation or bag"
        )
    if source == "simulation" and said["use_sim_time"] == "true":
        raise RuntimeError(
            "use_sim_time:=true needs somebody who publishes /clock; the simulation does not: leave it out"
        )
    compressed = [said[f"{sensor}_topic"] for sensor in TOPICS if _transport(sensor, said)]
    if source == "simulation" and compressed:
        raise RuntimeError(f"the simulation sends raw images, not {', '.join(compressed)}: leave the end out")


def _namespace(said):
    """The namespace of the nodes, absolute, empty for the root; a relative one lies in that of a group."""
    around, own = said.get("ros_namespace") or "", said["namespace"]
    names = [own] if own.startswith("/") else [around, own]
    return "".join(f"/{name.strip('/')}" for name in names if name.strip("/"))


def _transport(sensor, said):
    """The end of an image topic that says it is compressed, or an empty word."""
    end = said[f"{sensor}_topic"].rpartition("/")[2]
    return end if sensor != "audio" and end in TRANSPORTS else ""


def _names(sensor, said):
    """The names a sensor has by default and those said; what lies beside it by custom comes along."""
    own, transport = TOPICS[sensor], _transport(sensor, said)
    topic = said[f"{sensor}_topic"].removesuffix(f"/{transport}") if transport else said[f"{sensor}_topic"]
    beside = topic[: topic.rfind("/") + 1]
    yield own, topic
    if sensor == "audio":
        yield "audio_info", f"{beside}audio_info"
    else:
        yield f"{own}/compressed", f"{topic}/{transport or 'compressed'}"
        yield f"{sensor}/camera_info", f"{beside}camera_info"


def _sections(params_file):
    """The sections of a parameter file, name of the nodes and what it says to them; none if it is no YAML.

    Raises:
        RuntimeError: there is no such file: launch would leave it out, and every value at its default.
    """
    try:
        return list(_of_nodes(yaml.safe_load(Path(params_file).read_text(encoding="utf-8"))))
    except OSError as error:
        raise RuntimeError(f"params_file:={params_file} cannot be read: {error.strerror}") from None
    except (ValueError, yaml.YAMLError):  # the node says where
        return []


def _of_nodes(tree, above=""):
    for key, below in tree.items() if isinstance(tree, dict) else ():
        if key == "ros__parameters":
            yield above, below
        else:
            yield from _of_nodes(below, f"{above}/{str(key).strip('/')}")


def _fits(name, node):
    """Whether a section of this name, with `*` for one part and `**` for any number, is for a node."""
    names = re.sub(r"/\*\*?", lambda star: {3: r"(/\w+)*", 2: r"/\w+"}[len(star[0])], name)
    return re.fullmatch(names, node) is not None


def _said_to(node, params_file):
    """What a parameter file says to a node: the sections that fit it, in order, each with its name.

    Raises:
        RuntimeError: the file cannot be read, or every section is for other nodes, which ROS passes over.
    """
    sections = _sections(params_file)
    said = [(name, below) for name, below in sections if _fits(name, node)]
    if sections and not said:
        there = ", ".join(name for name, _ in sections)
        raise RuntimeError(
            f"params_file:={params_file} says nothing to {node}, only to {there}: /** is for every node"
        )
    return said


def _units(values):
    """The units out of what a parameter file says; none where it makes no sense, which the node tells."""
    try:
        # Numbers such as 1e-3 are text to this reader of YAML, and numbers to that of ROS.
        return {name: float(values[name]) for name in UNITS if name in values}
    except (TypeError, ValueError):
        return {}


def _flat(values, above=""):
    for key, value in values.items() if isinstance(values, dict) else ():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _number(name, text):
    try:
        return float(text)
    except ValueError:
        raise RuntimeError(f"{name}:= expected a number, got {text!r}") from None


def _fault_script(name, share):
    """A path as it is; a bare name is looked for in config/faults."""
    if Path(name).suffix or Path(name).is_file():
        return name
    script = share / "config" / "faults" / f"{name}.yaml"
    if not script.is_file():
        known = ", ".join(sorted(file.stem for file in script.parent.glob("*.yaml"))) or "none"
        raise RuntimeError(f"faults:={name} is no file and no script of {script.parent} (there: {known})")
    return str(script)


def generate_launch_description():
    """What `ros2 launch` asks for."""
    environment.prepare()
    return LaunchDescription([*arguments(), OpaqueFunction(function=nodes)])
