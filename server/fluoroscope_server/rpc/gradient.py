"""Gradients, from messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fluoroscope.wire import WireError, decode_tensor
from fluoroscope_server.engine import Full, Gradient, Objective, check_names
from fluoroscope_server.errors import InvalidRequestError
from fluoroscope_server.rpc.decoding import MOST_REDUCTIONS, check_count
from fluoroscope_server.rpc.reduction import decode_reduction

if TYPE_CHECKING:
    from fluoroscope.v1 import inspection_pb2 as inspection

OBJECTIVES = {"logit": Objective.LOGIT, "cross_entropy": Objective.CROSS_ENTROPY}
"""The scalars, by the name of the field of `Gradient` that asks for them."""


def decode_gradient(request: inspection.InspectActivationsRequest) -> Gradient | None:
    """Returns the gradient that an inspection asks for, if any; raises InvalidRequestError if it cannot be right."""
    if not request.HasField("gradient"):
        return None
    message = request.gradient
    name = message.WhichOneof("objective")
    if name is None:
        raise InvalidRequestError(f"no known objective is set; the known are {', '.join(OBJECTIVES)}", field="gradient")
    try:
        indices = decode_tensor(getattr(message, name))
    except WireError as error:
        raise InvalidRequestError(str(error), field=f"gradient.{name}", reason="BROKEN_TENSOR") from error
    check_count(len(message.reductions), MOST_REDUCTIONS, "reductions", field="gradient.reductions")
    check_names(len(message.inputs) + len(message.parameters), field="gradient")
    reductions = (
        decode_reduction(each, field=f"gradient.reductions[{index}]") for index, each in enumerate(message.reductions)
    )
    return Gradient(
        output=message.output,
        objective=OBJECTIVES[name],
        indices=indices,
        inputs=tuple(message.inputs),
        parameters=tuple(message.parameters),
        reductions=tuple(reductions) or (Full(),),
    )
