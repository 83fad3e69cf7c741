"""The compile cache: what was compiled once is read the next time, in a bounded folder, whatever was left in it."""

from __future__ import annotations

import os
import resource
import stat
from typing import TYPE_CHECKING, Self

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fluoroscope_server.engine import CompileCache, compile_cache
from fluoroscope_server.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

MUCH = 1 << 30
X = np.arange(4, dtype=np.float32)


class Start:
    """One start of a server: compiles programs, and counts how many of them were found."""

    def __init__(self, folder: Path, *, most_bytes: int = MUCH) -> None:
        self.found: list[bool] = []
        self._cache = CompileCache(folder, most_bytes=most_bytes, on_lookup=self.found.append)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._cache.close()

    def compile(self, number: int) -> None:
        """Compiles a program of its own for each number, and runs it."""
        program = jax.jit(lambda x: jnp.cos(x) * np.float32(number)).lower(X).compile()
        np.testing.assert_allclose(program(X), np.cos(X) * number, rtol=1e-5)


def entries(folder: Path) -> list[Path]:
    """Returns the programs in the folder, the one used last in front."""
    return sorted(folder.rglob("*-cache"), key=lambda path: path.stat().st_mtime_ns, reverse=True)


def test_the_next_start_finds_what_was_compiled(tmp_path: Path) -> None:
    with Start(tmp_path) as first:
        for number in (1, 2, 1):
            first.compile(number)
    assert first.found == [False, False, True]
    with Start(tmp_path) as second:
        for number in (2, 3, 1):
            second.compile(number)
    assert second.found == [True, False, True]
    assert len(entries(tmp_path)) == 3


def test_nothing_is_kept_or_told_when_it_is_closed(tmp_path: Path) -> None:
    options = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = [getattr(jax.config, name) for name in options]
    with Start(tmp_path) as start:
        pass
    start.compile(4)
    assert start.found == []
    assert entries(tmp_path) == []
    assert [getattr(jax.config, name) for name in options] == before


def test_only_this_user_may_write_where_programs_lie(tmp_path: Path) -> None:
    with Start(tmp_path / "programs") as start:
        start.compile(1)
    (entry,) = entries(tmp_path)
    for folder in (entry.parent, entry.parent.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    entry.parent.chmod(0o777)
    with pytest.raises(SettingsError, match="others can write to"):
        Start(tmp_path / "programs")


def test_another_kind_of_machine_has_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Start(tmp_path) as start:
        start.compile(1)
    assert compile_cache.machine() == compile_cache.machine()
    monkeypatch.setattr("platform.machine", lambda: "pdp11")
    with Start(tmp_path) as elsewhere:
        elsewhere.compile(1)
    assert elsewhere.found == [False]
    assert len({entry.parent for entry in entries(tmp_path)}) == 2


@pytest.mark.parametrize("left", [0, 1, 100, -1], ids=["nothing", "a byte", "a part", "all but a byte"])
@pytest.mark.filterwarnings("error")
def test_what_was_left_half_written_is_compiled_anew(tmp_path: Path, left: int) -> None:
    """JAX alone would warn, and never replace it."""
    with Start(tmp_path) as killed:
        killed.compile(1)
        killed.compile(2)
    (torn, whole) = entries(tmp_path)
    torn.write_bytes(torn.read_bytes()[:left])
    for found in ([True, False], [True, True]):
        with Start(tmp_path) as start:
            start.compile(1)
            start.compile(2)
        assert start.found == found
        assert set(entries(tmp_path)) == {torn, whole}


def test_a_full_disk_costs_nothing_but_time(tmp_path: Path) -> None:
    """No file may grow beyond a few bytes for a moment: the same path through the system as a disk without room."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Start(tmp_path) as full:
        resource.setrlimit(resource.RLIMIT_FSIZE, (16, before[1]))
        try:
            with pytest.warns(UserWarning, match="Error writing persistent compilation cache entry"):
                full.compile(1)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    for found in (False, True):
        with Start(tmp_path) as start:
            start.compile(1)
        assert start.found == [found]


def test_what_was_not_used_for_longest_goes_when_the_folder_is_full(tmp_path: Path) -> None:
    with Start(tmp_path) as start:
        for number in (1, 2, 3):
            start.compile(number)
    third, second, first = entries(tmp_path)
    size = sum(entry.stat().st_size for entry in (first, second, third))
    for age, entry in enumerate((first, third, second)):
        os.utime(entry, (1e9 - age, 1e9 - age))
    with Start(tmp_path, most_bytes=size - 1):
        assert set(entries(tmp_path)) == {first, third}
    os.utime(third, (2e9, 1e9))  # it was read since
    with Start(tmp_path, most_bytes=first.stat().st_size + third.stat().st_size - 1):
        assert entries(tmp_path) == [third]


def test_it_stays_bounded_while_programs_are_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile_cache, "MOST_ENTRIES", 3)
    with Start(tmp_path) as start:
        for number in range(8):
            start.compile(number)
            assert len(entries(tmp_path)) <= 3 + 1  # room is made before one is added
    assert start.found == [False] * 8
