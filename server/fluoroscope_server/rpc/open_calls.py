"""The calls that are open: who calls alone is served at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fluoroscope_server.rpc.context import Context


class OpenCalls:
    """Counts the predictions that are open, down to the last byte of each answer. Belongs to the event loop."""

    def __init__(self) -> None:
        """Begins with none."""
        self._count = 0

    def open(self, context: Context) -> None:
        """Counts a call until its answer has left, or its caller is gone: who calls again after it is still alone."""
        self._count += 1
        context.add_done_callback(self._close)  # type: ignore[arg-type]  # the stub's is a class, not a callable

    @property
    def one(self) -> bool:
        """Whether just one call is open."""
        return self._count == 1

    def _close(self, _: object) -> None:
        self._count -= 1
