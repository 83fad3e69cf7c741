"""The operation that looks inside a network while it runs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fluoroscope.calls.activation import Activation
from fluoroscope.calls.edit import edit_messages
from fluoroscope.calls.errors import CorruptStreamError, IncompleteStreamError
from fluoroscope.calls.exchange import Exchange, StreamCall
from fluoroscope.calls.inputs import as_arrays, fill_inputs
from fluoroscope.calls.inspection import Inspection
from fluoroscope.calls.parts import last_parts
from fluoroscope.calls.progress import Progress, stages_of
from fluoroscope.calls.question import inspection_message
from fluoroscope.calls.reduction import Full
from fluoroscope.v1 import inspection_pb2
from fluoroscope.wire import CorruptError, IncompleteError, StreamJoiner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import DTypeLike

    from fluoroscope.calls.edit import Edit
    from fluoroscope.calls.exchange import Steps
    from fluoroscope.calls.execution import Execution
    from fluoroscope.calls.gradient import Gradient
    from fluoroscope.calls.inputs import Inputs
    from fluoroscope.calls.question import Sites
    from fluoroscope.calls.reduction import Reduction
    from fluoroscope.calls.slice import Slice
    from fluoroscope.wire import Arrived, StreamResult


def inspect_activations(
    model: str,
    inputs: Inputs,
    *,
    sites: Sites,
    kinds: str | Iterable[str] = (),
    reduce: Reduction[Any] | Sequence[Reduction[Any]] = Full(),  # noqa: B008  # a value that never changes
    dtype: DTypeLike | None = None,
    slices: Slice | Sequence[Slice] = (),
    outputs: str | Sequence[str] = (),
    max_bytes: int | None = None,
    execution: Execution = "auto",
    edits: Edit | Sequence[Edit] = (),
    gradient: Gradient | None = None,
    version: int | None = None,
    label: str | None = None,
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
            Or a mapping from them to what to do to each, in place of `reduce`: `{"relu:*": DeadUnits()}`.
        kinds: Keep only sites of these kinds: "MODULE", "NAMED", "EQUATION", in any case, or `SiteKind`.
        reduce: What to do to each value on the device: `Full()`, `Statistics()`, `Histogram()`, `Quantiles(0.5)`,
            `Norm()`, `Mean()`, `TopK(10)`, `DeadUnits()`, `Covariance()`, `Correlation()`, or several of them.
        dtype: Send tensors in this type, cast on the device: "float16", "bfloat16", an 8-bit float such as
            "float8_e4m3fn", "float32", or "int8": then `array * scale` is about the value, and what other reductions
            give is float32 again. Counts and indices stay as they are. None means as in the network.
        slices: Cut each value on the device before anything else is done to it; each axis at most once.
        outputs: Outputs of the network to bring as well. Empty means none: then nothing behind the last
            wanted site is computed.
        max_bytes: Refuse if the values together have more bytes. None means the server's own limit.
        execution: `"fused"` runs one program; `"staged"` a chain of them, so that the first values come while the
            last are computed; `"auto"` lets the server decide by how much is to be sent.
        edits: What to write while the network runs: `Zero("Dense_1", units=[3, 7])`, `Set`, `Add`, `Scale`,
            `MeanAblate`, `PatchFromRow`, `PatchFromInputs`. Edits of one value are applied in this order; values and
            outputs are those of the edited network.
        gradient: Bring gradients of this with respect to the values, in place of the values:
            `Gradient("logits", index=4)`. `sites` may be empty if it is with respect to inputs or parameters.
        version: The checkpoint step to look into. None means the one that serves now.
        label: The label of the version, in place of its number.
        timeout: How many seconds the whole may take. None means what the client was made with.
        progress: Called after each message with what has come so far, header and trailer included.

    Returns:
        The activations by site, in execution order.

    Raises:
        NotFoundError: No such model, version, label or site; for a site the message lists the nearest names.
        InvalidRequestError: The inputs do not fit the model, a glob matches nothing, a slice lies
            outside the value, or a value cannot be reduced, cast or edited so.
        NotCapturableError: A site exists but cannot be captured, or has no gradient; the message says why.
        LimitExceededError: The values would have more bytes than allowed, or the server is too busy.
        IncompleteStreamError: The stream ended early; the message says what came.
        CorruptStreamError: What came is not what the server sent.
    """
    arrays = yield from as_arrays(inputs, model=model, version=version, label=label, timeout=timeout)
    changes = yield from edit_messages(edits, model=model, version=version, label=label, timeout=timeout)
    request = inspection_message(
        model,
        sites=sites,
        kinds=kinds,
        reduce=reduce,
        dtype=dtype,
        slices=slices,
        outputs=outputs,
        max_bytes=max_bytes,
        execution=execution,
        edits=changes,
        gradient=gradient,
        version=version,
        label=label,
    )
    fill_inputs(request.inputs, arrays)
    exchange = Exchange(
        method="/fluoroscope.v1.InspectionService/InspectActivations",
        request=request.SerializeToString(),
        timeout=timeout,
        patience=600.0,
        repeatable=True,
    )
    return StreamCall(exchange=exchange, reader=ActivationReader(progress))


class ActivationReader:
    """Makes activations of the messages of one stream."""

    __slots__ = ("_joiner", "_last", "_listener", "_parts", "_said", "_whole")

    def __init__(self, progress: Callable[[Progress], None] | None = None) -> None:
        self._joiner = StreamJoiner()
        self._listener = progress
        self._said: Progress | None = None
        self._whole = 0
        self._parts: list[StreamResult] = []
        self._last: tuple[bool, ...] | None = None

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
        return None if result is None else self._taken(result)

    def _taken(self, result: StreamResult) -> Activation | None:
        """Takes the next result; returns the activation that it completes, if it is the last part of one."""
        if self._last is None and self._joiner.header is not None:
            self._last = tuple(last_parts(self._joiner.header.results))
        self._parts.append(result)
        if self._last is None or not self._last[result.index]:
            return None
        parts, self._parts = self._parts, []
        return Activation.from_wire(parts)

    def finish(self) -> None:
        """Takes note that the stream has ended.

        Raises:
            IncompleteStreamError: It should not have.
        """
        try:
            self._joiner.finish()
        except IncompleteError as error:
            raise IncompleteStreamError(f"{error}. Ask again.", arrived=self._joiner.progress()) from None

    def progress(self) -> Arrived | None:
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
