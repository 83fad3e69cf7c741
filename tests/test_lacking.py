"""What a machine lacks is a skip, or a failure where nothing may be skipped."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from .lacking import lack, program


def test_what_is_lacking_skips_a_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SKIPS", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no such thing"):
        lack("no such thing")
    with pytest.raises(pytest.skip.Exception, match=r"nothing-of-it is not installed \(Debian: the package nothing\)"):
        program("nothing-of-it", "nothing")


def test_where_nothing_may_be_skipped_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_SKIPS", "1")
    with pytest.raises(pytest.fail.Exception, match="no such thing; without NO_SKIPS this would be skipped"):
        lack("no such thing")


def test_a_program_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    assert program(Path(sys.executable).name, "python3") == sys.executable
