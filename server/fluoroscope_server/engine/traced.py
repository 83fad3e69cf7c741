"""A traced network: its flat jaxpr for each bucket, and the sites that all of them have."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import jax

from fluoroscope_server.engine import jaxprs
from fluoroscope_server.engine.flat import flatten
from fluoroscope_server.engine.site import Site
from fluoroscope_server.engine.site_table import SiteTable
from fluoroscope_server.errors import ConfigError
from fluoroscope_server.families import abstract_inputs
from fluoroscope_server.signature import BATCH

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

    import jax.extend.core as jex

    from fluoroscope_server.engine.flat import FlatJaxpr, NamedValue
    from fluoroscope_server.families import Network

_tracing = threading.Lock()
"""Held while a network is traced: its code is the operator's, and need not be safe under threads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedNetwork:
    """A network as data: what it computes for each batch size, and the names of all values."""

    closed: Mapping[int, jex.ClosedJaxpr]
    """The flat jaxpr for each bucket. Its inputs are the leaves of the variables, then the inputs."""

    atoms: Mapping[int, Mapping[str, jaxprs.Atom]]
    """For each bucket, the value at each site."""

    sites: SiteTable
    """The sites, in execution order."""

    mixes_rows: bool
    """Whether an output depends on a value that is computed of the whole batch: then no batch can be padded."""


def trace(network: Network, buckets: Sequence[int]) -> TracedNetwork:
    """Traces a network at each batch size. Runs nothing on the device.

    A site's batch axis is the one that grows with the batch. Python code may branch on the batch size, so an
    equation's name can mean different values in different buckets; such sites are not capturable.

    Raises:
        ConfigError: the network cannot be traced.
    """
    sizes = sorted({*buckets, buckets[-1] + 1} if len(buckets) == 1 else buckets)
    with _tracing:
        flat = {size: _trace_one(network, size) for size in sizes}
    return TracedNetwork(
        closed={size: flat[size].closed for size in buckets},
        atoms={size: {value.path: value.atom for value in flat[size].values} for size in buckets},
        sites=SiteTable(_sites(flat, len(network.signature.inputs))),
        mixes_rows=_mixes_rows(flat, len(network.signature.inputs)),
    )


def _trace_one(network: Network, rows: int) -> FlatJaxpr:
    inputs = abstract_inputs(network.signature.inputs, rows)
    try:
        closed = jax.make_jaxpr(network.function)(network.variables, inputs)
    except Exception as error:  # the network is the operator's code: whatever it raises, they are told
        raise ConfigError(f"the network cannot be traced with a batch of {rows}: {error}") from error
    return flatten(closed, root=network.root)


def _sites(flat: Mapping[int, FlatJaxpr], input_count: int) -> list[Site]:
    largest = max(flat)
    closed = flat[largest].closed
    variable = jaxprs.dependents(closed, closed.jaxpr.invars[-input_count:])
    others = {size: {value.path: value for value in jaxpr.values} for size, jaxpr in flat.items() if size != largest}
    counts = {size: Counter(value.group for value in jaxpr.values) for size, jaxpr in flat.items()}
    return [
        _unmixed(site, value.atom, variable)
        for order, value in enumerate(flat[largest].values)
        if (site := _site(value, order, largest, others, counts)) is not None
    ]


def _site(
    value: NamedValue,
    order: int,
    rows: int,
    others: Mapping[int, Mapping[str, NamedValue]],
    counts: Mapping[int, Counter[tuple[str, str]]],
) -> Site | None:
    spec = jaxprs.shape_and_dtype(value.atom)
    if spec is None:
        return None
    shape, dtype = spec
    shapes = {rows: shape}
    reason = ""
    for size, values in others.items():
        twin = values.get(value.path)
        found = None if twin is None else jaxprs.shape_and_dtype(twin.atom)
        if found is None or found[1] != dtype or counts[size][value.group] != counts[rows][value.group]:
            reason = f"the network computes other values for a batch of {size} than for one of {rows}"
            break
        shapes[size] = found[0]
    if not reason:
        shape, reason = _mark_batch(shapes)
    return Site(path=value.path, kind=value.kind, dtype=dtype, shape=shape, order=order, reason=reason)


def _mixes_rows(flat: Mapping[int, FlatJaxpr], input_count: int) -> bool:
    """Returns whether an output needs a value that depends on the inputs and is one for the whole batch."""
    (_, small), *_, (_, large) = sorted(flat.items())
    dependent = jaxprs.dependents(large.closed, large.closed.jaxpr.invars[-input_count:])
    needed = [
        variable
        for closed in (small.closed, large.closed)
        for equation in jaxprs.pruned(closed, closed.jaxpr.outvars).jaxpr.eqns
        for variable in equation.outvars
    ]
    half = len(needed) // 2
    if 2 * half != len(needed):
        return False  # other equations for another batch size: nothing to compare
    pairs = zip(needed[:half], needed[half:], strict=True)
    return any(after in dependent and _growing(before, after) != 1 for before, after in pairs)


def _growing(before: jaxprs.Atom, after: jaxprs.Atom) -> int:
    """Returns how many axes of a value grow with the batch; 1 for a value that is none of numbers."""
    small, large = jaxprs.shape_and_dtype(before), jaxprs.shape_and_dtype(after)
    if small is None or large is None or len(small[0]) != len(large[0]):
        return 1
    return sum(one != other for one, other in zip(small[0], large[0], strict=True))


def _unmixed(site: Site, atom: jaxprs.Atom, variable: Container[jaxprs.Atom]) -> Site:
    """Returns a site, not capturable if its value is one for the whole batch: padding would be part of it."""
    if site.reason or site.batch_axis is not None or jaxprs.is_literal(atom) or atom not in variable:
        return site
    return replace(site, reason="it is computed of the whole batch, so rows that only fill a bucket would count")


def _mark_batch(shapes: Mapping[int, tuple[int, ...]]) -> tuple[tuple[int, ...], str]:
    """Returns a shape with its batch axis marked, and why that cannot be done, if so."""
    largest = max(shapes)
    shape = shapes[largest]
    if any(len(each) != len(shape) for each in shapes.values()):
        return shape, "its number of axes depends on the batch size"
    grows = [axis for axis in range(len(shape)) if len({each[axis] for each in shapes.values()}) > 1]
    if not grows:
        return shape, ""
    if len(grows) > 1 or any(each[grows[0]] != size for size, each in shapes.items()):
        mixed = " and ".join(str(axis) for axis in grows)
        return (
            shape,
            f"axis {mixed} mixes the batch with something else (its size is {shape[grows[0]]} for {largest} rows)",
        )
    return tuple(BATCH if axis == grows[0] else size for axis, size in enumerate(shape)), ""
