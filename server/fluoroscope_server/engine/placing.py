"""Placing edits: from targets to the edits of a plan, and the arguments that its program takes for them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from fluoroscope_server.engine import jaxprs
from fluoroscope_server.engine.edit import Add, MeanAblate, PatchFromInputs, PatchFromRow, Scale, Set, Zero
from fluoroscope_server.engine.operand import padded
from fluoroscope_server.engine.plan import CapturedValue, Operation, Origin, PlannedEdit
from fluoroscope_server.engine.reductions import Full
from fluoroscope_server.engine.site import ALL
from fluoroscope_server.engine.target import normal
from fluoroscope_server.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import jax.extend.core as jex

    from fluoroscope_server.engine.inspection import Inspection
    from fluoroscope_server.engine.naming import NamedValue
    from fluoroscope_server.engine.site import Site
    from fluoroscope_server.engine.target import Target
    from fluoroscope_server.engine.traced import TracedNetwork

_OPERATIONS: dict[type, Operation] = {
    Zero: Operation.ZERO,
    Set: Operation.SET,
    Add: Operation.ADD,
    Scale: Operation.SCALE,
    MeanAblate: Operation.MEAN,
    PatchFromRow: Operation.ROWS,
    PatchFromInputs: Operation.SOURCE,
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlacedEdits:
    """The edits of a request, as a plan and its program take them."""

    planned: tuple[PlannedEdit, ...]
    """What shapes the program."""

    arguments: tuple[np.ndarray, ...]
    """What it takes for them, in the order in which the edited network does."""

    _numbers: Mapping[jex.Var, Sequence[tuple[int, frozenset[int | None]]]]
    _values: Mapping[str, NamedValue]

    def numbers_at(self, site: Site) -> tuple[int, ...]:
        """Returns which edits of the request change the value at a site."""
        atom = self._values[site.value].atom
        if jaxprs.is_literal(atom):
            return ()
        every = {None, ALL} if site.iteration != ALL else None
        return tuple(
            number
            for number, iterations in self._numbers.get(atom, ())
            if every is None or iterations & {*every, site.iteration}
        )

    def put_into(self, inspection: Inspection) -> Inspection:
        """Returns an inspection of the edited network; its outputs are captured there, too."""
        outputs = [
            CapturedValue(site=name, cuts=(), reduction=Full(), origin=Origin.OUTPUT) for name in inspection.outputs
        ]
        plan = inspection.plan
        return replace(
            inspection,
            plan=replace(plan, captured=(*plan.captured, *outputs), edits=self.planned),
            starts=(*inspection.starts, *(() for _ in outputs)),
            numbers=(*inspection.numbers, *(() for _ in outputs)),
            outputs=(),
            results=tuple(
                spec if spec.site is None else replace(spec, edits=self.numbers_at(spec.site))
                for spec in inspection.results
            ),
            arguments=self.arguments,
        )


def place(targets: Sequence[Target], traced: TracedNetwork, *, rows: int, bucket: int) -> PlacedEdits:
    """Places edits in a network.

    Sites that are one value are edited together, once by each edit.

    Args:
        targets: what to edit.
        traced: the network.
        rows: how many rows are real.
        bucket: how many there are with those that only fill the bucket.

    Raises:
        InvalidRequestError: a site is a constant of the network, or an edit names a loop's values in two ways.
    """
    values = traced.values[bucket]
    first: dict[jaxprs.Atom, tuple[int, str]] = {}
    for order, (path, value) in enumerate(values.items()):
        if not jaxprs.is_literal(value.atom):
            first.setdefault(value.atom, (order, path))
    groups = _groups(targets, values)
    ordered = sorted(groups.items(), key=lambda entry: first[entry[0][1]][0])  # edits of one value stay in their order
    sources: dict[int, int] = {}
    planned, arguments = [], []
    numbers: dict[jex.Var, list[tuple[int, frozenset[int | None]]]] = {}
    for (number, atom), group in ordered:
        path = first[atom][1]
        edit, given = _Placing(group=group, value=values[path], rows=rows, bucket=bucket).placed()
        if edit.operation is Operation.SOURCE:
            edit = replace(edit, source=sources.setdefault(number, len(sources)))
        planned.append(edit)
        arguments += given
        numbers.setdefault(atom, []).append((number, frozenset(target.site.iteration for target in group)))
    inputs = {
        target.number: target.edit.change.inputs
        for target in targets
        if isinstance(target.edit.change, PatchFromInputs)
    }
    for number in sources:
        arguments += [
            padded(inputs[number][name], 0, bucket) for name in traced.signature.input_names if inputs[number]
        ]
    return PlacedEdits(planned=tuple(planned), arguments=tuple(arguments), _numbers=numbers, _values=values)


def _groups(targets: Sequence[Target], values: Mapping[str, NamedValue]) -> dict[tuple[int, jaxprs.Atom], list[Target]]:
    """Returns the targets by the number of their edit and by the value that they are."""
    groups: dict[tuple[int, jaxprs.Atom], list[Target]] = {}
    constants: dict[int, Target] = {}
    for target in targets:
        atom = values[target.site.value].atom
        if not jaxprs.is_literal(atom):
            groups.setdefault((target.number, atom), []).append(target)
        elif target.number not in constants or target.site.path in target.edit.sites:
            constants[target.number] = target
    edited = {number for number, _ in groups}
    for number, target in constants.items():
        if target.site.path in target.edit.sites or number not in edited:
            raise InvalidRequestError(
                f"site {target.site.path!r} is a constant of the network, which nothing computes: it cannot be edited",
                field=f"edits[{number}].sites",
            )
    return groups


@dataclass(frozen=True, slots=True, kw_only=True)
class _Placing:
    """The targets of one edit that are one value, alike but for the iteration of a loop."""

    group: Sequence[Target]
    value: NamedValue
    rows: int
    bucket: int

    def placed(self) -> tuple[PlannedEdit, list[np.ndarray]]:
        """Returns the edit, and its arguments."""
        target, indices = self.group[0], self._indices()
        operation = _OPERATIONS[type(target.edit.change)]
        given, varying = self._given(indices)
        needs_batch = operation in {Operation.MEAN, Operation.ROWS, Operation.SOURCE}
        edit = PlannedEdit(
            value=self.value.path,
            operation=operation,
            masked=tuple(sorted(indices)),
            varying=varying,
            batch_axis=self._batch_axis if needs_batch else None,
        )
        return edit, [*given, *(_mask(indices[axis], self._shape[axis]) for axis in edit.masked)]

    @property
    def _shape(self) -> tuple[int, ...]:
        """The shape of the value; of a loop's, with the iterations before it."""
        shape: tuple[int, ...] = self.value.atom.aval.shape
        return shape if self.value.loop is None else (self.value.loop.length, *shape)

    @property
    def _shift(self) -> int:
        """How many axes the value has before those of the site."""
        return int(self.value.loop is not None and self.group[0].site.iteration != ALL)

    @property
    def _batch_axis(self) -> int | None:
        axis = self.group[0].site.batch_axis
        return None if axis is None else axis + self._shift

    def _indices(self) -> dict[int, np.ndarray]:
        """Returns the chosen indices, by axis of the value."""
        target = self.group[0]
        indices = {axis + self._shift: each for axis, each in enumerate(target.indices) if each is not None}
        iterations = [each.site.iteration for each in self.group]
        if ALL in iterations and len(iterations) > 1:
            raise InvalidRequestError(
                f"the edit names {target.site.path!r} and {self.group[1].site.path!r}, which are the same value: "
                "name one of them",
                field=f"edits[{target.number}].sites",
            )
        if self._shift:
            indices[0] = np.array(iterations)
        return indices

    def _given(self, indices: Mapping[int, np.ndarray]) -> tuple[list[np.ndarray], tuple[int, ...]]:
        """Returns what the operation is given, and the axes of the value along which that differs, if it is like it."""
        target = self.group[0]
        match target.edit.change:
            case Zero():
                return [], ()
            case MeanAblate():
                return [np.arange(self.bucket) < self.rows], ()
            case PatchFromRow(sources=sources):
                found = np.arange(self.bucket, dtype=np.int32)
                chosen = indices.get(self._batch_axis or 0, np.arange(self.rows))
                found[chosen] = normal(sources, self.rows, what=f"the batch has {self.rows} rows", field="edits")
                return [found], ()
            case PatchFromInputs(inputs=inputs):
                alone = any(len(each) == 1 for each in inputs.values())
                return [np.arange(self.bucket, dtype=np.int32) * (not alone)], ()
        varying = tuple(axis + self._shift for axis in target.varying)
        operand = np.zeros(()) if target.operand is None else target.operand
        if self._batch_axis in varying:
            operand = padded(operand, self._batch_axis - self._shift, self.bucket)
        if self.value.loop is not None and not self._shift and 0 not in varying:
            operand = operand[0]
        return [operand], varying


def _mask(indices: Iterable[int], size: int) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[list(indices)] = True
    return mask
