"""`robust-perception` and its doctor."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import SimpleNamespace

import pytest
from tiny_model import make_model

from robust_perception import cli, doctor, environment, extras
from robust_perception.bags.writer import BagWriter
from robust_perception.ros.listeners import SETTLED_S


def test_help_names_every_command_and_loads_none() -> None:
    code = (
        "import sys; from robust_perception import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'rclpy', 'numpy', 'cv2', 'onnxruntime'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name, command in cli.COMMANDS.items():
        assert name in done.stdout
        assert command.help in done.stdout


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_help(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "robust_perception.cli", command, "--help"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"usage: robust-perception {command}" in done.stdout


def test_missing_extra_is_said_in_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in [
        n for n in sys.modules if n.startswith(("robust_perception.train", "robust_perception.model"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(
        cli.COMMANDS,
        "train",
        cli.Command("robust_perception.model.network", ("train",), "needs torch on import"),
    )
    assert cli.main(["train"]) == 1
    said = capsys.readouterr().err
    assert "needs 'torch'" in said
    assert "pip install '.[train]' in the source tree" in said


def test_a_robot_is_told_the_packages_of_an_extra(monkeypatch: pytest.MonkeyPatch, repository: Path) -> None:
    monkeypatch.setattr(environment, "ros_world", lambda: "apt")
    said = ["numpy<3", 'ros-kilted-rclpy==9; (x) and extra == "ros"', "mujoco<5,>=3.2; extra == 'sim'"]
    monkeypatch.setattr(extras.importlib.metadata, "requires", lambda name: said)
    assert extras.install("ros", "sim") == "pip install 'mujoco<5,>=3.2'"
    assert extras.install("ros") == extras.install() == "see 'On a robot' in README.md"
    assert "## On a robot" in (repository / "README.md").read_text(encoding="utf-8")
    monkeypatch.setattr(extras.importlib.metadata, "requires", lambda name: None)
    long = "pip install '.[sim]' -c tools/constraints-apt.txt in the source tree"
    assert extras.install("ros", "sim") == long


def test_the_installed_metadata_know_every_extra(repository: Path) -> None:
    pytest.importorskip("setuptools")
    named = set(re.findall(r'^    "([\w-]+)": \[$', (repository / "setup.py").read_text(), re.M))
    assert {name for command in cli.COMMANDS.values() for name in command.extras} < named
    assert all(extras.packages(name) for name in named)


def test_unknown_command_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["fly"])
    assert stopped.value.code == 2
    assert "demo" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["doctor", "--json"], ["bag", "info", "BAG"]])
def test_a_reader_that_has_enough_ends_a_command_without_a_word(words: list[str], tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as bag:
        bag.write("/a", "std_msgs/msg/Empty", b"\x00\x01\x00\x00\x00", 1)
    command = [word if word != "BAG" else str(tmp_path / "bag") for word in words]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "robust_perception.cli", *command],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


@pytest.mark.parametrize("ignored", [False, True])
def test_ctrl_c_amid_the_imports_of_a_command_is_no_traceback(ignored: bool, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import signal\n"
        "class Named:\n"
        "    def __set_name__(self, owner, name): signal.raise_signal(signal.SIGINT)\n"
        "class Owner:\n"
        "    name = Named()\n"
        "def main(words):\n"
        "    return 0\n"
    )
    code = (
        "import signal, sys; from robust_perception import cli\n"
        f"signal.signal(signal.SIGINT, signal.{'SIG_IGN' if ignored else 'default_int_handler'})\n"
        "cli.COMMANDS['doctor'] = cli.Command('slow', (), '')\n"
        "sys.path.append(sys.argv[1])\n"
        "sys.exit(cli.main(['doctor']))\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0 if ignored else -signal.SIGINT, "")


def test_an_output_that_takes_nothing_is_told() -> None:
    command = [sys.executable, "-m", "robust_perception.cli", "doctor"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"robust-perception doctor: [Errno {errno.ENOSPC}] {os.strerror(errno.ENOSPC)}\n"


def test_no_output_at_all_is_no_fault() -> None:
    shell = f"exec {shlex.quote(sys.executable)} -m robust_perception.cli doctor --json >&-"
    done = subprocess.run(["sh", "-c", shell], stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) in [(0, ""), (1, "")]  # as what the machine has


def test_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str], repository: Path) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["--version"])
    assert stopped.value.code == 0
    version = ElementTree.parse(repository / "package.xml").findtext("version")
    assert capsys.readouterr().out == f"robust_perception {version}\n"


def test_the_package_without_its_data_files_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(environment, "__file__", str(tmp_path / "robust_perception" / "environment.py"))
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setenv("AMENT_PREFIX_PATH", "/opt/none")
    for variable in environment.PROFILE_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    assert cli.main(["demo", "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert said.startswith("robust-perception demo: the data files of robust_perception are in none of /opt/")
    assert "install the package with" in said


def test_shipped_profile_holds_images_and_keeps_udp(repository: Path) -> None:
    names = {"d": "http://www.eprosima.com"}
    root = ElementTree.parse(repository / "config" / "fastdds.xml").getroot()
    kinds = {
        t.findtext("d:type", namespaces=names): t for t in root.iterfind(".//d:transport_descriptor", names)
    }
    assert set(kinds) == {"SHM", "UDPv4"}
    assert int(kinds["SHM"].findtext("d:segment_size", namespaces=names) or 0) == 32 << 20
    (participant,) = root.iterfind(".//d:participant", names)
    assert participant.get("is_default_profile") == "true"
    assert participant.findtext(".//d:useBuiltinTransports", namespaces=names) == "false"
    announced = participant.findtext(".//d:leaseAnnouncement/d:nanosec", namespaces=names)
    assert int(announced or 0) * 2 <= SETTLED_S * 1e9, "listeners are found before their number is at rest"


def test_doctor_prints_every_subject_and_agrees_with_its_exit_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = doctor.main(["--json"])
    report = json.loads(capsys.readouterr().out)
    subjects = {finding["subject"] for finding in report["findings"]}
    assert {
        "Python",
        "ROS",
        "shared memory",
        "backend onnxruntime",
        "model default",
    } < subjects
    faults = [finding for finding in report["findings"] if finding["state"] == "fault"]
    assert report["works"] is (code == 0) is (not faults)
    assert all(finding["mend"] for finding in report["findings"] if finding["state"] in ("fault", "warning"))


def test_doctor_finds_a_missing_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main(["--model", str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert "fault" in printed
    assert str(tmp_path) in printed
    assert "->" in printed
    assert f"fix first: model {tmp_path}" in printed


def test_doctor_finds_a_broken_profile(tmp_path: Path) -> None:
    broken = tmp_path / "profile.xml"
    broken.write_text("<dds>")
    finding = doctor.profile({environment.PROFILE_VARIABLES[0]: str(broken)})
    assert finding.state == "fault"
    assert str(broken) in finding.found
    assert doctor.profile({}).state == "warning"


def test_doctor_finds_that_the_data_files_are_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "__file__", str(tmp_path / "robust_perception" / "environment.py"))
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    finding = doctor.profile({"AMENT_PREFIX_PATH": "/opt/none"})
    assert finding.state == "fault"
    assert "none of /opt/none/share/robust_perception, " in finding.found
    assert finding.mend.startswith("install the package with")


def test_doctor_names_the_variable_that_this_ros_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    new, old = environment.PROFILE_VARIABLES
    monkeypatch.setattr(environment, "ros_world", lambda environ: "apt")
    assert f"export {old}=" in doctor.profile({"ROS_DISTRO": "jazzy"}).mend
    assert f"export {new}=" in doctor.profile({"ROS_DISTRO": "kilted"}).mend


@pytest.mark.parametrize(
    ("module", "subject", "mend"),
    [
        ("cv2", "library cv2", "pip install opencv-python-headless"),
        ("onnxruntime", "backend onnxruntime", "pip install onnxruntime"),
        ("rclpy", "ROS", "'.[ros]'"),
        ("vision_msgs", "interface types vision_msgs", "vision-msgs"),
        ("mujoco", "simulation", "'.[sim]'"),
    ],
)
def test_doctor_finds_what_cannot_be_imported(
    module: str, subject: str, mend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    findings = {finding.subject: finding for finding in doctor.examine()}
    assert findings[subject].state == ("warning" if module == "mujoco" else "fault")
    assert mend in findings[subject].mend


def test_doctor_finds_too_little_shared_memory_and_no_egl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(free=64 << 20))
    (memory,) = doctor.shared_memory()
    assert (memory.state, "64 MiB free" in memory.found, "shm-size" in memory.mend) == ("warning", True, True)
    pytest.importorskip("mujoco")
    monkeypatch.setattr(doctor, "egl_devices", lambda: 0)
    (graphics,) = doctor.simulation()
    assert (graphics.state, "libegl1" in graphics.mend) == ("warning", True)


def test_doctor_names_the_damaged_file_of_a_model(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model")
    (finding,) = doctor.model(str(folder))
    assert finding.state == "ok", finding.found
    assert "graphs and references as described" in finding.found
    damaged = folder / "fusion.onnx"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    (finding,) = doctor.model(str(folder))
    assert finding.state == "fault"
    assert "fusion.onnx" in finding.found
    assert finding.mend


def test_doctor_warns_of_a_model_that_cannot_be_checked(tmp_path: Path) -> None:
    (finding,) = doctor.model(str(make_model(tmp_path / "model", references=False)))
    assert (finding.state, "without references" in finding.found) == ("warning", True)
    assert "export" in finding.mend


def test_doctor_without_ros_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "ros_world", lambda: "none")
    (finding,) = doctor.ros()
    assert finding.state == "fault"
    assert "'.[ros]'" in finding.mend


def test_doctor_finds_a_foreign_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("audio_common_msgs")
    file = tmp_path / "share" / "audio_common_msgs" / "msg" / "AudioInfo.json"
    file.parent.mkdir(parents=True)
    entry = {"type_name": "audio_common_msgs/msg/AudioInfo", "hash_string": "RIHS01_00"}
    file.write_text(json.dumps({"type_hashes": [entry]}))
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    findings = {finding.subject: finding for finding in doctor.interfaces()}
    assert findings["interface types audio_common_msgs"].state == "fault"
    assert "AudioInfo" in findings["interface types audio_common_msgs"].found
