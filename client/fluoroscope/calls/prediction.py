"""The operation that runs a network as it was trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fluoroscope.calls.answer import read_answer, unreadable
from fluoroscope.calls.argument import building, names_of
from fluoroscope.calls.exchange import Exchange
from fluoroscope.calls.inputs import as_arrays, fill_inputs
from fluoroscope.calls.selector import fill_version
from fluoroscope.v1 import inference_pb2
from fluoroscope.wire import WireError, decode_tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    from fluoroscope.calls.exchange import Steps
    from fluoroscope.calls.inputs import Inputs
    from fluoroscope.v1 import tensor_pb2


def predict(
    model: str,
    inputs: Inputs,
    *,
    outputs: str | Sequence[str] = (),
    version: int | None = None,
    label: str | None = None,
    timeout: float | None = None,
) -> Steps[dict[str, np.ndarray]]:
    """Computes the outputs of a model for one batch of inputs.

    Args:
        model: The name of the model.
        inputs: An array for each input of the model, `(batch, ...)`, in the input's dtype. Python lists
            and numbers are given that dtype; arrays are never converted.
        outputs: The outputs to answer with. Empty means all of them.
        version: The checkpoint step to ask. None means the one that serves now.
        label: The label of the version, in place of its number.
        timeout: How many seconds the call may take. None means what the client was made with.

    Returns:
        The outputs by name, `(batch, ...)` each, in the order in which they are asked for; of all, by their names.

    Raises:
        NotFoundError: No such model, version or label.
        InvalidRequestError: An input or output name, a dtype or a shape does not fit the model.
        LimitExceededError: A limit of the server was reached.
        ServerUnavailableError: The server drains, or nobody answers.
        ServerError: An output is of a data type that this client does not know, or not what it says.
    """
    arrays = yield from as_arrays(inputs, model=model, version=version, label=label, timeout=timeout)
    names = names_of(outputs, "outputs")
    with building():
        request = inference_pb2.PredictRequest(model=model, outputs=names)
    fill_version(request, version, label)
    fill_inputs(request.inputs, arrays)
    answer = yield Exchange(
        method="/fluoroscope.v1.InferenceService/Predict",
        request=request.SerializeToString(),
        timeout=timeout,
        repeatable=True,
    )
    response = read_answer(inference_pb2.PredictResponse, answer)
    arrived = response.outputs  # a map, which has no order
    return {name: _array(name, arrived[name]) for name in sorted(arrived, key=_order(names))}


def _order(names: Sequence[str]) -> Callable[[str], Any]:
    places = {name: place for place, name in enumerate(names)}
    return lambda name: (places.get(name, len(places)), name)


def _array(name: str, tensor: tensor_pb2.Tensor) -> np.ndarray:
    try:
        return decode_tensor(tensor).copy()
    except WireError as error:
        raise unreadable(f"output {name!r}: {error}") from None
