"""Files that a command writes."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

import click
import numpy as np
import pytest

from fluoroscope.cli.output import writing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def little_room() -> Iterator[None]:
    """No file may grow beyond 8 KiB, as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("little_room")
@pytest.mark.parametrize(("name", "why"), [("x.npz", "File too large"), ("x.npy", "1000000 requested and .* written")])
def test_a_file_that_has_no_room_says_why(tmp_path: Path, name: str, why: str) -> None:
    with pytest.raises(click.UsageError, match=f"{name}: {why}.$"), writing(tmp_path / name) as file:
        file.add("x", np.zeros(1_000_000, np.uint8))

    assert list(tmp_path.iterdir()) == []
