"""The guard: what it lets in where there is no row, and who shows a certificate."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from fluoroscope_server.errors import PermissionDeniedError, UnauthenticatedError
from fluoroscope_server.keys import ANYBODY, NOBODY, Scope, Tokens, caller, entry_of, new_token
from fluoroscope_server.rpc.access import OPEN
from fluoroscope_server.rpc.guard import Guard

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from fluoroscope_server.rpc.context import Context

SECRET = new_token()
ACCESS = {"/s/Predict": frozenset({Scope.PREDICT}), "/s/Open": OPEN}


def context(*metadata: tuple[str, str | bytes], shown: Mapping[str, list[bytes]] | None = None) -> Context:
    """All of a call that a guard looks at."""
    call: Any = SimpleNamespace(invocation_metadata=lambda: metadata, auth_context=lambda: shown or {})
    return cast("Context", call)


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    file = tmp_path / "tokens.toml"
    file.write_text(
        entry_of(SECRET, "ada", ["predict"])
        + '[[token]]\nname = "bob"\ncertificate = "bob.example"\nscopes = ["predict"]'
    )
    file.chmod(0o600)
    return Tokens(file)


@pytest.fixture(autouse=True)
def forget() -> Any:
    """Ends each test as it began: with nobody calling."""
    from fluoroscope_server.keys import CALLER

    token = CALLER.set(ANYBODY)
    yield
    CALLER.reset(token)


def test_without_tokens_nobody_is_asked() -> None:
    Guard(None, {}).door("/s/Whatever")(context())
    assert caller() is ANYBODY


def test_a_method_without_a_row_is_for_nobody(tokens: Tokens) -> None:
    with pytest.raises(PermissionDeniedError, match="its row in the server's table is missing"):
        Guard(tokens, ACCESS).door("/s/Forgotten")(context(("authorization", f"Bearer {SECRET}")))


def test_who_is_known_is_the_caller(tokens: Tokens) -> None:
    guard = Guard(tokens, ACCESS)
    guard.door("/s/Open")(context())
    assert caller() is NOBODY
    guard.door("/s/Predict")(context(("user-agent", "x"), ("authorization", f"Bearer {SECRET}")))
    assert caller().name == "ada"


def test_a_certificate_is_as_good_as_a_token(tokens: Tokens) -> None:
    door = Guard(tokens, ACCESS).door("/s/Predict")
    for key in ("x509_common_name", "x509_subject_alternative_name"):
        door(context(shown={"transport_security_type": [b"ssl"], key: [b"localhost", b"bob.example"]}))
        assert caller().name == "bob"
    for shown in (None, {"x509_common_name": [b"eve"]}, {"x509_subject": [b"bob.example"]}):
        with pytest.raises(UnauthenticatedError, match="no token came, and no certificate that this server knows"):
            door(context(shown=shown))


def test_a_wrong_token_is_not_made_good_by_a_certificate(tokens: Tokens) -> None:
    with pytest.raises(UnauthenticatedError, match="none that this server knows"):
        Guard(tokens, ACCESS).door("/s/Predict")(
            context(("authorization", f"Bearer {new_token()}"), shown={"x509_common_name": [b"bob.example"]})
        )
