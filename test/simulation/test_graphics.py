"""A machine that cannot draw off-screen is told what to install. Subprocesses: MuJoCo chooses at import."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

RUN = """
{prelude}
from robust_perception.simulation.errors import GraphicsError
try:
    from robust_perception.simulation.rig import Rig
    Rig(0)
except GraphicsError as error:
    print(error)
"""
NO_EGL = """
import ctypes
load = ctypes.CDLL.__init__
def without_egl(self, name=None, *rest, **more):
    if "EGL" in str(name):
        raise OSError(f"{name}: cannot open shared object file")
    load(self, name, *rest, **more)
ctypes.CDLL.__init__ = without_egl
"""


@pytest.mark.parametrize(("prelude", "platform"), [(NO_EGL, "egl"), ("", "bogus")])
def test_the_mend_is_named(prelude: str, platform: str) -> None:
    environment = {**os.environ, "MUJOCO_GL": platform}
    environment.pop("PYOPENGL_PLATFORM", None)
    command = [sys.executable, "-c", RUN.format(prelude=prelude)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "apt install libegl1" in done.stdout
    assert f"MUJOCO_GL={platform}" in done.stdout


@pytest.mark.parametrize("missing", ["mujoco", "scipy"])
def test_a_missing_package_is_named_with_what_installs_it(missing: str, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, *rest):\n"
        f"        if name == {missing!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "from robust_perception.simulation.make_dataset import main\n"
        f"sys.exit(main(['--out', {str(tmp_path / 'data')!r}, '--train', '1']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"make_dataset: the simulator needs the package {missing}, got none; pip install ")
    assert "EGL" not in line
    assert not (tmp_path / "data").exists()


def test_it_draws_where_somebody_imported_mujoco_first() -> None:
    code = (
        "import mujoco\n"
        "from robust_perception.simulation.rig import Rig\n"
        "with Rig(1, (128, 160)) as rig:\n"
        "    rig.step(0.1)\n"
        "    print(len(rig.capture(0.1, 0).frames))\n"
    )
    environ = {k: v for k, v in os.environ.items() if k not in ("MUJOCO_GL", "PYOPENGL_PLATFORM", "DISPLAY")}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True)
    assert done.stdout.strip() == "4", done.stderr
