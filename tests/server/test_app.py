"""The application, where starting it is refused before anything listens."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from fluoroscope_server.app import App
from fluoroscope_server.errors import SettingsError
from fluoroscope_server.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path


def test_a_repository_that_is_not_there(tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(SettingsError, match=f"--repository {tmp_path / 'nowhere'} is no folder; expected one with a"):
        asyncio.run(App(Settings(models=(), repository=tmp_path / "nowhere"), said.append).start())
    assert said == []
