"""An executable of this package as a process of its own, as `ros2 run` would start it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

Value = str | bool | int | float


class Child:
    """A node in a process of its own; its output goes to a file.

    It runs this very Python and this very package, so that a source tree needs no installation.

    Args:
        executable: name of the node's module, e.g. `fusion_node`.
        parameters: its parameters.
        domain: ROS domain.
        log: file for what it prints; overwritten.
    """

    def __init__(
        self,
        executable: str,
        parameters: Mapping[str, Value],
        domain: int,
        log: Path,
    ) -> None:
        self.executable = executable
        self.log = log
        command = [sys.executable, "-m", f"robust_perception.ros.{executable}", "--ros-args"]
        for name, value in parameters.items():
            command += ["-p", f"{name}:={_yaml(value)}"]
        package = str(Path(__file__).resolve().parents[2])
        environ = {**os.environ, "ROS_DOMAIN_ID": str(domain), "PYTHONUNBUFFERED": "1"}
        environ["PYTHONPATH"] = os.pathsep.join(filter(None, (package, environ.get("PYTHONPATH"))))
        with log.open("w", encoding="utf-8") as out:
            self._process = subprocess.Popen(
                command,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the parent, which then ends its children in order
            )

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    @property
    def code(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.poll()

    def text(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def stop(self, deadline_s: float = 15.0) -> int:
        """End it as Ctrl-C would, and kill it if it does not end in time.

        Returns:
            Its exit code; negative = the signal that ended it.
        """
        if self.running:
            self._process.send_signal(signal.SIGINT)
        return self.wait(deadline_s)

    def wait(self, deadline_s: float) -> int:
        """Its exit code as soon as it ends by itself; killed when that takes longer than the deadline."""
        try:
            return self._process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


def started(
    stack: ExitStack, executable: str, parameters: Mapping[str, Value], domain: int, log: Path
) -> Child:
    """A `Child` that is stopped when the stack ends, whenever an interruption comes.

    Args:
        stack: ends it.
        executable: see `Child`, as all below.
        parameters: its parameters.
        domain: ROS domain.
        log: file for what it prints.

    Raises:
        KeyboardInterrupt: SIGINT or SIGTERM came meanwhile.
    """
    with _uninterrupted():
        child = Child(executable, parameters, domain, log)
        stack.callback(child.stop)
    return child


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Within it, SIGINT and SIGTERM wait for its end, and are a KeyboardInterrupt there.

    One that comes while a process is started would leave it to itself: nobody has its number yet.
    """
    if threading.current_thread() is not threading.main_thread():  # no other is interrupted
        yield
        return
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        raise KeyboardInterrupt


def _yaml(value: Value) -> str:
    """A value as the ROS command line reads it: YAML, so that a string of digits stays a string."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return repr(value)
