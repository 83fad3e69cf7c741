"""How an inspection is run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from fluoroscope.calls.errors import InvalidRequestError
from fluoroscope.v1 import inspection_pb2

if TYPE_CHECKING:
    from fluoroscope.v1.inspection_pb2 import Execution as ExecutionNumber

Execution: TypeAlias = Literal["auto", "fused", "staged"]
"""`"fused"`: as one program. `"staged"`: as a chain of programs, so that the first values come while the last are
computed, and the device holds few at a time. `"auto"`: staged if much is to be sent."""

EXECUTIONS: dict[str, ExecutionNumber.ValueType] = {
    "auto": inspection_pb2.EXECUTION_AUTO,
    "fused": inspection_pb2.EXECUTION_FUSED,
    "staged": inspection_pb2.EXECUTION_STAGED,
}
"""Their numbers on the wire."""


def execution_to_wire(execution: str) -> ExecutionNumber.ValueType:
    """Returns the number of an execution; raises InvalidRequestError if there is no such."""
    number = EXECUTIONS.get(str(execution).lower())
    if number is None:
        raise InvalidRequestError(
            f"there is no execution {execution!r}; there are {', '.join(EXECUTIONS)}", field="execution"
        )
    return number
