"""Memory that torch gives back stays with the process that `prepare` was called in."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

KEPT = """
import resource
import torch
from robust_perception.benchmarking.torch_network import prepare
if {prepared}:
    prepare(1)
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
before = resident()
torch.empty({size}, dtype=torch.uint8).fill_(1)
print(resident() - before)
"""
"""Bytes that the process has more of, after a block has been used and given back."""

SIZE = 24 << 20


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_what_is_given_back_is_kept() -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    found = {
        prepared: int(
            subprocess.run(
                [sys.executable, "-c", KEPT.format(prepared=prepared, size=SIZE)],
                check=True,
                capture_output=True,
                text=True,
                timeout=120,
            ).stdout
        )
        for prepared in (True, False)
    }
    assert found[False] < SIZE / 2 < found[True]
