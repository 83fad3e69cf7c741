"""Placing edits: from targets to the edits of a plan, and the arguments that its program takes for them."""

from __future__ import annotations

import math
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
from fluoroscope_server.errors import InvalidRequestError, counted

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

    _numbers: Mapping[jex.Var, Sequence[tuple[int, Sequence[tuple[int, ...]]]]]
    _values: Mapping[str, NamedValue]

    def numbers_at(self, site: Site) -> tuple[int, ...]:
        """Returns which edits of the request change the value at a site."""
        atom = self._values[site.value].atom
        if jaxprs.is_literal(atom):
            return ()
        return tuple(
            dict.fromkeys(
                number
                for number, iterations in self._numbers.get(atom, ())
                if any(_overlap(each, site.iterations) for each in iterations)
            )
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
    numbers: dict[jex.Var, list[tuple[int, list[tuple[int, ...]]]]] = {}
    for number, atom, group in ((*key, each) for key, whole in ordered for each in _alike(whole)):
        path = first[atom][1]
        edit, given = _Placing(group=group, value=values[path], rows=rows, bucket=bucket).placed()
        if edit.operation is Operation.SOURCE and len(values[path].loops) > 1:
            raise InvalidRequestError(
                f"site {group[0].site.path!r} is in a loop within a loop, where nothing can be patched from other "
                "inputs: capture it with these, and set it",
                field=f"edits[{number}].sites",
            )
        if edit.operation is Operation.SOURCE:
            edit = replace(edit, source=sources.setdefault(number, len(sources)))
        planned.append(edit)
        arguments += given
        numbers.setdefault(atom, []).append((number, [target.site.iterations for target in group]))
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


def _overlap(some: tuple[int, ...], others: tuple[int, ...]) -> bool:
    """Returns whether two choices of iterations, of the same loops, have one in common."""
    return all(ALL in {one, other} or one == other for one, other in zip(some, others, strict=True))


def _alike(group: Sequence[Target]) -> list[list[Target]]:
    """Returns the targets of one edit that are one value, those together that masks can choose.

    Raises:
        InvalidRequestError: some are of all iterations of a loop, and others of single ones.
    """
    iterations = [target.site.iterations for target in group]
    kinds = {tuple(each == ALL for each in own) for own in iterations}
    if len(kinds) > 1 or (len(group) > 1 and all(next(iter(kinds)))):
        one, other = group[0].site.path, group[1].site.path
        if len(kinds) > 1:
            raise InvalidRequestError(
                f"the edit names {one!r} and {other!r}, which are the same value: name one of them",
                field=f"edits[{group[0].number}].sites",
            )
        return [list(group[:1])]  # two names of the same value
    different = {target.site.iterations: target for target in group}
    if math.prod(len(set(each)) for each in zip(*different, strict=True)) == len(different):
        return [list(different.values())]
    return [[target] for target in different.values()]


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
        """The shape of the value, with the iterations of its loops before it."""
        return (*(loop.length for loop in self.value.loops), *self.value.atom.aval.shape)

    @property
    def _stacked(self) -> list[int]:
        """The loops whose iterations are the first axes of the site."""
        return [loop for loop, each in enumerate(self.group[0].site.iterations) if each == ALL]

    def _axis(self, axis: int) -> int:
        """Returns which axis of the value one of the site is."""
        stacked = self._stacked
        return stacked[axis] if axis < len(stacked) else axis - len(stacked) + len(self.value.loops)

    @property
    def _batch_axis(self) -> int | None:
        axis = self.group[0].site.batch_axis
        return None if axis is None else self._axis(axis)

    def _indices(self) -> dict[int, np.ndarray]:
        """Returns the chosen indices, by axis of the value."""
        indices = {self._axis(axis): each for axis, each in enumerate(self.group[0].indices) if each is not None}
        for loop in range(len(self.value.loops)):
            if loop not in self._stacked:
                indices[loop] = np.array([target.site.iterations[loop] for target in self.group])
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
                found[chosen] = normal(
                    sources, self.rows, what=f"the batch has {counted(self.rows, 'row')}", field="edits"
                )
                return [found], ()
            case PatchFromInputs(inputs=inputs):
                alone = any(len(each) == 1 for each in inputs.values())
                return [np.arange(self.bucket, dtype=np.int32) * (not alone)], ()
        operand = np.zeros(()) if target.operand is None else target.operand
        if target.site.batch_axis in target.varying:
            operand = padded(operand, target.site.batch_axis, self.bucket)
        alike = [axis for axis in range(len(self._stacked)) if axis not in target.varying]
        return [operand.squeeze(tuple(alike))], tuple(map(self._axis, target.varying))


def _mask(indices: Iterable[int], size: int) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[list(indices)] = True
    return mask
