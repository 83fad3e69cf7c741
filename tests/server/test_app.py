"""The application: what it says of its exposure before anything is loaded, and what it refuses to begin."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from fluoroscope_server.app import App
from fluoroscope_server.errors import ModelError, SettingsError
from fluoroscope_server.settings import ModelSource, Settings

MISSING = (ModelSource(name="missing", path=Path("/nothing/here")),)
OPEN = {"listen": "0.0.0.0:0", "http_listen": "127.0.0.1:0"}


def said(error: type[Exception], **settings: Any) -> tuple[list[str], str]:
    """Returns what a server says that does not come up, and why it does not."""
    lines: list[str] = []
    app = App(Settings(models=MISSING, **settings), announce=lines.append)
    with pytest.raises(error) as caught:
        asyncio.run(app.start())
    return lines, str(caught.value)


def test_it_warns_before_it_listens() -> None:
    lines, _ = said(ModelError, **OPEN)
    assert [line.partition(":")[0] for line in lines][:3] == ["warning", "warning", "gRPC on 0.0.0.0"]
    assert "without TLS" in lines[0]
    assert "without tokens" in lines[1]


def test_on_loopback_it_warns_of_nothing() -> None:
    lines, _ = said(ModelError, listen="127.0.0.1:0", http_listen="127.0.0.1:0")
    assert lines[0].startswith("gRPC on 127.0.0.1")


def test_tokens_that_would_be_read_on_the_way_are_refused(tmp_path: Path) -> None:
    lines, why = said(SettingsError, **OPEN, tokens=tmp_path / "tokens.toml")
    assert (lines, why.partition(":")[0]) == ([], "--tokens without TLS on 0.0.0.0")


def test_files_of_keys_are_read_before_it_listens(tmp_path: Path) -> None:
    nothing = tmp_path / "nothing"
    loopback = {"listen": "127.0.0.1:0", "http_listen": "127.0.0.1:0"}
    for keys in ({"tokens": nothing}, {"tls_certificate": nothing, "tls_key": nothing}):
        lines, why = said(SettingsError, **loopback, **keys)
        assert lines == []
        assert f"{nothing} cannot be read: No such file" in why


def test_a_repository_that_is_not_there(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    lines, why = said(SettingsError, listen="127.0.0.1:0", http_listen="127.0.0.1:0", repository=nowhere)
    assert lines == []
    assert why == f"--repository {nowhere} is no folder; expected one with a folder for each model"


def test_a_repository_that_cannot_be_listed(tmp_path: Path) -> None:
    """One that goes while the server starts stands for one that it may not read."""
    folder = tmp_path / "models"
    folder.mkdir()
    settings = Settings(models=(), listen="127.0.0.1:0", http_listen="127.0.0.1:0", repository=folder)
    app = App(settings, announce=lambda line: folder.rmdir() if line.startswith("metrics on") else None)
    with pytest.raises(SettingsError, match=f"^the repository {folder} cannot be listed: No such file or directory; "):
        asyncio.run(app.start())
