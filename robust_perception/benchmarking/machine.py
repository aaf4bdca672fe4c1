"""The machine that numbers were measured on: processor, cores, instruction sets, versions."""

from __future__ import annotations

import importlib.metadata
import platform
from pathlib import Path
from typing import Any

from robust_perception import __version__
from robust_perception.engine.threads import usable_cores

INSTRUCTION_SETS = (
    "avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "avx512_fp16",
    "amx_tile", "amx_int8", "amx_bf16", "amx_fp16",
    "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve",
)  # fmt: skip
"""As Linux names them; what these graphs' speed hangs on, on x86 and on ARM."""

PACKAGES = (
    "numpy", "opencv-python-headless", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt",
    "tensorrt-rtx-cu13-libs",
)  # fmt: skip

CPU_INFO = Path("/proc/cpuinfo")


def describe(cpu_info: Path = CPU_INFO) -> dict[str, Any]:
    """Processor, usable cores, architecture, and which of `INSTRUCTION_SETS` it has."""
    entries: dict[str, str] = {}
    if cpu_info.is_file():
        for line in cpu_info.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            entries.setdefault(key.strip().lower(), value.strip())
    flags = set(entries.get("flags", entries.get("features", "")).split())
    return {
        "cpu": entries.get("model name") or platform.processor() or platform.machine(),
        "cores": usable_cores(),
        "architecture": platform.machine(),
        "system": platform.system(),
        "instruction_sets": [name for name in INSTRUCTION_SETS if name in flags],
    }


def versions(*more: str) -> dict[str, str]:
    """Versions of this package, Python, and those of `PACKAGES` and `more` that are installed."""
    found = {"robust_perception": __version__, "python": platform.python_version()}
    for package in (*PACKAGES, *more):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
