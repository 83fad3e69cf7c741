"""The list of a network's sites, made of its flat jaxprs for several batch sizes."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from fluoroscope_server.engine import jaxprs
from fluoroscope_server.engine.dependents import dependents
from fluoroscope_server.engine.flops import Flops
from fluoroscope_server.engine.naming import index_mark
from fluoroscope_server.engine.site import ALL, Site, unsendable
from fluoroscope_server.signature import BATCH

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import jax.extend.core as jex

    from fluoroscope_server.engine.flat import FlatNetwork
    from fluoroscope_server.engine.loop import Loop
    from fluoroscope_server.engine.naming import NamedValue

MOST_IN_LOOP = 20_000
"""How many sites one loop may be listed with, those of the loops in it included. If its iterations have more together,
they are listed stacked only, and a slice of the axis takes some of them; of loops within loops, the inner first."""


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
    return [replace(site, order=order) for order, site in enumerate(listing.sites(values))]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listing:
    rows: int
    others: Mapping[int, Mapping[str, NamedValue]]
    counts: Mapping[int, Counter[tuple[str, str]]]
    variable: set[jex.Var]
    flops: Flops
    known: dict[NamedValue, Site | None] = field(default_factory=dict)

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

    def sites(
        self, values: Iterable[NamedValue], around: tuple[tuple[Loop, int], ...] = (), most: int = MOST_IN_LOOP
    ) -> Iterator[Site]:
        """Yields the sites of values, those in loops iteration after iteration as they run, and then stacked.

        Args:
            values: the values, all in the body of the last loop of `around`.
            around: the loops that they are in, and which iteration of each by how many run before; `ALL` for all.
            most: how many sites each loop among them may have.
        """
        depth = len(around)
        for loop, group in itertools.groupby(values, key=lambda value: (*value.loops, None)[depth]):
            inside = list(group)
            if loop is None:
                yield from filter(None, (self._placed(value, around) for value in inside))
                continue
            single = loop.length * len(inside) <= most
            left = most // max(loop.length, 1) if single else most
            for position in range(loop.length) if single else ():
                yield from self.sites([each for each in inside if not each.reason], (*around, (loop, position)), left)
            yield from self.sites(inside, (*around, (loop, ALL)), left)

    def _placed(self, value: NamedValue, around: Sequence[tuple[Loop, int]]) -> Site | None:
        """Returns the site of a value in these iterations of the loops that it is in."""
        site = self._site(value)
        if site is None:
            return None
        path = site.path
        indices = [position if position == ALL else loop.index_at(position) for loop, position in around]
        for depth, index in enumerate(indices):
            path = path.replace(index_mark(depth), "[*]" if index == ALL else f"[{index}]")
        stacked = (loop.length for loop, position in around if position == ALL)
        return replace(
            site,
            path=path,
            shape=(*stacked, *site.shape),
            iterations=tuple(indices),
            flops_fraction=self.flops.fraction(value.atom, around),
        )

    def _site(self, value: NamedValue) -> Site | None:
        """Returns the site of a value, as if it were in no loop; None if it is not made of numbers."""
        if value not in self.known:
            self.known[value] = self._site_of(value)
        return self.known[value]

    def _site_of(self, value: NamedValue) -> Site | None:
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
            reason=reason or unsendable(dtype),
            value=value.path,
            least_rows=2 if alone else 1,
        )

    def _shape_at(self, size: int, value: NamedValue) -> tuple[int, ...] | None:
        """Returns the shape of the same value at another batch size; None if there is no such value."""
        twin = self.others[size].get(value.path)
        if twin is None or self.counts[size][value.group] != self.counts[self.rows][value.group]:
            return None
        mine, found = jaxprs.shape_and_dtype(value.atom), jaxprs.shape_and_dtype(twin.atom)
        lengths = [[loop.length for loop in each.loops] for each in (value, twin)]
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
