"""The limits of one request, beside those of the model itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fluoroscope_server.errors import LimitExceededError, counted
from fluoroscope_server.serving.admission import SOON, soon

if TYPE_CHECKING:
    from fluoroscope_server.engine import Inspection


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one request may ask for; the defaults are for whoever serves without settings."""

    max_rows: int = 65_536
    """How many rows its inputs may have."""

    max_inspection_bytes: int = 1 << 30
    """How many bytes of tensors an inspection may send."""

    max_answer_bytes: int = 1 << 30
    """How many bytes of tensors an answer of one message may have."""

    max_results: int = 10_000
    """How many results an inspection may have."""

    max_queue: int = 1024
    """How many predictions of its model may wait for the device already."""

    def check_rows(self, rows: int) -> None:
        """Raises LimitExceededError if these are too many rows."""
        if rows > self.max_rows:
            raise LimitExceededError(
                f"the inputs have {counted(rows, 'row')}, and the limit is {self.max_rows:,} (max-rows): "
                "send them in parts",
                field="inputs",
                reason="TOO_MANY_ROWS",
            )

    def check_answer(self, rows: int, *, row_bytes: int) -> None:
        """Raises LimitExceededError if the outputs of so many rows are too large, each row of so many bytes."""
        if rows * row_bytes > self.max_answer_bytes:
            raise LimitExceededError(
                f"the outputs of {counted(rows, 'row')} would have {rows * row_bytes:,} bytes, and the limit is "
                f"{self.max_answer_bytes:,} (max-answer-mib): send fewer rows, or name the outputs that are needed",
                field="inputs",
                reason="ANSWER_TOO_LARGE",
            )

    def check_queue(self, waiting: int, *, model: str) -> None:
        """Raises LimitExceededError if so many predictions wait that one more may not."""
        if waiting >= self.max_queue:
            raise LimitExceededError(
                f"{waiting:,} predictions of {model!r} wait for the device, and that is the limit (max-queue): "
                "ask again soon, or less often",
                reason="QUEUE_FULL",
                retry_after=soon(SOON),
            )

    def refusal_of(
        self, inspection: Inspection, *, max_bytes: int = 0, one_message: bool = False
    ) -> LimitExceededError | None:
        """Returns why an inspection would be too large; None if it is not.

        Args:
            inspection: what is asked for.
            max_bytes: the most bytes that the request itself allows; 0 leaves that to the server.
            one_message: whether it is answered in one message.
        """
        limits = [(self.max_inspection_bytes, "max-inspection-mib", "captures")]
        if one_message:
            limits.append((self.max_answer_bytes, "max-answer-mib", "captures"))
        if max_bytes:
            limits.append((max_bytes, "max_bytes of the request", "max_bytes"))
        most, name, field = min(limits)
        if inspection.byte_size > most:
            return LimitExceededError(
                f"this inspection would send {inspection.byte_size:,} bytes, and the limit is {most:,} ({name}): "
                "choose fewer sites, slice them, reduce them to statistics, or send fewer rows",
                field=field,
                reason="INSPECTION_TOO_LARGE",
            )
        count = len(inspection.results)
        if count > self.max_results:
            return self._too_many(count, field="captures")
        return None

    def check_results(self, count: int, *, field: str) -> None:
        """Raises LimitExceededError, which blames `field`, if these are too many results."""
        if count > self.max_results:
            raise self._too_many(count, field=field)

    def _too_many(self, count: int, *, field: str) -> LimitExceededError:
        return LimitExceededError(
            f"this inspection would have {count:,} results, and the limit is {self.max_results:,} (max-results): "
            "choose fewer sites or reductions, or ask in parts",
            field=field,
            reason="TOO_MANY_RESULTS",
        )


DEFAULT_LIMITS = Limits()
"""The limits of a request that nobody has set."""
