"""The operation that reads the parameters of a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fluoroscope.calls.argument import building, whole
from fluoroscope.calls.capture import ActivationReader
from fluoroscope.calls.exchange import Exchange, StreamCall
from fluoroscope.calls.question import capture_messages
from fluoroscope.calls.reduction import Full
from fluoroscope.calls.selector import fill_version
from fluoroscope.v1 import inspection_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import DTypeLike

    from fluoroscope.calls.activation import Activation
    from fluoroscope.calls.exchange import Steps
    from fluoroscope.calls.inspection import Inspection
    from fluoroscope.calls.progress import Progress
    from fluoroscope.calls.question import Sites
    from fluoroscope.calls.reduction import Reduction
    from fluoroscope.calls.slice import Slice


def inspect_parameters(
    model: str,
    sites: Sites = "**",
    *,
    reduce: Reduction[Any] | Sequence[Reduction[Any]] = Full(),  # noqa: B008  # a value that never changes
    dtype: DTypeLike | None = None,
    slices: Slice | Sequence[Slice] = (),
    max_bytes: int | None = None,
    version: int | None = None,
    label: str | None = None,
    timeout: float | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Steps[StreamCall[Activation, Inspection]]:
    """Brings the parameters of a network, as they are or reduced. The network does not run.

    All values are held until the last has come and every checksum is confirmed. For more than fits
    into memory, `stream_parameters` gives them one after the other, or ask for `reduce=Statistics()`.

    Args:
        model: The name of the model.
        sites: Paths or globs of parameters: `"params/Dense_0/kernel"`, `["params/**", "batch_stats/**"]`, `"**"` for
            all. Or a mapping from them to what to do to each, in place of `reduce`.
            `sites(model, kinds="PARAMETER")` lists them.
        reduce: What to do to each value on the device, as for `inspect`.
        dtype: Send tensors in this type, cast on the device, as for `inspect`.
        slices: Cut each value on the device before anything else is done to it; each axis at most once.
        max_bytes: Refuse if the values together have more bytes. None means the server's own limit.
        version: The checkpoint step to look into. None means the one that serves now.
        label: The label of the version, in place of its number.
        timeout: How many seconds the whole may take. None means what the client was made with.
        progress: Called after each message with what has come so far, header and trailer included.

    Returns:
        What came back by path, in the order of the tree of variables.

    Raises:
        NotFoundError: No such model, version, label or parameter; for a parameter the message lists the nearest names.
        InvalidRequestError: A glob matches nothing, a slice lies outside the value, or a value cannot be reduced or
            cast so.
        LimitExceededError: The values would have more bytes than allowed, or the server is too busy.
        IncompleteStreamError: The stream ended early; the message says what came.
        CorruptStreamError: What came is not what the server sent.
    """
    yield from ()
    with building():
        request = inspection_pb2.InspectParametersRequest(
            model=model,
            captures=capture_messages(sites, (), reduce, dtype, slices),
            max_bytes=0 if max_bytes is None else whole(max_bytes, "max_bytes"),
        )
    fill_version(request, version, label)
    exchange = Exchange(
        method="/fluoroscope.v1.InspectionService/InspectParameters",
        request=request.SerializeToString(),
        timeout=timeout,
        patience=600.0,
        repeatable=True,
    )
    return StreamCall(exchange=exchange, reader=ActivationReader(progress))
