"""The file of tokens: who is found in it, what is refused, and what becomes of it when it changes."""

from __future__ import annotations

import logging
import re
from datetime import date
from typing import TYPE_CHECKING

import pytest

from fluoroscope_server.errors import SettingsError, UnauthenticatedError
from fluoroscope_server.keys import Tokens, entry_of, new_token
from fluoroscope_server.keys.tokens import LOOK_SECONDS

if TYPE_CHECKING:
    from pathlib import Path

ADA, BOB = "flu_" + 10 * "Ada-", "flu_" + 10 * "Bob-"  # always the same: they are in the names of tests
SHOUTED = re.sub("[0-9a-f]{64}", lambda found: found[0].upper(), entry_of(ADA, "b", ["predict"]))
LAPTOP = "[[token]]\nname = 'a'\ncertificate = 'laptop'\nscopes = ['predict']\n"
DEEP = f"x = {5000 * '['}{5000 * ']'}"


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.seconds = 1_000_000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens.toml"
    path.write_text(entry_of(ADA, "ada", ["inspect"]) + entry_of(BOB, "bob", ["predict"], ["digits"]))
    path.chmod(0o644)
    return path


def reason(tokens: Tokens, secret: str) -> str:
    with pytest.raises(UnauthenticatedError) as caught:
        tokens.of_bearer(secret)
    assert secret not in caught.value.message or not secret
    return caught.value.reason


def test_who_shows_a_token(file: Path) -> None:
    tokens = Tokens(file)
    assert tokens.of_bearer(ADA).name == "ada"
    assert tokens.of_bearer(BOB).models == frozenset({"digits"})
    for wrong in ("", new_token(), ADA[:-1], ADA + "x", ADA.upper(), "é" * 40):
        assert reason(tokens, wrong) == "TOKEN_UNKNOWN"
    assert not tokens.knows_certificates


def test_a_file_without_any_token_lets_nobody_in_and_says_so(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    tokens = Tokens(file, clock=clock)
    file.write_text("# ada has left\n")
    clock.seconds += LOOK_SECONDS
    assert reason(tokens, ADA) == "TOKEN_UNKNOWN"
    assert f"the tokens in {file}: there is none, so nobody is let in" in caplog.text


def test_a_file_that_names_its_first_certificate(file: Path) -> None:
    """Nobody has to show a token before that is noticed."""
    clock = Clock()
    tokens = Tokens(file, clock=clock)
    assert not tokens.knows_certificates
    file.write_text(file.read_text() + '[[token]]\nname = "a"\ncertificate = "laptop"\nscopes = ["predict"]\n')
    clock.seconds += LOOK_SECONDS
    assert tokens.knows_certificates


def test_who_shows_a_certificate(file: Path) -> None:
    file.write_text('[[token]]\nname = "a"\ncertificate = "laptop"\nscopes = ["predict"]\n')
    tokens = Tokens(file)
    assert tokens.knows_certificates
    assert tokens.of_certificate(["other", "laptop"]).name == "a"
    with pytest.raises(UnauthenticatedError) as caught:
        tokens.of_certificate(["other"])
    assert caught.value.reason == "TOKEN_MISSING"


def test_a_token_is_good_until_it_expires(file: Path) -> None:
    file.write_text(entry_of(ADA, "ada", ["inspect"], expires=date(2001, 9, 9)))
    now = Clock()
    tokens = Tokens(file, now=now)
    now.seconds = 1_000_000_000 - (1 * 3600 + 46 * 60 + 40) - 0.5  # half a second before 2001-09-09
    assert tokens.of_bearer(ADA).name == "ada"
    now.seconds += 0.5
    with pytest.raises(UnauthenticatedError, match=r"token 'ada' was good until 2001-09-09 00:00 UTC") as caught:
        tokens.of_bearer(ADA)
    assert caught.value.reason == "TOKEN_EXPIRED"


def test_what_changes_is_in_force_a_second_later(file: Path) -> None:
    clock, new = Clock(), new_token()
    tokens = Tokens(file, clock=clock)
    file.write_text(entry_of(new, "new", ["predict"]))
    assert tokens.of_bearer(ADA).name == "ada"
    clock.seconds += LOOK_SECONDS
    assert reason(tokens, ADA) == "TOKEN_UNKNOWN"
    assert tokens.of_bearer(new).name == "new"


def test_a_file_that_breaks_changes_nothing_and_is_complained_of_once(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    tokens, good = Tokens(file, clock=clock), file.read_text()
    for end in ("[[tok", "expires = 9999-12-31T23:59:59-01:00", DEEP, None):
        caplog.clear()
        if end is None:
            file.unlink()
        else:
            file.write_text(f"{good}\n{end}")
        for _ in range(3):
            clock.seconds += LOOK_SECONDS
            assert tokens.of_bearer(ADA).name == "ada"
        (record,) = caplog.records
        assert record.levelno == logging.ERROR
        assert str(file) in record.message
        assert "What was read before stays in force" in record.message
    file.write_text(entry_of(BOB, "bob", ["predict"]))
    file.chmod(0o644)
    clock.seconds += LOOK_SECONDS
    assert reason(tokens, ADA) == "TOKEN_UNKNOWN"
    assert tokens.of_bearer(BOB).name == "bob"


def test_a_file_with_no_tokens_lets_nobody_in(file: Path) -> None:
    file.write_text("")
    assert reason(Tokens(file), ADA) == "TOKEN_UNKNOWN"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[token", "the tokens in .*tokens.toml are not TOML: Expected ']]' at the end"),
        ("\x00", "are not TOML"),
        ("port = 1", r"must be tables \[\[token\]\] and nothing else"),
        ("[token]\nname = 'a'", r"must be tables \[\[token\]\] and nothing else"),
        ("[[token]]\nname = 'a'", "tokens.toml: token 'a' needs either"),
        (entry_of(ADA, "a", ["predict"]) + entry_of(BOB, "a", ["predict"]), "two have the same name"),
        (entry_of(ADA, "a", ["predict"]) + entry_of(ADA, "b", ["predict"]), "two have the same sha256"),
        (entry_of(ADA, "a", ["predict"]) + SHOUTED, "two have the same sha256"),
        (LAPTOP + LAPTOP.replace("'a'", "'b'"), "two have the same certificate"),
    ],
)
def test_files_that_are_refused(file: Path, text: str, message: str) -> None:
    file.write_text(text)
    with pytest.raises(SettingsError, match=message):
        Tokens(file)


def test_a_file_that_others_can_write_to(file: Path) -> None:
    file.chmod(0o664)
    with pytest.raises(SettingsError, match=r"others can write .* whose mode is 0664.*: chmod go-w .*tokens.toml"):
        Tokens(file)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nothing cannot be read: No such file"):
        Tokens(tmp_path / "nothing")
