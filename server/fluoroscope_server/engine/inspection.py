"""An inspection: a plan, the arguments to run it with, and the results that it will bring."""

from __future__ import annotations

import enum
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from fluoroscope_server.engine.plan import CapturedValue, Cut, Plan
from fluoroscope_server.engine.reductions import ValueSpec
from fluoroscope_server.engine.result_spec import output_results, results_of
from fluoroscope_server.errors import InvalidRequestError, LimitExceededError, NotCapturableError, counted, quoted
from fluoroscope_server.signature import BATCH

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from fluoroscope_server.engine.capture import Capture, Slice
    from fluoroscope_server.engine.reductions import Reduction
    from fluoroscope_server.engine.result_spec import ResultSpec
    from fluoroscope_server.engine.site import Site
    from fluoroscope_server.engine.site_table import SiteTable
    from fluoroscope_server.signature import Signature

STAGED_BYTES = 16 << 20
"""An inspection that sends as much runs in stages, unless it asks for something else."""


class Execution(enum.Enum):
    """How a plan is run."""

    AUTO = "auto"
    """Fused, unless so much is to be sent that staged is better."""

    FUSED = "fused"
    """As one program."""

    STAGED = "staged"
    """As a chain of programs: the first values are sent while the last are computed."""


MOST_CAPTURES = 1_000
"""How many captures one request may have."""

MOST_OUTPUTS = 10_000
"""How many outputs one request may name, each as often as it comes."""

MOST_RESULTS = 20_000
"""The most that `max-results` can be: each result is announced in the header, and is code of the program."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """A question to a network, resolved."""

    plan: Plan
    """What shapes the program."""

    starts: tuple[tuple[int, ...], ...]
    """For each captured value of the plan, where each of its cuts starts."""

    numbers: tuple[tuple[float, ...], ...]
    """For each captured value of the plan, the numbers of its reduction."""

    rows: int
    """How many examples the inputs hold."""

    outputs: tuple[str, ...]
    """The outputs of the network that are wanted too, in the order of the signature. They are no part of the plan: the
    program that serves `Predict` computes them, so that they have its bits whatever is captured. With edits there are
    none here: they are captured in the edited network."""

    results: tuple[ResultSpec, ...]
    """The results: the parts of the captured values, in the order of the plan, then the outputs."""

    arguments: tuple[np.ndarray, ...] = field(default=(), compare=False, repr=False)
    """What the program takes for the edits of the plan, and for its gradient."""

    @property
    def byte_size(self) -> int:
        """Returns how many bytes all results have together when sent in chunks."""
        return sum(result.byte_size for result in self.results)


def resolve(
    captures: Sequence[Capture],
    outputs: Sequence[str],
    *,
    rows: int,
    bucket_for: Callable[[int], int],
    sites: SiteTable,
    signature: Signature,
    execution: Execution = Execution.AUTO,
    least_rows: int = 1,
    refuse: Callable[[Site], str] | None = None,
) -> Inspection:
    """Resolves the globs, slices and names of a question against a network.

    What is asked twice is answered once. Results come in the order in which the network computes them.

    Args:
        captures: what to capture.
        outputs: the outputs that are wanted too.
        rows: how many examples the inputs hold.
        bucket_for: from a number of rows to the smallest bucket that holds them.
        sites: the sites of the network.
        signature: its inputs and outputs.
        execution: how to run it.
        least_rows: the least batch size at which all that is edited is computed.
        refuse: says why a site cannot be asked for so; empty if it can. With it, there may be no captures.

    Raises:
        NotFoundError: a name is no site.
        NotCapturableError: a site's value cannot be captured.
        InvalidRequestError: nothing is asked, a glob matches nothing, a slice lies outside, a value cannot be reduced
            so, or an output is unknown.
        LimitExceededError: there are more globs or results than can be resolved in a moment.
    """
    if not captures and refuse is None:
        raise InvalidRequestError("captures is empty; to run the network alone, call Predict", field="captures")
    found = _find(captures, sites, rows=rows, refuse=refuse)
    least_rows = max(rows, least_rows, *(each.site.least_rows for each in found))
    bucket = bucket_for(least_rows)
    if bucket < least_rows:
        raise NotCapturableError(
            f"a batch of {rows} is computed in another way than larger ones, which the sites asked for are of: "
            f"send {counted(least_rows, 'row')} or more",
            field="captures",
        )
    size = sum(spec.bytes_in(bucket) for each in found for spec in each.results)
    wanted = check_outputs(outputs, signature)
    results = itertools.chain.from_iterable(each.results for each in found)
    return Inspection(
        plan=Plan(
            bucket=bucket,
            captured=tuple(each.captured for each in found),
            staged=execution is Execution.STAGED or (execution is Execution.AUTO and size >= STAGED_BYTES),
        ),
        outputs=wanted,
        starts=tuple(each.starts for each in found),
        numbers=tuple(each.asked.numbers for each in found),
        rows=rows,
        results=(*results, *output_results(wanted, signature, rows)),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """A reduction, one object for all captures that ask for it: it may have thousands of numbers to compare."""

    reduction: Reduction
    numbers: tuple[float, ...]
    order: tuple[str, bytes]


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """What is asked for of one site."""

    site: Site
    captured: CapturedValue
    starts: tuple[int, ...]
    asked: _Asked
    results: tuple[ResultSpec, ...]

    def place(self) -> tuple[int, str, str, bytes]:
        """Returns what sorts it: by the order of the network, and then alike however it was asked for."""
        reduction, numbers = self.asked.order
        return self.site.order, reduction, repr((self.captured.cuts, self.starts)), numbers


def _find(
    captures: Sequence[Capture], sites: SiteTable, *, rows: int, refuse: Callable[[Site], str] | None
) -> list[_Found]:
    """Returns all that captures ask for, each once, in the order of their results."""
    sites.check([capture.sites for capture in captures], field="captures")
    known: dict[tuple[Reduction, bytes], _Asked] = {}
    done: set[Hashable] = set()
    found: dict[Hashable, _Found] = {}
    tried = 0
    for index, capture in enumerate(captures):
        reductions = _different(capture.reductions, known)
        if (key := (capture.sites, capture.kinds, capture.slices, tuple(reductions))) in done:
            continue
        done.add(key)
        field = f"captures[{index}]"
        chosen = sites.select(capture.sites, capture.kinds, field=field, refuse=refuse)
        tried += len(chosen) * len(reductions)
        check_results(tried, field="captures")
        for site in chosen:
            cuts, starts, shape = _cut(site, capture.slices, rows, field)
            value = ValueSpec(site=site.path, dtype=site.dtype, shape=shape)
            for asked, place in reductions.items():
                if (one := (site.path, cuts, starts, asked)) in found:
                    continue
                asked.reduction.check(value, field=f"{field}.reductions[{place}]")
                captured = CapturedValue(site=site.path, cuts=cuts, reduction=asked.reduction)
                results = results_of(site, value, asked.reduction, rows)
                found[one] = _Found(site, captured, starts, asked, results)
    return sorted(found.values(), key=_Found.place)


def _different(reductions: Sequence[Reduction], known: dict[tuple[Reduction, bytes], _Asked]) -> dict[_Asked, int]:
    """Returns the reductions of a capture, each once, and its first place; those that are new become `known`."""
    places: dict[_Asked, int] = {}
    for place, reduction in enumerate(reductions):
        numbers = reduction.numbers
        key = (reduction, np.array(numbers).tobytes())
        if key not in known:
            known[key] = _Asked(reduction, numbers, order=(repr(reduction), key[1]))
        places.setdefault(known[key], place)
    return places


def check_captures(count: int) -> None:
    """Raises LimitExceededError if these are too many captures. Ask before any of them is looked at."""
    if count > MOST_CAPTURES:
        raise LimitExceededError(
            f"the request has {count:,} captures, and the limit is {MOST_CAPTURES:,}: one capture may name many sites",
            field="captures",
            reason="TOO_MANY_CAPTURES",
        )


def check_results(count: int, *, field: str) -> None:
    """Raises LimitExceededError, which blames `field`, if these are more results than any server lets one request have.

    Ask before they are found, or meanwhile: then what is too much takes neither long nor memory.
    """
    if count > MOST_RESULTS:
        raise LimitExceededError(
            f"this inspection would have more than {MOST_RESULTS:,} results, the most that the limit (max-results) can "
            "be, where what several captures ask for counts for each: choose fewer sites or reductions, or ask in "
            "parts",
            field=field,
            reason="TOO_MANY_RESULTS",
        )


def check_outputs(names: Sequence[str], signature: Signature) -> tuple[str, ...]:
    """Returns the named outputs in the order of the signature, each once; raises InvalidRequestError."""
    if len(names) > MOST_OUTPUTS:
        raise InvalidRequestError(
            f"{len(names):,} outputs are named; expected at most {MOST_OUTPUTS:,}: name each once", field="outputs"
        )
    for index, name in enumerate(names):
        if name not in signature.output_names:
            raise InvalidRequestError(
                f"there is no output {quoted(name)}; the outputs are {', '.join(signature.output_names)}",
                field=f"outputs[{index}]",
                reason="OUTPUT_NOT_FOUND",
            )
    named = set(names)
    return tuple(name for name in signature.output_names if name in named)


def _cut(
    site: Site, slices: Sequence[Slice], rows: int, field: str
) -> tuple[tuple[Cut, ...], tuple[int, ...], tuple[int, ...]]:
    """Returns the cuts by axis, where each starts, and the shape that is left, its batch axis marked if still whole."""
    shape = list(site.shape)
    cuts: dict[int, tuple[Cut, int]] = {}
    for index, each in enumerate(slices):
        place = f"{field}.slices[{index}]"
        axis = each.axis_of(len(shape), site=site.path, field=place)
        if axis in cuts:
            raise InvalidRequestError(f"axis {axis} of site {site.path!r} is sliced twice", field=place)
        size = rows if shape[axis] == BATCH else shape[axis]
        taken = each.range_of(size, axis=axis, site=site.path, field=place)
        shape[axis] = len(taken)
        step = taken.step if len(taken) > 1 else 1  # one index is the same program, whatever the step
        cuts[axis] = (Cut(axis=axis, extent=taken[-1] - taken[0] + 1, step=step), taken.start)
    ordered = [cuts[axis] for axis in sorted(cuts)]
    return tuple(cut for cut, _ in ordered), tuple(start for _, start in ordered), tuple(shape)
