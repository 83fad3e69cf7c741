"""The allocator, tried in a process of its own: what it is told holds for good."""

from __future__ import annotations

import json
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

FRAGMENTED = """
import json, sys
from fluoroscope_server import allocator
allocator.keep_large_buffers()
spare, resident, found = allocator.Spare(), allocator._resident_bytes, []
def note():
    found.append((spare.bound(32 << 20), resident() >> 20))
note()
mixed = [(b"x" * (4 << 20), b"y" * 2000) for _ in range(40)]
lasting = [small for _, small in mixed]
del mixed
full = resident() >> 20
note()
note()
sys.stdout.write(json.dumps([full, found]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc has these settings")
def test_large_buffers_are_reused_without_page_faults() -> None:
    printed = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True).stdout
    took_effect, faults = printed.split()
    if took_effect == "False":
        pytest.skip("this C library has no mallopt")
    pages = 20 * (32 << 20) // 4096
    assert int(faults) < pages / 10


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc can trim")
def test_what_lies_free_is_given_back_when_it_is_much() -> None:
    command = [sys.executable, "-c", FRAGMENTED]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    full, ((early, at_first), (given_back, after), (again, _)) = json.loads(printed)
    if not given_back and full < at_first + 100:
        pytest.skip("this C library keeps nothing")
    assert not early
    assert full > at_first + 150, "what is small and lasts keeps the large ones from going back by themselves"
    assert given_back
    assert after < at_first + 32
    assert not again, "there is nothing more to give back"
