"""Start the graph: fusion_node, and where asked for the simulation or a bag as its source of sensor data.

ros2 launch robust_perception fusion.launch.py                       # a robot: the sensors are there
ros2 launch robust_perception fusion.launch.py source:=simulation faults:=demo
ros2 launch robust_perception fusion.launch.py source:=bag bag:=/data/run.mcap start:=10.0 speed:=0.5
ros2 launch robust_perception fusion.launch.py record:=/data/today
ros2 launch robust_perception fusion.launch.py rgb_topic:=/camera/color/image_raw thermal_enabled:=false
"""

from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from robust_perception import environment
from robust_perception.engine import choice

TOPICS = {"rgb": "rgb/image", "depth": "depth/image", "thermal": "thermal/image", "audio": "audio"}
TRUTH = ("false", "true")


def arguments():
    """What can be said on the command line, each with its meaning, default and choices."""
    yield DeclareLaunchArgument(
        "source",
        default_value="live",
        choices=["live", "simulation", "bag"],
        description="where sensor data comes from: topics that are there, the simulated rig, or a bag",
    )
    yield DeclareLaunchArgument(
        "bag", default_value="", description="bag to play with source:=bag: a folder or an .mcap file"
    )
    yield DeclareLaunchArgument(
        "faults",
        default_value="",
        description="fault script for the simulation or the bag player: a file, or a name in config/faults",
    )
    yield DeclareLaunchArgument(
        "speed", default_value="1.0", description="times as fast as it was recorded, for source:=bag"
    )
    yield DeclareLaunchArgument(
        "start", default_value="0.0", description="seconds of the bag to leave out, for source:=bag"
    )
    yield DeclareLaunchArgument(
        "loop", default_value="false", choices=TRUTH, description="play the bag again and again"
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
        default_value="false",
        choices=TRUTH,
        description="take time from /clock",
    )
    yield DeclareLaunchArgument(
        "log_level",
        default_value="info",
        choices=["debug", "info", "warn", "error", "fatal"],
        description="least severity that the nodes log",
    )
    for sensor, topic in TOPICS.items():
        yield DeclareLaunchArgument(
            f"{sensor}_topic", default_value=topic, description=f"topic of the {sensor} sensor"
        )
        yield DeclareLaunchArgument(
            f"{sensor}_enabled",
            default_value="true",
            choices=TRUTH,
            description=f"whether the {sensor} sensor is used at all",
        )


def nodes(context):
    """The nodes for the values that were said."""
    said = {name: LaunchConfiguration(name).perform(context) for name in context.launch_configurations}
    share = environment.share_folder()
    common = {
        "package": environment.NAME,
        "namespace": said["namespace"],
        "output": "screen",
        "arguments": ["--ros-args", "--log-level", said["log_level"]],
    }
    sim_time = {"use_sim_time": said["use_sim_time"] == "true"}
    values = dict(sim_time)
    for sensor in TOPICS:
        if said[f"{sensor}_enabled"] == "false":
            values[f"{sensor}.enabled"] = False
    for name in ("model", "backend", "precision"):
        if said[name]:
            values[name] = said[name]
    remappings = [pair for sensor in TOPICS for pair in _remappings(sensor, said[f"{sensor}_topic"])]
    started = [
        Node(
            executable="fusion_node",
            name="fusion",
            parameters=[said["params_file"] or str(share / "config" / "fusion.yaml"), values],
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
                parameters=[sim_time | faults],
                remappings=remappings,
                **common,
            )
        )
    elif said["source"] == "bag":
        if not said["bag"]:
            raise RuntimeError("source:=bag needs a bag to play: say bag:=FOLDER or bag:=FILE.mcap")
        values = {"bag": said["bag"], "speed": float(said["speed"]), "start": float(said["start"])}
        values |= {"loop": said["loop"] == "true"} | faults
        if sim_time["use_sim_time"]:
            values |= {"stamps": "recorded", "clock": True}
        for sensor, topic in TOPICS.items():
            if said[f"{sensor}_topic"] != topic:
                values[f"{sensor}.topic"] = "/" + said[f"{sensor}_topic"].removeprefix("/")
        started.append(
            Node(
                executable="replay_node",
                name="replay",
                parameters=[values],
                remappings=list(_into_namespace()) if said["namespace"] else [],
                **common,
            )
        )
    elif said["faults"]:
        raise RuntimeError(
            "faults:= is applied by the simulation or the bag player: say source:=simulation or bag"
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


def _remappings(sensor, said):
    """A sensor's topic takes along what lies beside it by custom: `<topic>/compressed` and `camera_info`."""
    own = TOPICS[sensor]
    if said == own:
        return
    topic = said.removesuffix("/compressed")
    yield own, topic
    beside = topic.rpartition("/")[0]
    if sensor == "audio":
        yield "audio_info", f"{beside}/audio_info" if beside else "audio_info"
    else:
        yield f"{own}/compressed", f"{topic}/compressed"
        yield f"{sensor}/camera_info", f"{beside}/camera_info" if beside else "camera_info"


def _into_namespace():
    """Recorded names are absolute: those of the sensors move into the namespace with everything else."""
    for sensor, topic in TOPICS.items():
        beside = "audio_info" if sensor == "audio" else f"{sensor}/camera_info"
        for name in (topic, f"{topic}/compressed", beside):
            yield f"/{name}", name


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
