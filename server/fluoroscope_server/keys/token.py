"""One token, as the operator's file describes it."""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING, Any, Final

from fluoroscope_server.errors import SettingsError, nearest
from fluoroscope_server.keys.caller import Caller, Scope
from fluoroscope_server.settings import check_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PREFIX: Final = "fluoroscope_"
"""What every token begins with, so that whoever scans for secrets finds one that was left lying about."""

KEYS: Final = ("name", "sha256", "certificate", "scopes", "models", "expires")
"""The keys of an entry."""

_EXAMPLES: Final = {"scopes": '["predict", "inspect"]', "models": '["digits"]'}


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What its holder shows, and who they are."""

    caller: Caller
    """Who its holder is."""

    digest: bytes | None
    """The SHA-256 of the token; None if the holder shows a certificate instead."""

    certificate: str | None
    """The common name, or an alternative name, of that certificate."""

    expires: datetime | None
    """When it stops being good, with a time zone. None means never."""

    @classmethod
    def parse(cls, entry: Any) -> Token:
        """Reads one entry of the file; raises SettingsError, which quotes none of its secrets."""
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str) or not entry["name"]:
            raise SettingsError("each needs a name")
        name = entry["name"]
        for key in entry:
            if key not in KEYS:
                raise SettingsError(f"token {name!r} has an unknown key {key!r}; known: {nearest(key, KEYS)}")
        if ("sha256" in entry) == ("certificate" in entry):
            raise SettingsError(f"token {name!r} needs either sha256 or certificate")
        return cls(
            caller=Caller(name=name, scopes=_scopes(name, entry), models=_models(name, entry)),
            digest=_digest(name, entry),
            certificate=_certificate(name, entry),
            expires=_expires(name, entry),
        )


def new_token() -> str:
    """Returns a token that nobody guesses: 256 random bits."""
    return PREFIX + secrets.token_urlsafe(32)


def entry_of(
    secret: str, name: str, scopes: Sequence[str], models: Sequence[str] = (), expires: date | None = None
) -> str:
    """Returns the entry for the file of tokens, in which the token itself is not."""
    lines = ["[[token]]", f"name = {_quoted(name)}", f'sha256 = "{hashlib.sha256(secret.encode()).hexdigest()}"']
    lines += [f"scopes = [{', '.join(map(_quoted, scopes))}]"]
    lines += [f"models = [{', '.join(map(_quoted, models))}]"] if models else []
    lines += [f"expires = {expires:%Y-%m-%d}"] if expires else []
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """Returns a basic string of TOML."""
    escaped = "".join(
        f"\\U{ord(letter):08x}" if letter in '"\\' or not letter.isprintable() else letter for letter in text
    )
    return f'"{escaped}"'


def _texts(name: str, entry: Mapping[str, Any], key: str) -> list[str]:
    texts = entry.get(key)
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise SettingsError(f"{key} of token {name!r} must be a list of names, such as {_EXAMPLES[key]}")
    return texts


def _scopes(name: str, entry: Mapping[str, Any]) -> frozenset[Scope]:
    texts = _texts(name, entry, "scopes")
    for text in texts:
        if text not in {*Scope}:
            raise SettingsError(f"token {name!r} has an unknown scope {text!r}; there are {', '.join(Scope)}")
    return frozenset(map(Scope, texts))


def _models(name: str, entry: Mapping[str, Any]) -> frozenset[str] | None:
    if "models" not in entry:
        return None
    models = _texts(name, entry, "models")
    for model in models:
        try:
            check_name("model", model)
        except SettingsError as error:  # a glob, say: it would be good for nothing
            raise SettingsError(f"models of token {name!r}: {error.message}") from None
    return frozenset(models)


def _digest(name: str, entry: Mapping[str, Any]) -> bytes | None:
    if "sha256" not in entry:
        return None
    text = entry["sha256"]
    if not isinstance(text, str) or not re.fullmatch("[0-9a-fA-F]{64}", text):
        # What stands there may be the token itself, by mistake: it is not quoted.
        raise SettingsError(f"sha256 of token {name!r} must be the 64 hexadecimal digits of the token's hash")
    return bytes.fromhex(text)


def _certificate(name: str, entry: Mapping[str, Any]) -> str | None:
    if "certificate" not in entry:
        return None
    text = entry["certificate"]
    if not isinstance(text, str) or not text:
        raise SettingsError(f"certificate of token {name!r} must be the name in a client's certificate")
    return text


def _expires(name: str, entry: Mapping[str, Any]) -> datetime | None:
    value = entry.get("expires")
    if value is None:
        return None
    if isinstance(value, datetime) and value.tzinfo is not None:
        return _utc(name, value)
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime.combine(value, time(), UTC)
    raise SettingsError(
        f"expires of token {name!r} must be a date, which begins at midnight UTC, or a time with its offset: "
        "2027-01-01 or 2027-01-01T09:00:00Z"
    )


def _utc(name: str, value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise SettingsError(
            f"expires of token {name!r} is {value}, which in UTC is in no year from 1 to 9999: leave it out if the "
            "token is good for ever"
        ) from None
