"""What the driver is asked, in which order, and what is said when it does not answer well."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path
from typing import Any

import pytest

from robust_perception.engine import cuda
from robust_perception.engine.errors import BackendError


class Driver:
    """Answers like libcuda and libnvidia-ml; ctypes' references are filled as theirs are.

    Args:
        answers: call -> code, where it is not 0.
        devices: how many there are.
    """

    def __init__(self, answers: dict[str, int] | None = None, devices: int = 1) -> None:
        self.answers = answers or {}
        self.devices = devices
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if not name.startswith(("cu", "nvml")):
            raise AttributeError(name)

        def call(*arguments: Any) -> int:
            self.calls.append(name)
            self._fill(name, arguments)
            return self.answers.get(name, 0)

        return call

    def _fill(self, name: str, arguments: tuple[Any, ...]) -> None:
        values = {
            "cuDeviceGetCount": self.devices,
            "cuDeviceTotalMem_v2": 8 << 30,
            "cuDriverGetVersion": 13010,
        }
        if name in values:
            arguments[0]._obj.value = values[name]
        elif name == "cuDeviceGetAttribute":
            arguments[0]._obj.value = {16: 46, 75: 8, 76: 9}[arguments[1].value]
        elif name == "cuDeviceGetName":
            arguments[0].value = b"NVIDIA Test"
        elif name == "cuGetErrorString":
            arguments[1]._obj.value = b"no CUDA-capable device is detected"
        elif name == "nvmlSystemGetDriverVersion":
            arguments[0].value = b"580.159.04"


def absent(name: str) -> Any:
    msg = f"{name}: cannot open shared object file"
    raise OSError(msg)


def test_no_driver_is_said_with_the_mend() -> None:
    reason = cuda.probe(absent)
    assert reason is not None
    found, _, mend = reason.partition("; ")
    assert found == "no NVIDIA driver: libcuda.so.1 is not there"
    assert "install the NVIDIA driver" in mend


@pytest.mark.parametrize(
    ("driver", "words", "calls"),
    [
        (Driver({"cuInit": 100}), r"does not start: cuInit returned error 100 \(no CUDA-capable device", 1),
        (Driver({"cuDeviceGetCount": 999}), "cuDeviceGetCount returned error 999", 2),
        (Driver(devices=0), "the NVIDIA driver shows no device", 2),
    ],
)
def test_a_driver_without_a_usable_device_is_said(driver: Driver, words: str, calls: int) -> None:
    reason = cuda.probe(lambda name: driver)
    assert reason is not None
    assert re.search(words, reason)
    asked = [call for call in driver.calls if call != "cuGetErrorString"]
    assert len(asked) == calls, "nothing is asked after an answer that is no success"
    with pytest.raises(BackendError, match=words):
        cuda.device(lambda name: driver)


def test_devices_that_were_hidden_are_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "(CUDA_VISIBLE_DEVICES='')" in str(cuda.probe(lambda name: Driver(devices=0)))


def test_a_device_is_described() -> None:
    assert cuda.probe(lambda name: Driver()) is None
    found = cuda.device(lambda name: Driver())
    assert found == cuda.Device("NVIDIA Test", (8, 9), 46, 8 << 30, "580.159.04", "13.1")
    assert str(found) == "NVIDIA Test (sm_89)"


def test_a_call_that_fails_is_named() -> None:
    with pytest.raises(BackendError, match=r"cuDeviceTotalMem_v2: expected an answer .* got error 1 "):
        cuda.device(lambda name: Driver({"cuDeviceTotalMem_v2": 1}))


def test_the_drivers_version_comes_from_the_kernel_where_nothing_else_tells(tmp_path: Path) -> None:
    module = tmp_path / "version"
    assert cuda.driver_version(absent, module) == ""
    module.write_text("540.4.0\n")
    assert cuda.driver_version(absent, module) == "540.4.0"
    assert cuda.driver_version(lambda name: Driver({"nvmlInit_v2": 9}), module) == "540.4.0"
    assert cuda.driver_version(lambda name: Driver(), module) == "580.159.04"


def test_a_jetsons_release_is_read(tmp_path: Path) -> None:
    file = tmp_path / "nv_tegra_release"
    assert cuda.jetson_release(file) == ""
    file.write_text("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n")
    assert cuda.jetson_release(file) == "R36.4.3"
    file.write_text("what nobody wrote: REVISION:")
    assert cuda.jetson_release(file) == ""


def test_the_real_probe_agrees_with_the_real_library() -> None:
    try:
        ctypes.CDLL(cuda.DRIVER)
    except OSError:
        assert str(cuda.probe()).startswith("no NVIDIA driver")
    else:
        assert cuda.probe() is None or "NVIDIA driver" in str(cuda.probe())
