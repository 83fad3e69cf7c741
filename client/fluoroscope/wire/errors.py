"""What can be wrong with bytes that came over the wire.

WireError (a ValueError)
├── CorruptError      a stream holds something that it must not hold
└── IncompleteError   a stream ended before its trailer
"""

from __future__ import annotations


class WireError(ValueError):
    """Bytes or an array do not fit the contract; the message says what came and what was expected."""


class CorruptError(WireError):
    """A stream holds something that it must not hold: the values that came with it cannot be trusted."""


class IncompleteError(WireError):
    """A stream ended before its trailer: what came is whole, but it is not all."""
