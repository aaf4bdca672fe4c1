"""Is there an NVIDIA GPU that can be used, and which? Asked of the driver alone, before anything is imported.

TensorRT's lean runtimes end the process where there is no driver, and other libraries quietly compute on the
CPU. So the driver is asked first, through ctypes: its library is there, cuInit(0) gives 0, there is a device.
No context is made and no memory is taken.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robust_perception.engine.errors import BackendError

DRIVER = "libcuda.so.1"
MANAGEMENT = "libnvidia-ml.so.1"
"""NVIDIA's management library; absent on older Jetsons and in some containers."""

MODULE_VERSION = Path("/sys/module/nvidia/version")
JETSON_RELEASE = Path("/etc/nv_tegra_release")

MEND = "install the NVIDIA driver, or start the container with the GPU (`docker run --gpus all`)"

_MULTIPROCESSORS, _MAJOR, _MINOR = 16, 75, 76  # CUdevice_attribute of cuda.h

Load = Callable[[str], Any]
"""Opens a shared library; OSError when it is not there."""


@dataclass(frozen=True)
class Device:
    """The first device that CUDA shows this process (CUDA_VISIBLE_DEVICES picks).

    Attributes:
        name: as the driver gives it, e.g. "NVIDIA GeForce RTX 4090".
        compute_capability: (major, minor).
        multiprocessors: streaming multiprocessors.
        memory: of the device, bytes.
        driver: version of the driver; empty where nothing tells it.
        driver_cuda: the newest CUDA this driver runs, e.g. "13.0".
    """

    name: str
    compute_capability: tuple[int, int]
    multiprocessors: int
    memory: int
    driver: str
    driver_cuda: str

    @property
    def sm(self) -> str:
        """Compute capability as compilers write it, e.g. "sm_89"."""
        major, minor = self.compute_capability
        return f"sm_{major}{minor}"

    def __str__(self) -> str:
        return f"{self.name} ({self.sm})"


def probe(load: Load = ctypes.CDLL) -> str | None:
    """Why no GPU can be used here, "; " and the mend, or None when one can."""
    try:
        driver = load(DRIVER)
    except OSError:
        return f"no NVIDIA driver: {DRIVER} is not there; {MEND}"
    code = driver.cuInit(0)
    if code != 0:
        return f"the NVIDIA driver does not start: cuInit returned {_words(driver, code)}; {MEND}"
    count = ctypes.c_int()
    code = driver.cuDeviceGetCount(ctypes.byref(count))
    if code != 0:
        return f"the NVIDIA driver does not answer: cuDeviceGetCount returned {_words(driver, code)}; {MEND}"
    if count.value < 1:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        hidden = "" if visible is None else f" (CUDA_VISIBLE_DEVICES={visible!r})"
        return f"the NVIDIA driver shows no device{hidden}; {MEND}"
    return None


def device(load: Load = ctypes.CDLL) -> Device:
    """The device that is used.

    Raises:
        BackendError: there is none, or the driver refuses to describe it; names the call.
    """
    reason = probe(load)
    if reason is not None:
        raise BackendError(reason)
    driver = load(DRIVER)

    def ask(call: str, *arguments: Any) -> None:
        code = getattr(driver, call)(*arguments)
        if code != 0:
            msg = f"{call}: expected an answer of the NVIDIA driver, got {_words(driver, code)}"
            raise BackendError(msg)

    handle, version = ctypes.c_int(), ctypes.c_int()
    ask("cuDeviceGet", ctypes.byref(handle), ctypes.c_int(0))
    name = ctypes.create_string_buffer(256)
    ask("cuDeviceGetName", name, ctypes.c_int(len(name)), handle)
    memory = ctypes.c_size_t()
    ask("cuDeviceTotalMem_v2", ctypes.byref(memory), handle)
    ask("cuDriverGetVersion", ctypes.byref(version))
    values = []
    for attribute in (_MAJOR, _MINOR, _MULTIPROCESSORS):
        value = ctypes.c_int()
        ask("cuDeviceGetAttribute", ctypes.byref(value), ctypes.c_int(attribute), handle)
        values.append(value.value)
    major, minor, multiprocessors = values
    return Device(
        name=name.value.decode(errors="replace"),
        compute_capability=(major, minor),
        multiprocessors=multiprocessors,
        memory=memory.value,
        driver=driver_version(load),
        driver_cuda=dotted(version.value),
    )


def driver_version(load: Load = ctypes.CDLL, module: Path = MODULE_VERSION) -> str:
    """Of the NVIDIA driver, from its management library or its kernel module; empty where neither is."""
    try:
        management = load(MANAGEMENT)
    except OSError:
        management = None
    if management is not None and management.nvmlInit_v2() == 0:
        text = ctypes.create_string_buffer(81)
        good = management.nvmlSystemGetDriverVersion(text, ctypes.c_uint(len(text))) == 0
        management.nvmlShutdown()
        if good:
            return text.value.decode(errors="replace")
    try:
        return module.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def jetson_release(file: Path = JETSON_RELEASE) -> str:
    """L4T release of a Jetson, e.g. "R36.4.3"; empty elsewhere."""
    try:
        words = file.read_text(encoding="utf-8").replace(",", " ").split()
    except OSError:
        return ""
    # "# R36 (release), REVISION: 4.3, GCID: ..."
    major = next((word for word in words if word.startswith("R") and word[1:].isdigit()), "")
    minor = words[words.index("REVISION:") + 1] if "REVISION:" in words[:-1] else ""
    return f"{major}.{minor}".strip(".")


def dotted(version: int) -> str:
    """CUDA's number of a version as people write it: 13000 -> "13.0"."""
    return f"{version // 1000}.{version % 1000 // 10}"


def _words(driver: Any, code: int) -> str:
    text = ctypes.c_char_p()
    if driver.cuGetErrorString(ctypes.c_int(code), ctypes.byref(text)) != 0 or text.value is None:
        return f"error {code}"
    return f"error {code} ({text.value.decode(errors='replace')})"
