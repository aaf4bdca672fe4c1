"""Memory that torch gives back stays with the process that `prepare` was called in."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource
import torch
from robust_perception.benchmarking.torch_network import prepare
if {prepared}:
    prepare(1)
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.empty(1 << 26, dtype=torch.uint8).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""
"""A block larger than any that the C library keeps by itself, the second time it is used."""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_what_is_given_back_is_kept() -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    found = {
        prepared: int(
            subprocess.run(
                [sys.executable, "-c", FAULTS.format(prepared=prepared)],
                check=True,
                capture_output=True,
                text=True,
                timeout=120,
            ).stdout
        )
        for prepared in (True, False)
    }
    assert found[False] >= 32, "one a page, and pages have 2 MiB at most"
    assert found[True] < found[False] / 4
