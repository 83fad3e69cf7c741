"""Interventions: what is written at sites while the network runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from fluoroscope.calls.argument import building, kept, several
from fluoroscope.calls.errors import InvalidRequestError
from fluoroscope.calls.inputs import as_arrays, fill_inputs
from fluoroscope.calls.kind import kinds_to_wire
from fluoroscope.calls.slice import slice_messages
from fluoroscope.v1 import inspection_pb2
from fluoroscope.wire import WireError, fill_tensor

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import ArrayLike

    from fluoroscope.calls.exchange import Steps
    from fluoroscope.calls.inputs import Inputs
    from fluoroscope.calls.slice import Slice
    from fluoroscope.v1.tensor_pb2 import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Edit(ABC):
    """An intervention: writes at sites while the network runs, which goes on with what was written.

    Sites that are the same value under several names are edited together. What is captured at an edited site is the
    edited value. Values, rows, units and where slices start never make the server compile another program.
    """

    sites: str | Sequence[str]
    """Paths or globs of sites. What a glob matches and cannot be edited so is left as it is."""

    kinds: str | Iterable[str] = field(default=(), kw_only=True)
    """Keep only sites of these kinds."""

    rows: int | Sequence[int] = field(default=(), kw_only=True)
    """Edit these examples of the batch only; negative ones count from the last. Empty means all."""

    slices: Slice | Sequence[Slice] = field(default=(), kw_only=True)
    """Edit this part of each axis only."""

    units: int | Sequence[int] = field(default=(), kw_only=True)
    """Edit these indices of the last axis only; negative ones count from the last. Empty means all."""

    def __post_init__(self) -> None:
        """Keeps what can be gone through only once: an edit may go with several calls."""
        for each in fields(self):
            object.__setattr__(self, each.name, kept(getattr(self, each.name)))

    @abstractmethod
    def fill(self, message: inspection_pb2.Edit) -> None:
        """Says in a message what to write."""

    def message(self) -> inspection_pb2.Edit:
        """Returns the edit as the contract says it, without inputs that it may have."""
        with building(self, field="edits"):
            message = inspection_pb2.Edit(
                sites=several(self.sites),
                kinds=kinds_to_wire(self.kinds),
                rows=several(self.rows),
                slices=slice_messages(self.slices),
                units=several(self.units),
            )
            self.fill(message)
        return message


@dataclass(frozen=True, slots=True, eq=False)
class Zero(Edit):
    """Writes zeros: `Zero("Dense_1", units=[3, 7])`."""

    def fill(self, message: inspection_pb2.Edit) -> None:
        """Says in a message what to write."""
        message.zero.SetInParent()


@dataclass(frozen=True, slots=True, eq=False)
class Set(Edit):
    """Writes given values: `Set("relu:0", 1.0, units=3)`."""

    value: ArrayLike
    """The values: of the shape of what is edited, or of one that broadcasts to it; floats are rounded to its type."""

    def fill(self, message: inspection_pb2.Edit) -> None:
        """Says in a message what to write."""
        _fill(message.set.value, self.value)


@dataclass(frozen=True, slots=True, eq=False)
class Add(Edit):
    """Adds given values, a steering vector for one: `Add("layers[3]", direction, slices=Slice(1, -1))`."""

    value: ArrayLike
    """What to add, as in `Set`."""

    def fill(self, message: inspection_pb2.Edit) -> None:
        """Says in a message what to write."""
        _fill(message.add.value, self.value)


@dataclass(frozen=True, slots=True, eq=False)
class Scale(Edit):
    """Multiplies by given factors: `Scale("Dense_0", 0.5)`."""

    factor: ArrayLike
    """A number, or factors as in `Set`."""

    def fill(self, message: inspection_pb2.Edit) -> None:
        """Says in a message what to write."""
        _fill(message.scale.factor, self.factor)


@dataclass(frozen=True, slots=True, eq=False)
class MeanAblate(Edit):
    """Writes the mean over all examples of the batch, whichever of them are edited. Only of floats."""

    def fill(self, message: inspection_pb2.Edit) -> None:
        """Says in a message what to write."""
        message.mean_ablate.SetInParent()


@dataclass(frozen=True, slots=True, eq=False)
class PatchFromRow(Edit):
    """Writes what the value is for another example of the batch: `PatchFromRow("Dense_0", 0, rows=[1, 2])`."""

    source: int | Sequence[int]
    """Which example to take it from, or one for each that is edited. Negative ones count from the last."""

    def fill(self, message: inspection_pb2.Edit) -> None:
        """Says in a message what to write."""
        message.patch_from_row.rows.extend(several(self.source))


@dataclass(frozen=True, slots=True, eq=False)
class PatchFromInputs(Edit):
    """Writes what the value is for other inputs: `PatchFromInputs("layers[3]", {"tokens": clean})`.

    The network runs on them, unedited, as far as the site, in the same program.
    """

    inputs: Inputs
    """As many examples as the batch has, each for its own, or one for all."""

    def fill(self, message: inspection_pb2.Edit) -> None:
        """Says in a message what to write, but for the inputs."""
        message.patch_from_inputs.SetInParent()


def edit_messages(
    edits: Edit | Sequence[Edit], *, model: str, version: int | None, label: str | None, timeout: float | None
) -> Steps[list[inspection_pb2.Edit]]:
    """Returns edits as the contract says them, with their inputs; raises InvalidRequestError if it cannot say one."""
    asked = _edits(edits)
    messages = planned_edit_messages(asked)
    for edit, message in zip(asked, messages, strict=True):
        if isinstance(edit, PatchFromInputs):
            arrays = yield from as_arrays(edit.inputs, model=model, version=version, label=label, timeout=timeout)
            fill_inputs(message.patch_from_inputs.inputs, arrays)
    return messages


def planned_edit_messages(edits: Edit | Sequence[Edit]) -> list[inspection_pb2.Edit]:
    """Returns edits as the contract says them, without inputs; raises InvalidRequestError if it cannot say one."""
    return [edit.message() for edit in _edits(edits)]


def _edits(edits: Edit | Sequence[Edit]) -> tuple[Edit, ...]:
    asked = several(edits)
    for each in asked:
        if not isinstance(each, Edit):
            raise InvalidRequestError(f'edits hold {each!r}; expected edits such as Zero("Dense_0")', field="edits")
    return asked


def _fill(tensor: Tensor, value: Any) -> None:
    try:
        fill_tensor(tensor, np.asarray(value))
    except WireError as error:
        raise InvalidRequestError(f"what to write cannot be sent: {error}", field="edits") from None
