"""Tokens: new ones, and the entries that describe them."""

from __future__ import annotations

import hashlib
import re
import tomllib
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluoroscope_server.errors import SettingsError
from fluoroscope_server.keys import Scope, entry_of, new_token
from fluoroscope_server.keys.token import KEYS, Token

HASH = hashlib.sha256(b"x").hexdigest()
GOOD = {"name": "a", "sha256": HASH, "scopes": ["predict"]}
NAIVE = datetime(2027, 1, 1)  # noqa: DTZ001  # what TOML makes of a time without its offset

LAST = datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone(timedelta(hours=-1)))


def test_tokens_are_long_and_no_two_are_the_same() -> None:
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert all(token.startswith("fluoroscope_") and len(token) == 55 for token in tokens)


@given(
    st.text(st.characters(codec="utf-8"), min_size=1),
    st.sets(st.sampled_from(list(Scope)), min_size=1),
    st.lists(st.text(st.characters(categories=("Ll", "Lu", "Nd"), include_characters="._-"), min_size=1, max_size=50)),
    st.none() | st.dates(min_value=date(1000, 1, 1)),
)
def test_an_entry_says_what_it_was_made_from(
    name: str, scopes: set[Scope], models: list[str], day: date | None
) -> None:
    secret = new_token()
    entry = entry_of(secret, name, sorted(scopes), models, day)
    assert secret not in entry
    (read,) = tomllib.loads(entry)["token"]
    token = Token.parse(read)
    assert (token.caller.name, token.caller.scopes) == (name, frozenset(scopes))
    assert token.caller.models == (frozenset(models) if models else None)
    assert token.digest == hashlib.sha256(secret.encode()).digest()
    assert token.expires == (datetime(day.year, day.month, day.day, tzinfo=UTC) if day else None)


def test_a_certificate_in_place_of_a_hash() -> None:
    token = Token.parse({"name": "a", "certificate": "laptop", "scopes": ["predict", "inspect"]})
    assert (token.certificate, token.digest) == ("laptop", None)


def test_a_time_with_its_offset() -> None:
    east = timezone(timedelta(hours=2))
    token = Token.parse(GOOD | {"expires": datetime(2027, 1, 1, 9, tzinfo=east)})
    assert token.expires == datetime(2027, 1, 1, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("a", "each needs a name"),
        ({}, "each needs a name"),
        (GOOD | {"name": ""}, "each needs a name"),
        (GOOD | {"scope": []}, "token 'a' has an unknown key 'scope'; known: 'scopes'"),
        ({"name": "a", "scopes": ["predict"]}, "token 'a' needs either sha256 or certificate"),
        (GOOD | {"certificate": "b"}, "token 'a' needs either sha256 or certificate"),
        (GOOD | {"sha256": 1}, "sha256 of token 'a' must be the 64 hexadecimal digits"),
        (GOOD | {"certificate": 1, "sha256": HASH}, "needs either"),
        ({"name": "a", "certificate": "", "scopes": ["predict"]}, "certificate of token 'a' must be the name"),
        (GOOD | {"scopes": []}, 'scopes of token \'a\' must be a list of names, such as \\["predict", "inspect"\\]'),
        (GOOD | {"scopes": "predict"}, "scopes of token 'a' must be a list"),
        ({"name": "a", "sha256": HASH}, "scopes of token 'a' must be a list"),
        (GOOD | {"scopes": ["root"]}, "token 'a' has an unknown scope 'root'; there are predict, inspect, admin"),
        (GOOD | {"models": ["digits", "*"]}, r"models of token 'a': model name '\*' may hold letters"),
        (GOOD | {"models": []}, "models of token 'a' must be a list of names"),
        (GOOD | {"expires": NAIVE}, "expires of token 'a' must be a date, .* or a time with its offset"),
        (GOOD | {"expires": LAST}, "expires of token 'a' is 9999-12-31 23:59:59-01:00, which in UTC"),
        (GOOD | {"expires": "2027-01-01"}, "expires of token 'a' must be a date"),
    ],
)
def test_entries_that_are_refused(entry: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Token.parse(entry)


def test_a_token_in_the_place_of_its_hash_is_not_repeated() -> None:
    secret = new_token()
    with pytest.raises(SettingsError) as caught:
        Token.parse(GOOD | {"sha256": secret})
    assert secret not in caught.value.message


def test_the_documentation_names_every_scope_and_every_key() -> None:
    text = (Path(__file__).parents[3] / "docs" / "security.md").read_text()
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == list(Scope)
    (example,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    read = tomllib.loads(example.replace("5feceb66ffc8...", HASH))["token"][0]
    assert Token.parse(read).caller.models == frozenset({"digits"})
    assert {*read, "certificate"} == {*KEYS}
