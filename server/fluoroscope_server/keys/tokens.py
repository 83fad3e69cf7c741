"""The tokens that this server knows, from a file of their hashes."""

from __future__ import annotations

import hashlib
import hmac
import logging
import stat
import time
import tomllib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from fluoroscope_server.errors import SettingsError, UnauthenticatedError
from fluoroscope_server.keys.token import Token
from fluoroscope_server.keys.watched import Watched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from fluoroscope_server.keys.caller import Caller

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
"""How often the file is looked at, at most, for what has changed: so long a token that was taken out is still good."""

_INDEXED: Final = 8
"""How many bytes of a hash find its token; the whole is compared in a time that tells nothing."""


def _now() -> float:
    """Returns the seconds since 1970, by the clock that days are told by."""
    return datetime.now(UTC).timestamp()


class Tokens:
    """Finds out who calls. Follows its file when that changes; one that is broken changes nothing.

    The hash is one SHA-256: a token is 256 random bits, which nobody guesses. bcrypt and its kin are slow to protect
    what people think up, and here they would cost each call a tenth of a second.
    """

    def __init__(
        self, path: Path, *, clock: Callable[[], float] = time.monotonic, now: Callable[[], float] = _now
    ) -> None:
        """Reads the file; a clock says when to look at it again, and another what has expired.

        Raises:
            SettingsError: it cannot be read, others can write to it, or it is not what it should be.
        """
        self._path = path
        self._clock = clock
        self._now = now
        self._looked = clock()
        self._file = Watched([path], lambda: _read(path))
        self._take(self._file.value)

    @property
    def knows_certificates(self) -> bool:
        """Returns whether somebody is known by a certificate."""
        self._follow()
        return bool(self._certificates)

    def of_bearer(self, secret: str) -> Caller:
        """Returns who shows a token.

        Raises:
            UnauthenticatedError: it is none that this server knows, or it has expired.
        """
        self._follow()
        digest = hashlib.sha256(secret.encode()).digest()
        token = self._secrets.get(digest[:_INDEXED])
        if token is None or token.digest is None or not hmac.compare_digest(token.digest, digest):
            raise UnauthenticatedError("the token is none that this server knows", reason="TOKEN_UNKNOWN")
        return self._valid(token)

    def of_certificate(self, names: Iterable[str]) -> Caller:
        """Returns who shows a certificate with one of these names.

        Raises:
            UnauthenticatedError: nobody is known by them, or not any more.
        """
        self._follow()
        for name in names:
            if name in self._certificates:
                return self._valid(self._certificates[name])
        raise UnauthenticatedError("no token came, and no certificate that this server knows", reason="TOKEN_MISSING")

    def _valid(self, token: Token) -> Caller:
        if token.expires is not None and self._now() >= token.expires.timestamp():
            raise UnauthenticatedError(
                f"{token.caller} was good until {token.expires:%Y-%m-%d %H:%M} UTC: ask for a new one",
                reason="TOKEN_EXPIRED",
            )
        return token.caller

    def _follow(self) -> None:
        """Reads the file again if it is time to look and it has changed."""
        time_now = self._clock()
        if time_now - self._looked >= LOOK_SECONDS:
            self._looked = time_now
            if self._file.renew():
                self._take(self._file.value)

    def _take(self, tokens: list[Token]) -> None:
        if not tokens:  # which is what taking the last one away comes to, or a file that was cut off
            log.warning("the tokens in %s: there is none, so nobody is let in", self._path)
        self._secrets = {token.digest[:_INDEXED]: token for token in tokens if token.digest is not None}
        self._certificates = {token.certificate: token for token in tokens if token.certificate is not None}


def _read(path: Path) -> list[Token]:
    """Returns the tokens of a file; raises SettingsError that names it, and quotes nothing that may be a secret."""
    entries = _entries(path)
    try:
        tokens = [Token.parse(entry) for entry in entries]
    except SettingsError as error:
        raise SettingsError(f"the tokens in {path}: {error.message}") from None
    for field, seen in (
        ("name", [each.caller.name for each in tokens]),
        ("sha256", [each.digest for each in tokens if each.digest is not None]),
        ("certificate", [each.certificate for each in tokens if each.certificate is not None]),
    ):
        if len(seen) > len(set(seen)):
            raise SettingsError(f"the tokens in {path}: two have the same {field}; each needs its own")
    return tokens


def _entries(path: Path) -> list[dict[str, object]]:
    try:
        mode = path.stat().st_mode
        text = path.read_text("utf-8")
        document = tomllib.loads(text)
    except OSError as error:
        raise SettingsError(f"the tokens in {path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # of TOML, or of UTF-8; or it is nested too deeply
        raise SettingsError(f"the tokens in {path} are not TOML: {error}") from None
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise SettingsError(
            f"others can write to the tokens in {path}, whose mode is {stat.S_IMODE(mode):04o}, and so give themselves "
            f"one: chmod go-w {path}"
        )
    entries = document.pop("token", [])
    if document or not isinstance(entries, list):
        raise SettingsError(
            f"the tokens in {path} must be tables [[token]] and nothing else: `fluoroscope-server token` prints one"
        )
    return entries
