"""Settings: what an operator may write, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluoroscope_server.engine.inspection import MOST_RESULTS
from fluoroscope_server.errors import SettingsError
from fluoroscope_server.setting import settings_of
from fluoroscope_server.settings import ModelSource, Settings, default_compile_cache, split_address


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("digits=runs/digits", ModelSource(name="digits", path=Path("runs/digits"))),
        ("a.b-c_1=/x=y/z", ModelSource(name="a.b-c_1", path=Path("/x=y/z"))),
        ("n=p,family=m.n:build", ModelSource(name="n", path=Path("p"), family="m.n:build")),
        ("n=p,q,family=f", ModelSource(name="n", path=Path("p,q"), family="f")),
        ("n=~/x", ModelSource(name="n", path=Path.home() / "x")),
    ],
)
def test_model_sources(text: str, source: ModelSource) -> None:
    assert ModelSource.parse(text) == source


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("digits", "--model 'digits' is not NAME=PATH or NAME=PATH,family=PACKAGE.MODULE:CALLABLE"),
        ("", "--model '' is not NAME=PATH"),
        ("=path", "--model '=path' is not NAME=PATH"),
        ("name=", "--model 'name=' is not NAME=PATH"),
        ("name=,family=f", "--model 'name=,family=f' is not NAME=PATH"),
        ("name=p,family=", "--model 'name=p,family=' is not NAME=PATH"),
        ("name=p,family=f,family=g", "is not NAME=PATH or NAME=PATH,family="),
        ("a b=p", "model name 'a b' may hold letters, digits, '.', '_' and '-' only"),
        ("a/b=p", "model name 'a/b' may hold letters"),
        ("a" * 201 + "=p", r"model name 'a{200}'\.\.\. has 201 letters; the most are 200"),
    ],
)
def test_model_sources_that_are_refused(text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        ModelSource.parse(text)


def test_no_more_results_can_be_allowed_than_are_ever_resolved() -> None:
    (setting,) = (each for each in settings_of(Settings) if each.field == "max_results")
    assert setting.most == MOST_RESULTS


def test_two_models_of_one_name() -> None:
    first, second = ModelSource.parse("a=x"), ModelSource.parse("a=y")
    with pytest.raises(SettingsError, match="two models are named 'a'; give each a name of its own"):
        Settings(models=(first, ModelSource.parse("b=x"), second))
    assert Settings(models=(first,)).models == (first,)


@pytest.mark.parametrize(
    ("home", "folder"),
    [
        ("/var/cache", "/var/cache/fluoroscope/programs"),
        ("", "/home/ada/.cache/fluoroscope/programs"),
        ("relative", "/home/ada/.cache/fluoroscope/programs"),  # as the rules of XDG say
    ],
)
def test_the_usual_compile_cache(home: str, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setenv("XDG_CACHE_HOME", home)
    assert str(default_compile_cache()) == folder


@given(st.sampled_from(["127.0.0.1", "localhost", "", "0.0.0.0", "h-1.example"]), st.integers(0, 65535))
def test_addresses(host: str, port: int) -> None:
    assert split_address(f"{host}:{port}") == (host, port)


def test_addresses_in_brackets() -> None:
    assert split_address("[::1]:80") == ("::1", 80)


def test_a_user_without_a_home_has_no_usual_compile_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs as any user: the server says so, and keeps no compiled programs."""
    for name in ("XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 2**31 - 7)
    with pytest.raises(SettingsError, match=r"the usual folder '~/\.cache' begins with a home that is not known"):
        default_compile_cache()


@pytest.mark.parametrize(
    "address", ["", "localhost", "127.0.0.1", "h:", "h:-1", "h:65536", "h:http", "h: 1", "h:²", "h:٣", "unix:/run/x"]
)
def test_addresses_that_are_refused(address: str) -> None:
    with pytest.raises(SettingsError, match="is not HOST:PORT with a port from 0 to 65535"):
        split_address(address)


@pytest.mark.parametrize("address", ["http://127.0.0.1:8500", "grpc://127.0.0.1:8500", "dns:///127.0.0.1:8500"])
def test_an_address_to_listen_at_has_no_scheme(address: str) -> None:
    with pytest.raises(SettingsError, match=rf"{address}' is not HOST:PORT: write '127.0.0.1:8500', without a scheme"):
        split_address(address)
