"""The message types of this machine are the released ones: by their description and on the wire."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from robust_perception import doctor
from tools import interfaces

ON_THE_WIRE = """
import importlib, json, sys, time, rclpy
rclpy.init()
node = rclpy.create_node("hashes")
got = {}
for number, name in enumerate(json.load(sys.stdin)):
    package, _, message = name.split("/")
    kind = getattr(importlib.import_module(package + ".msg"), message)
    publisher = node.create_publisher(kind, f"/type_{number}", 1)
    deadline = time.monotonic() + 10
    while not (seen := node.get_publishers_info_by_topic(f"/type_{number}")) and time.monotonic() < deadline:
        rclpy.spin_once(node, timeout_sec=0.05)
    value = seen[0].topic_type_hash
    got[name] = f"RIHS{value.version:02d}_{bytes(value.value).hex()}"
print(json.dumps(got))
"""


@pytest.fixture(scope="module")
def table() -> dict[str, str]:
    """Type name -> hash in the released package."""
    loaded: dict[str, str] = json.loads(interfaces.HASHES.read_text(encoding="utf-8"))
    return loaded


def test_table_names_only_types_that_stand_in_the_folder(table: dict[str, str]) -> None:
    for name in table:
        package, kind, message = name.split("/")
        assert (interfaces.INTERFACES / package / kind / f"{message}.msg").is_file()
    assert {name.split("/")[0] for name in table} == set(interfaces.PACKAGES)


@pytest.mark.ros
def test_descriptions_have_the_released_hashes(table: dict[str, str]) -> None:
    pytest.importorskip("vision_msgs")
    prefixes = [*os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep), sys.prefix]
    assert {name: doctor.type_hash(name, prefixes) for name in table} == table


@pytest.mark.ros
def test_endpoints_announce_the_released_hashes(table: dict[str, str]) -> None:
    pytest.importorskip("rclpy")
    environ = os.environ | {"ROS_DOMAIN_ID": "63", "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    done = subprocess.run(
        [sys.executable, "-c", ON_THE_WIRE],
        input=json.dumps(list(table)),
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == table


@pytest.mark.ros
def test_message_survives_serialization() -> None:
    pytest.importorskip("rclpy")
    from rclpy.serialization import deserialize_message, serialize_message

    vision = importlib.import_module("vision_msgs.msg")
    hypothesis = vision.ObjectHypothesisWithPose()
    hypothesis.hypothesis.class_id, hypothesis.hypothesis.score = "person", 0.75
    detection = vision.Detection2D(results=[hypothesis], id="7")
    detection.bbox.center.position.x, detection.bbox.size_y = 12.5, 3.0
    sent = vision.Detection2DArray(detections=[detection])
    assert deserialize_message(serialize_message(sent), vision.Detection2DArray) == sent


def facts(tmp_path: Path, **changes: object) -> interfaces.Facts:
    values = {
        "prefix": tmp_path / "env",
        "include": tmp_path / "include",
        "cache_tag": "cpython-311",
        "platform": "linux-x86_64",
        "numpy": "2.4.6",
        "found": {},
    }
    return interfaces.Facts(**(values | changes))  # type: ignore[arg-type]


def test_missing_tools_are_named_with_the_line_that_installs_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(interfaces.InterfacesError, match=r"apt-get install g\+\+ cmake make include-dev"):
        interfaces.generate(Path(sys.executable), facts(tmp_path), tmp_path / "entry")


def test_cache_key_changes_with_python_and_numpy(tmp_path: Path) -> None:
    keys = {
        interfaces.key_of(facts(tmp_path)),
        interfaces.key_of(facts(tmp_path, cache_tag="cpython-312")),
        interfaces.key_of(facts(tmp_path, numpy="2.5.5")),
    }
    assert len(keys) == 3
    assert interfaces.key_of(facts(tmp_path, prefix=Path("/elsewhere"))) in keys


def test_another_type_than_the_released_one_is_refused(tmp_path: Path, table: dict[str, str]) -> None:
    for name, value in table.items():
        file = tmp_path / "share" / f"{name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        wrong = "RIHS01_0" if name.endswith("LabelInfo") else value
        file.write_text(json.dumps({"type_hashes": [{"type_name": name, "hash_string": wrong}]}))
    with pytest.raises(interfaces.InterfacesError, match="vision_msgs/msg/LabelInfo: expected RIHS01_3d37"):
        interfaces.check_hashes(tmp_path)


def test_real_packages_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = facts(tmp_path, found={"vision_msgs": "/opt/a", "audio_common_msgs": "/opt/b"})
    monkeypatch.setattr(interfaces, "facts_of", lambda python: there)
    assert "the real packages are there" in interfaces.ensure(Path(sys.executable), tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_installing_anew_takes_the_old_files_out(tmp_path: Path) -> None:
    old, new, target = tmp_path / "old", tmp_path / "new", tmp_path / "target"
    for prefix, name in ((old, "old.py"), (new, "new.py")):
        (prefix / "lib").mkdir(parents=True)
        (prefix / "lib" / name).write_text("")
        (prefix / "share").mkdir()
        (prefix / "share" / "both.json").write_text(name)
    interfaces.install(old, target, "first")
    interfaces.install(new, target, "second")
    assert not (target / "lib" / "old.py").exists()
    assert (target / "lib" / "new.py").is_file()
    assert (target / "share" / "both.json").read_text() == "new.py"
    assert json.loads((target / "share" / interfaces.MARK).read_text())["key"] == "second"
