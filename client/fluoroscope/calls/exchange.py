"""What an operation wants of the transport, as values: neither face knows more of it than this.

An operation is a generator. It yields an `Exchange` for each call that it wants made, is sent the bytes
of the answer, and returns its result; so one function serves the blocking client and the asynchronous
one, however many calls it takes. An operation that streams returns a `StreamCall` instead, for the face
to run.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fluoroscope.wire import Arrived

T = TypeVar("T")
Item = TypeVar("Item")
Whole = TypeVar("Whole")
Whole_co = TypeVar("Whole_co", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One call: a request that is ready to be sent."""

    method: str
    """The full path of the method: `/fluoroscope.v1.InferenceService/Predict`."""

    request: bytes
    """The serialized request."""

    timeout: float | None = None
    """How many seconds it may take. None means what the client was made with."""

    patience: float = 60.0
    """How many seconds it may take where neither `timeout` nor the client says so."""

    repeatable: bool = False
    """Whether it may be made again when nobody knows what became of it: because it changes nothing, say."""

    wait_for_ready: bool = False
    """Whether to wait for a server where there is none yet; the default is to fail at once."""


Steps: TypeAlias = Generator[Exchange, bytes, T]
"""An operation at work: yields exchanges, is sent the answers, returns a `T`."""


class Reader(Protocol[Item, Whole_co]):
    """Makes items of the messages of a stream."""

    def feed(self, message: bytes) -> Item | None:
        """Takes the next message; returns the item that it completes, if it completes one."""

    def finish(self) -> None:
        """Takes note that the stream has ended; raises if it should not have."""

    def progress(self) -> Arrived | None:
        """Returns what has come so far and what has not; None if nothing has."""

    def collect(self, items: Sequence[Item]) -> Whole_co:
        """Returns all items of a finished stream as one value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamCall(Generic[Item, Whole]):
    """One call whose answer is a stream."""

    exchange: Exchange
    """The call."""

    reader: Reader[Item, Whole]
    """What reads its messages."""
