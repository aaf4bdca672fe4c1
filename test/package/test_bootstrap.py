"""Set-up says in plain words what is missing and does nothing twice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from robust_perception.environment import GRAPHICS_PACKAGES
from tools import bootstrap, interfaces, machine


def test_unsupported_machine_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.platform, "machine", lambda: "aarch64")
    fault = machine.platform_fault()
    assert fault is not None
    assert "Linux aarch64" in fault
    assert "colcon build" in fault


@pytest.mark.parametrize(
    ("version", "good"), [((3, 9), False), ((3, 10), True), ((3, 13), True), ((3, 14), False)]
)
def test_supported_versions(version: tuple[int, int], good: bool) -> None:
    assert machine.supported(version) is good


def test_everything_missing_is_listed_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(machine, "loads", lambda library: False)
    monkeypatch.setattr(machine, "mesa_driver", lambda: False)
    with pytest.raises(
        bootstrap.SetupError, match=r"apt-get install -y g\+\+ cmake make .*" + " ".join(GRAPHICS_PACKAGES)
    ):
        bootstrap.check_machine(None, tmp_path)


def test_no_compiler_is_needed_once_the_types_are_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(machine, "loads", lambda library: True)
    monkeypatch.setattr(machine, "mesa_driver", lambda: True)
    (tmp_path / "share").mkdir()
    (tmp_path / "share" / interfaces.MARK).write_text("{}")
    bootstrap.check_machine(None, tmp_path)


def test_ros_from_apt_is_known_by_its_variable_and_its_rclpy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    (tmp_path / "rclpy").mkdir()
    (tmp_path / "rclpy" / "__init__.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert machine.apt_ros() == "jazzy"
    monkeypatch.delenv("ROS_DISTRO")
    assert machine.apt_ros() is None


class Recorder:
    """Stands for pip and venv: records the commands instead of running them.

    Args:
        venv: the environment; of the package, nothing but its command comes to be there.
    """

    def __init__(self, venv: Path) -> None:
        self.commands: list[str] = []
        self.script = venv / "bin" / "robust-perception"

    def __call__(self, command: list[str | Path], what: str) -> None:
        self.commands.append(" ".join(map(str, command)))
        if what == "installing the package":
            self.script.parent.mkdir(exist_ok=True)
            self.script.touch()


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Recorder:
    recorded = Recorder(tmp_path / "env")
    monkeypatch.setattr(bootstrap, "run", recorded)
    monkeypatch.setattr(bootstrap, "CACHE", tmp_path / "cache")
    (tmp_path / "cache").mkdir()
    (tmp_path / "env").mkdir()
    monkeypatch.setattr(bootstrap, "check_machine", lambda distro, venv: None)
    monkeypatch.setattr(interfaces, "ensure", lambda python: "interface types: recorded")
    monkeypatch.setattr(machine, "apt_ros", lambda: None)
    monkeypatch.setattr(machine, "cpu_torch_index", lambda: None)
    return recorded


def test_second_run_installs_nothing(recorder: Recorder, tmp_path: Path) -> None:
    bootstrap.set_up("test", tmp_path / "env")
    assert any("[" in command and "ros]" in command for command in recorder.commands)
    recorder.commands.clear()
    bootstrap.set_up("test", tmp_path / "env")
    bootstrap.set_up("demo", tmp_path / "env")
    assert recorder.commands == []


def test_changed_source_installs_only_the_package(recorder: Recorder, tmp_path: Path) -> None:
    bootstrap.set_up("demo", tmp_path / "env")
    stamp_file = tmp_path / "env" / "robust_perception_setup.json"
    stamp_file.write_text(json.dumps(json.loads(stamp_file.read_text()) | {"source": "older"}))
    python = tmp_path / "env" / "bin" / "python"
    python.symlink_to(sys.executable)
    recorder.commands.clear()
    bootstrap.set_up("demo", tmp_path / "env")
    assert len(recorder.commands) == 1
    assert "--no-deps" in recorder.commands[0]


def test_a_package_that_somebody_removed_is_installed_again(recorder: Recorder, tmp_path: Path) -> None:
    bootstrap.set_up("demo", tmp_path / "env")
    (tmp_path / "env" / "bin" / "python").symlink_to(sys.executable)
    recorder.script.unlink()
    recorder.commands.clear()
    bootstrap.set_up("demo", tmp_path / "env")
    assert len(recorder.commands) == 1
    assert "--force-reinstall" in recorder.commands[0]


def test_ros_from_apt_gets_no_wheels(
    recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(machine, "apt_ros", lambda: "jazzy")
    bootstrap.set_up("test", tmp_path / "env")
    assert "--system-site-packages" in recorder.commands[0]
    assert not any("ros]" in command or "ros," in command for command in recorder.commands)
    assert all("constraints-apt.txt" in c for c in recorder.commands if "[" in c)
    printed = capsys.readouterr().out
    assert "colcon build" in printed
    assert "interface types" not in printed


def test_torch_comes_without_gpu_libraries(
    recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "cpu_torch_index", lambda: machine.CPU_TORCH)
    bootstrap.set_up("test", tmp_path / "env")
    (torch,) = [command for command in recorder.commands if bootstrap.CPU_TORCH in command]
    assert f"--extra-index-url {machine.CPU_TORCH}" in torch
    assert "--no-deps" in torch


def test_torch_is_still_installed_where_no_cpu_build_is_to_be_had(
    recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(command: list[str | Path], what: str) -> None:
        if bootstrap.CPU_TORCH in command:
            raise bootstrap.SetupError("no matching distribution")
        recorder(command, what)

    monkeypatch.setattr(bootstrap, "run", refuse)
    bootstrap.set_up("test", tmp_path / "env")
    assert any("[" in command and "train" in command for command in recorder.commands)
    assert "index does not answer" in capsys.readouterr().out


def test_failing_command_shows_the_end_of_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "CACHE", tmp_path)
    with pytest.raises(bootstrap.SetupError, match=r"trying failed(.|\n)*no such thing"):
        bootstrap.run([sys.executable, "-c", "raise SystemExit('no such thing')"], "trying")


@pytest.mark.parametrize("target", ["demo", "test", "check", "test-slow", "doctor", "clean", "help"])
def test_make_knows_its_targets(target: str, repository: Path) -> None:
    done = subprocess.run(["make", "-n", target], cwd=repository, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert target in ("clean", "help") or "tools/bootstrap.py" in done.stdout


def test_make_test_checks_style_types_and_behaviour(repository: Path) -> None:
    steps = subprocess.run(
        ["make", "-n", "test"], cwd=repository, capture_output=True, text=True, check=True
    ).stdout
    for step in ("ruff check", "ruff format --check", "mypy", "pytest"):
        assert step in steps, step
    assert "make test" in (repository / ".ci" / "run").read_text(encoding="utf-8")
