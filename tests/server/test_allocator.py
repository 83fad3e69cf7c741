"""The allocator, tried in a process of its own: what it is told holds for good."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import resource, sys
from fluoroscope_server.allocator import keep_large_buffers
sys.stdout.write(f"{keep_large_buffers()} ")
for _ in range(3):
    bytearray(32 << 20)  # zeroed, so every page is touched
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    b"x" * (32 << 20)
sys.stdout.write(str(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc has these settings")
def test_large_buffers_are_reused_without_page_faults() -> None:
    printed = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True).stdout
    took_effect, faults = printed.split()
    if took_effect == "False":
        pytest.skip("this C library has no mallopt")
    pages = 20 * (32 << 20) // 4096
    assert int(faults) < pages / 10
