"""The operation that tells what an inspection would bring and cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fluoroscope.calls.answer import read_answer
from fluoroscope.calls.argument import building, whole
from fluoroscope.calls.edit import planned_edit_messages
from fluoroscope.calls.exchange import Exchange
from fluoroscope.calls.inputs import as_arrays
from fluoroscope.calls.kind import kind_from_wire
from fluoroscope.calls.progress import Program
from fluoroscope.calls.question import inspection_message
from fluoroscope.calls.reduction import Full
from fluoroscope.v1 import inspection_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import DTypeLike

    from fluoroscope.calls.edit import Edit
    from fluoroscope.calls.exchange import Steps
    from fluoroscope.calls.execution import Execution
    from fluoroscope.calls.gradient import Gradient
    from fluoroscope.calls.inputs import Inputs
    from fluoroscope.calls.kind import SiteKind
    from fluoroscope.calls.question import Sites
    from fluoroscope.calls.reduction import Reduction
    from fluoroscope.calls.slice import Slice


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedResult:
    """One result that an inspection would bring."""

    site: str
    """The path of the site; the name of the output."""

    kind: SiteKind | None
    """The kind of the site. None for an output of the network."""

    reduction: str
    """What would be done to the value: `full`, `statistics`."""

    part: str
    """Which part of that it would be, if it has several."""

    shape: tuple[int, ...]
    """The size of each axis of the tensor, or of the value that is only described."""

    byte_size: int
    """How many bytes would be sent; 0 for numbers that describe the value."""

    edits: tuple[int, ...] = ()
    """Which of the edits would change the value at this very site, counting from 0."""

    @classmethod
    def from_wire(cls, message: inspection_pb2.ResultHeader) -> PlannedResult:
        """Returns the result of a message."""
        output = message.WhichOneof("source") == "output"
        return cls(
            site=message.output if output else message.site,
            kind=None if output else kind_from_wire(message.kind),
            reduction=message.reduction.WhichOneof("reduction") or "",
            part=message.part,
            shape=tuple(message.shape),
            byte_size=message.byte_size,
            edits=tuple(message.edits),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What an inspection would bring and cost. Nothing has run."""

    model: str
    """The model that would answer."""

    version: int
    """The version that would answer."""

    results: tuple[PlannedResult, ...]
    """All results, in execution order."""

    program: Program
    """The program that would compute them: its stages, its floating point operations."""

    held: bool
    """Whether the program is held, so that nobody waits for the compiler."""

    bytes: int
    """How many bytes the tensors would have together."""

    peak_bytes: int | None
    """The most memory that a stage takes on the device beside what is there before it; None if it is not compiled."""

    refusal: str
    """Why a limit forbids the inspection. Empty means that it is allowed."""

    @property
    def allowed(self) -> bool:
        """Returns whether no limit forbids the inspection."""
        return not self.refusal

    @property
    def flops_fraction(self) -> float:
        """Returns which part of the network's floating point operations it does."""
        return self.program.flops_fraction

    @property
    def stages(self) -> int:
        """Returns how many stages bring results; 1 if it is fused."""
        return self.program.stages

    @classmethod
    def from_wire(cls, message: inspection_pb2.PlanInspectionResponse) -> Plan:
        """Returns the plan of a message."""
        return cls(
            model=message.model,
            version=message.version,
            results=tuple(map(PlannedResult.from_wire, message.results)),
            program=Program.from_wire(message.program),
            held=message.held,
            bytes=message.byte_size,
            peak_bytes=message.peak_bytes if message.HasField("peak_bytes") else None,
            refusal=message.refusal,
        )


def plan(
    model: str,
    inputs: Inputs | int,
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
    compile: bool = False,  # noqa: A002  # the contract's own word
    version: int | None = None,
    label: str | None = None,
    timeout: float | None = None,
) -> Steps[Plan]:
    """Tells what `inspect` would bring and cost with the same arguments. The server runs nothing for it.

    Args:
        model: The name of the model.
        inputs: The inputs as for `inspect`, of which only the number of rows counts; or that number.
        sites: Paths or globs of sites, or a mapping from them to what to do to each, in place of `reduce`.
        kinds: Keep only sites of these kinds.
        reduce: What to do to each value on the device.
        dtype: Cast tensors to this type on the device.
        slices: Cut each value before anything else is done to it.
        outputs: Outputs of the network to bring as well.
        max_bytes: Refuse if the values together have more bytes. None means the server's own limit.
        execution: How to run it, as for `inspect`.
        edits: What to write while the network runs, as for `inspect`; inputs to patch from are not sent.
        gradient: Gradients in place of values, as for `inspect`.
        compile: Compile the program if it is not held: then the plan knows the memory that it takes, and `inspect` need
            not wait.
        version: The checkpoint step to look into. None means the one that serves now.
        label: The label of the version, in place of its number.
        timeout: How many seconds the call may take. None means what the client was made with.

    Raises:
        NotFoundError: No such model, version, label or site; for a site the message lists the nearest names.
        InvalidRequestError: A glob matches nothing, or a slice lies outside the value.
        NotCapturableError: A site exists but cannot be captured; the message says why.
        LimitExceededError: There are more rows than the largest bucket has, more globs or edits than a request may
            have, or the server is too busy. Of a limit on bytes or results, the plan's `refusal` tells.
    """
    if isinstance(inputs, int | np.integer):
        rows = whole(inputs, "rows", least=0)  # the server says best why 0 are too few
    else:
        arrays = yield from as_arrays(inputs, model=model, version=version, label=label, timeout=timeout)
        rows = next((len(array) for array in arrays.values() if array.ndim), 0)
    inspection = inspection_message(
        model,
        sites=sites,
        kinds=kinds,
        reduce=reduce,
        dtype=dtype,
        slices=slices,
        outputs=outputs,
        max_bytes=max_bytes,
        execution=execution,
        edits=planned_edit_messages(edits),
        gradient=gradient,
        version=version,
        label=label,
    )
    with building():
        request = inspection_pb2.PlanInspectionRequest(inspection=inspection, rows=rows, compile=compile)
    answer = yield Exchange(
        method="/fluoroscope.v1.InspectionService/PlanInspection",
        request=request.SerializeToString(),
        timeout=timeout,
        patience=600.0 if compile else 60.0,
        repeatable=True,
    )
    return Plan.from_wire(read_answer(inspection_pb2.PlanInspectionResponse, answer))
