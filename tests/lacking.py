"""What some tests need beside Python's packages, and a machine may lack: programs and libraries.

An index of packages is another matter: nobody can install one, and who has none skips the tests that need it.
"""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest

VARIABLE = "NO_SKIPS"
"""Set in the environment, it makes failures of these skips. Not named as settings are: servers would refuse it."""


def lack(what: str) -> NoReturn:
    """Skips the test, since the machine lacks something that could be installed; fails it if NO_SKIPS is set."""
    if os.environ.get(VARIABLE):
        pytest.fail(f"{what}; without {VARIABLE} this would be skipped", pytrace=False)
    pytest.skip(what)


def program(name: str, package: str) -> str:
    """Returns the path of a program; skips the test, or fails it, if it is not installed.

    Args:
        name: the program.
        package: Debian's package that has it.
    """
    found = shutil.which(name)
    return found or lack(f"{name} is not installed (Debian: the package {package})")
