"""The log of calls: a line for each that failed, or for each."""

from __future__ import annotations

import logging
import random
import re
from typing import TYPE_CHECKING

from fluoroscope_server.logs import Budget, fields
from fluoroscope_server.rpc.context import current_client

if TYPE_CHECKING:
    from fluoroscope_server.rpc.context import Context

log = logging.getLogger(__name__)

REQUEST_ID = "x-request-id"
"""The metadata that names a request, both ways."""

LINES = 20
"""How many lines about failed calls may be written in a second; what a server did not expect is always written."""

_SANE = re.compile(r"[A-Za-z0-9_.:/+=-]{1,128}")


class CallLog:
    """Writes a line about a call when it has ended, and never anything of what its request holds."""

    def __init__(self, calls: str = "failed") -> None:
        """Takes which calls to write of: `none`, `failed`, or `all`."""
        self.all = calls == "all"
        self._failed = calls != "none"
        self._budget = Budget(LINES)

    def ended(
        self,
        method: str,
        code: str,
        seconds: float,
        *,
        request_id: str,
        reason: str | None = None,
        error: str | None = None,
        cause: Exception | None = None,
    ) -> None:
        """Writes of a call that has ended.

        Args:
            method: its path.
            code: the name of its status.
            seconds: how long it took.
            request_id: which one it was.
            reason: the reason of its error.
            error: the message that its client got.
            cause: what nobody expected; written whatever was asked for.
        """
        if cause is None and code in {"OK", "CANCELLED"} and not self.all:  # who gives up is no failure of anybody
            return
        left_out = 0 if cause is not None or self.all else self._budget.take() if self._failed else None
        if left_out is None:
            return
        more = fields(
            method=method,
            code=code,
            seconds=round(seconds, 6),
            request_id=request_id,
            client=current_client(),
            reason=reason,
            error=error,
            left_out=left_out or None,
        )
        if cause is None:
            log.info("call", extra=more)
        else:
            log.error("internal error %s", request_id, extra=more, exc_info=cause)


def request_id_of(context: Context) -> str:
    """Returns how a request is named by its client, if that is fit to be printed; empty if it is not named."""
    for key, value in context.invocation_metadata() or ():
        if key == REQUEST_ID and isinstance(value, str) and _SANE.fullmatch(value):
            return value
    return ""


def call_id_of(context: Context) -> str:
    """Returns how a call of many requests is named, by its client or by the observer."""
    return next(str(value) for key, value in context.trailing_metadata() if key == REQUEST_ID)


def new_request_id() -> str:
    """Returns a name for a request that has none."""
    return f"{random.getrandbits(48):012x}"  # no secret, and every failure needs one
