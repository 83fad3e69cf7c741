"""The operation that looks inside a network while it runs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fluoroscope.calls.activation import Activation
from fluoroscope.calls.errors import CorruptStreamError, IncompleteStreamError, InvalidRequestError
from fluoroscope.calls.exchange import Exchange, StreamCall
from fluoroscope.calls.execution import execution_to_wire
from fluoroscope.calls.inputs import as_arrays, fill_inputs
from fluoroscope.calls.inspection import Inspection
from fluoroscope.calls.kind import kinds_to_wire
from fluoroscope.calls.progress import Progress, stages_of
from fluoroscope.calls.reduction import Full, Slice, Statistics
from fluoroscope.v1 import inspection_pb2
from fluoroscope.wire import CorruptError, IncompleteError, StreamJoiner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from fluoroscope.calls.exchange import Steps
    from fluoroscope.calls.execution import Execution
    from fluoroscope.calls.inputs import Inputs
    from fluoroscope.calls.reduction import Reduction


def inspect_activations(
    model: str,
    inputs: Inputs,
    *,
    sites: str | Sequence[str],
    kinds: str | Iterable[str] = (),
    reduce: Reduction | Sequence[Reduction] = Full(),  # noqa: B008  # a value that never changes
    slices: Slice | Sequence[Slice] = (),
    outputs: Sequence[str] = (),
    max_bytes: int | None = None,
    execution: Execution = "auto",
    version: int | None = None,
    timeout: float | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Steps[StreamCall[Activation, Inspection]]:
    """Runs a network on one batch of inputs, and brings the values at the chosen sites.

    All values are held until the last has come and every checksum is confirmed. For more than fits
    into memory, `stream` gives them one after the other, or ask for `reduce=Statistics()`.

    Args:
        model: The name of the model.
        inputs: An array for each input of the model, as for `predict`.
        sites: Paths or globs of sites: `"Dense_0"`, `["layers_*/mlp", "head"]`, `"**"` for all.
        kinds: Keep only sites of these kinds: "MODULE", "NAMED", "EQUATION", in any case, or `SiteKind`.
        reduce: What to do to each value on the device: `Full()`, `Statistics()`, or several of them.
        slices: Cut each value on the device before anything else is done to it; each axis at most once.
        outputs: Outputs of the network to bring as well. Empty means none: then nothing behind the last
            wanted site is computed.
        max_bytes: Refuse if the values together have more bytes. None means the server's own limit.
        execution: `"fused"` runs one program; `"staged"` a chain of them, so that the first values come while the
            last are computed; `"auto"` lets the server decide by how much is to be sent.
        version: The checkpoint step to look into. None means the one that serves now.
        timeout: How many seconds the whole may take. None means what the client was made with.
        progress: Called after each message with what has come so far, header and trailer included.

    Returns:
        The activations by site, in execution order.

    Raises:
        NotFoundError: No such model, version or site; for a site the message lists the nearest names.
        InvalidRequestError: The inputs do not fit the model, a glob matches nothing, or a slice lies
            outside the value.
        NotCapturableError: A site exists but cannot be captured; the message says why.
        LimitExceededError: The values would have more bytes than allowed, or the server is too busy.
        IncompleteStreamError: The stream ended early; the message says what came.
        CorruptStreamError: What came is not what the server sent.
    """
    arrays = yield from as_arrays(inputs, model=model, version=version, timeout=timeout)
    request = inspection_pb2.InspectActivationsRequest(
        model=model,
        captures=[capture_message(sites, kinds, reduce, slices)],
        outputs=outputs,
        max_bytes=max_bytes or 0,
        execution=execution_to_wire(execution),
    )
    if version is not None:
        request.version = version
    fill_inputs(request.inputs, arrays)
    exchange = Exchange(
        method="/fluoroscope.v1.InspectionService/InspectActivations",
        request=request.SerializeToString(),
        timeout=timeout,
    )
    return StreamCall(exchange=exchange, reader=ActivationReader(progress))


class ActivationReader:
    """Makes activations of the messages of one stream."""

    __slots__ = ("_joiner", "_listener", "_said", "_whole")

    def __init__(self, progress: Callable[[Progress], None] | None = None) -> None:
        self._joiner = StreamJoiner()
        self._listener = progress
        self._said: Progress | None = None
        self._whole = 0

    def feed(self, message: bytes) -> Activation | None:
        """Takes the next message; returns the activation that it completes, if it completes one.

        Raises:
            CorruptStreamError: The message is not one that may come here.
        """
        try:
            result = self._joiner.feed(message)
        except CorruptError as error:
            raise CorruptStreamError(f"{error}. Ask again; no value of this stream can be trusted.") from None
        self._whole += result is not None
        self._report()
        return None if result is None else Activation.from_wire(result)

    def finish(self) -> None:
        """Takes note that the stream has ended.

        Raises:
            IncompleteStreamError: It should not have.
        """
        try:
            self._joiner.finish()
        except IncompleteError as error:
            raise IncompleteStreamError(f"{error}. Ask again.") from None

    def progress(self) -> str | None:
        """Returns what has come so far and what has not; None if nothing has."""
        return None if self._joiner.header is None else self._joiner.progress()

    def collect(self, items: Sequence[Activation]) -> Inspection:
        """Returns all activations of the finished stream."""
        header = self._joiner.header or inspection_pb2.StreamHeader()
        return Inspection(items, header=header, trailer=self._joiner.finish())

    def _report(self) -> None:
        joiner = self._joiner
        if self._listener is None or joiner.header is None:
            return
        begun = Progress.begun(joiner.header) if self._said is None else self._said
        stages = begun.stages if joiner.trailer is None else stages_of(joiner.trailer)
        self._said = replace(begun, results=self._whole, byte_count=joiner.byte_count, stages=stages)
        self._listener(self._said)


def capture_message(
    sites: str | Sequence[str],
    kinds: str | Iterable[str],
    reduce: Reduction | Sequence[Reduction],
    slices: Slice | Sequence[Slice],
) -> inspection_pb2.Capture:
    """Returns one capture as the contract says it; raises InvalidRequestError if it names no site."""
    globs = [sites] if isinstance(sites, str) else list(sites)
    if not globs:
        raise InvalidRequestError('no sites are given; "**" means all of them', field="sites")
    reductions = [reduce] if isinstance(reduce, Full | Statistics) else reduce
    cuts = [slices] if isinstance(slices, Slice) else slices
    return inspection_pb2.Capture(
        sites=globs,
        kinds=kinds_to_wire(kinds),
        slices=[cut.message() for cut in cuts],
        reductions=[reduction.message() for reduction in reductions],
    )
