"""The list of a network's sites, made of its flat jaxprs for several batch sizes."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fluoroscope_server.engine import jaxprs
from fluoroscope_server.engine.flops import Flops
from fluoroscope_server.engine.mixing import dependents
from fluoroscope_server.engine.naming import INDEX
from fluoroscope_server.engine.site import ALL, Site
from fluoroscope_server.signature import BATCH

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import jax.extend.core as jex

    from fluoroscope_server.engine.flat import FlatNetwork
    from fluoroscope_server.engine.loop import Loop
    from fluoroscope_server.engine.naming import NamedValue

MOST_IN_LOOP = 20_000
"""How many sites one loop may be listed with. If its iterations have more together, they are listed stacked only, and
a slice of the first axis takes some of them."""


def list_sites(flat: Mapping[int, FlatNetwork], input_count: int) -> list[Site]:
    """Returns the sites of a network, in execution order.

    A site's batch axis is the one that grows with the batch. Python code may branch on the batch size, so an
    equation's name can mean different values in different buckets; such sites are not capturable. If only a batch of
    one is different (`jnp.matmul` leaves axes of that size away), the site is, in larger buckets.

    Args:
        flat: the network for each batch size, two at least.
        input_count: how many of its last inputs are those of a request.
    """
    listing = _Listing.of(flat, input_count)
    values = flat[listing.rows].values
    found = itertools.chain.from_iterable(
        listing.plain(group) if loop is None else listing.looped(loop, list(group))
        for loop, group in itertools.groupby(values, key=lambda value: value.loop)
    )
    return [replace(site, order=order) for order, site in enumerate(found)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listing:
    rows: int
    others: Mapping[int, Mapping[str, NamedValue]]
    counts: Mapping[int, Counter[tuple[str, str]]]
    variable: set[jex.Var]
    flops: Flops

    @classmethod
    def of(cls, flat: Mapping[int, FlatNetwork], input_count: int) -> _Listing:
        largest = max(flat)
        return cls(
            rows=largest,
            others={
                size: {value.path: value for value in each.values} for size, each in flat.items() if size != largest
            },
            counts={size: Counter(value.group for value in each.values) for size, each in flat.items()},
            variable=dependents(flat[largest], flat[largest].jaxpr.inputs[-input_count:]),
            flops=Flops(flat[largest]),
        )

    def plain(self, values: Iterator[NamedValue]) -> Iterator[Site]:
        """Yields the sites outside of loops."""
        for value in values:
            site = self._site(value)
            if site is not None:
                yield replace(site, flops_fraction=self.flops.fraction(value.atom))

    def looped(self, loop: Loop, values: Sequence[NamedValue]) -> Iterator[Site]:
        """Yields the sites of a loop, iteration after iteration as they run, and then stacked."""
        sites = [(value, site) for value in values if (site := self._site(value)) is not None]
        iterations = range(loop.length) if loop.length * len(sites) <= MOST_IN_LOOP else ()
        for position in iterations:
            index = loop.index_at(position)
            for value, site in sites:
                if not value.reason:
                    yield replace(
                        site,
                        path=value.path.replace(INDEX, f"[{index}]"),
                        iteration=index,
                        flops_fraction=self.flops.fraction_in_loop(loop, value.atom, position),
                    )
        for value, site in sites:
            yield replace(
                site,
                path=value.path.replace(INDEX, "[*]"),
                shape=(loop.length, *site.shape),
                iteration=ALL,
                flops_fraction=self.flops.fraction_in_loop(loop, value.atom, loop.length - 1),
            )

    def _site(self, value: NamedValue) -> Site | None:
        """Returns the site of a value, as if it were in no loop; None if it is not made of numbers."""
        spec = jaxprs.shape_and_dtype(value.atom)
        if spec is None:
            return None
        shape, dtype = spec
        found = {size: self._shape_at(size, value) for size in self.others}
        shapes = {self.rows: shape, **{size: known for size, known in found.items() if known is not None}}
        differing = [size for size, known in found.items() if known is None or len(known) != len(shape)]
        alone = differing == [1] and len(found) > 1
        missing = [size for size, known in found.items() if known is None and not alone]
        reason = value.reason
        if missing and not reason:
            reason = f"the network computes other values for a batch of {missing[0]} than for one of {self.rows}"
        if alone:
            shapes.pop(1, None)
        if not reason:
            shape, reason = _mark_batch(shapes)
        if not reason and BATCH not in shape and not jaxprs.is_literal(value.atom) and value.atom in self.variable:
            reason = "it is computed of the whole batch, so rows that only fill a bucket would count"
        return Site(
            path=value.path,
            kind=value.kind,
            dtype=dtype,
            shape=shape,
            order=0,
            reason=reason,
            value=value.path,
            least_rows=2 if alone else 1,
        )

    def _shape_at(self, size: int, value: NamedValue) -> tuple[int, ...] | None:
        """Returns the shape of the same value at another batch size; None if there is no such value."""
        twin = self.others[size].get(value.path)
        if twin is None or self.counts[size][value.group] != self.counts[self.rows][value.group]:
            return None
        mine, found = jaxprs.shape_and_dtype(value.atom), jaxprs.shape_and_dtype(twin.atom)
        lengths = [0 if each.loop is None else each.loop.length for each in (value, twin)]
        if mine is None or found is None or mine[1] != found[1] or lengths[0] != lengths[1]:
            return None
        return found[0]


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
