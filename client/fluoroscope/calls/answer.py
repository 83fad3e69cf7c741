"""The answer of a server as the message that it should be."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from google.protobuf.message import DecodeError

from fluoroscope.calls.errors import ServerError

if TYPE_CHECKING:
    from google.protobuf.message import Message

Answer = TypeVar("Answer", bound="Message")


def read_answer(kind: type[Answer], data: bytes) -> Answer:
    """Returns an answer as a message.

    Raises:
        ServerError: It is no such message.
    """
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise unreadable(f"{len(data)} bytes are no {kind.__name__}: {error}") from None


def unreadable(what: str) -> ServerError:
    """Returns the error for an answer of which something cannot be read."""
    return ServerError(
        f"the server answered what this client cannot read: {what}. "
        "If the server is newer than this client, install a newer fluoroscope here."
    )
