"""How many files a process may have open, asked in processes of their own: a limit once lowered stays so."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("resource", reason="Unix alone has it")


@pytest.mark.parametrize(
    ("allowed", "most", "then"),
    [
        (256, 4096, 2024),  # a thousand connections, and 1,024 besides
        (256, 512, 512),
        (3000, 4096, 3000),
    ],
)
def test_as_many_as_are_needed_and_may_be_had(allowed: int, most: int, then: int) -> None:
    code = (
        "import resource; from fluoroscope_server.open_files import allow_connections; "
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({allowed}, {most})); allow_connections(1000); "
        "print(*resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed == f"{then} {most}\n"
