"""Quantiles of a data set, exact, from histograms of its batches.

An element is put into a bin by float32 arithmetic, which rounds. But between two powers of two of one sign nothing
does, where the bins are a power of two as well: then edges, differences and quotients are all float32 numbers. So the
first pass finds the ends, the next counts octave by octave, in bins of 4,096 neighbouring numbers each, and the last
counts each number of the bins that the quantiles are in.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from fluoroscope.calls.errors import InvalidRequestError
from fluoroscope.calls.quantiles import SiteQuantiles
from fluoroscope.calls.reduction import Histogram, Reduction, Statistics

if TYPE_CHECKING:
    from fluoroscope.calls.histogram import SiteHistogram
    from fluoroscope.calls.reduction import Quantiles

Search: TypeAlias = Generator[Sequence[Reduction[Any]], Mapping[Reduction[Any], Any], Any]

MOST_PROBABILITIES = 40
"""How many quantiles can be found at once: each may take two histograms of the hundred reductions of a request."""

_OCTAVES = 12
_COARSE = 1 << 11
_FINE = 1 << 12
_LEAST_EXPONENT = -114  # below it, bins would be narrower than the server allows
_GREATEST = 2.0**127
_FINITE = Histogram(bins=1, low=-float(np.finfo(np.float32).max), high=0)
_NEGATIVE = Histogram(bins=1, low=0, high=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Numbers from one to another, in bins of the same width whose edges float32 holds."""

    low: float
    """The least of them."""

    high: float
    """The least number that is greater than all of them."""

    bins: int
    """How many bins: a power of two."""

    @property
    def question(self) -> Histogram:
        """Returns what counts its numbers; those that are `high` are counted in its last bin, too."""
        return Histogram(bins=self.bins, low=self.low, high=self.high)

    def edge(self, place: int) -> float:
        """Returns where a bin begins."""
        return self.low + place * ((self.high - self.low) / self.bins)

    def bin(self, place: int) -> Span:
        """Returns a bin, with one bin of its own for each number."""
        return Span(low=self.edge(place), high=self.edge(place + 1), bins=_FINE)


def quantiles(asked: Quantiles) -> Search:
    """Returns the passes that find quantiles: three of them, and one more for each dozen octaves nearer to zero.

    Raises:
        InvalidRequestError: There are too many, elements are too great, or a quantile is too near to zero.
    """
    if len(asked.probabilities) > MOST_PROBABILITIES:
        raise InvalidRequestError(
            f"there are {len(asked.probabilities)} probabilities; of a data set, ask for at most {MOST_PROBABILITIES}",
            field="reduce",
        )
    return _quantiles(asked)


def _quantiles(asked: Quantiles) -> Search:
    sums = yield (Statistics(), _FINITE, _NEGATIVE)
    statistics = sums[Statistics()]
    count = statistics.finite_count
    if count == 0:
        return SiteQuantiles(
            probabilities=asked.probabilities, values=(math.nan,) * len(asked.probabilities), finite_count=0
        )
    if statistics.abs_max >= _GREATEST:
        raise InvalidRequestError(
            f"elements as great as {statistics.abs_max:.4g} have no exact quantiles over a data set; "
            f"they are found below {_GREATEST:.4g}. Ask for a histogram",
            field="reduce",
        )
    infinite = sums[_FINITE].below_count
    places = [_place(probability, count) for probability in asked.probabilities]
    ranks = {rank + infinite for rank, weight in places} | {rank + infinite + 1 for rank, weight in places if weight}
    negative = sums[_NEGATIVE].below_count
    signs = {rank: -1 for rank in ranks if rank < negative}
    signs |= {rank: 1 for rank in ranks if rank >= negative + statistics.zero_count}
    found = dict.fromkeys(ranks, 0.0)
    found |= yield from _elements(signs, {-1: -statistics.min, 1: statistics.max})
    values = (
        found[rank + infinite] * (1 - weight) + (found[rank + infinite + 1] * weight if weight else 0.0)
        for rank, weight in places
    )
    return SiteQuantiles(probabilities=asked.probabilities, values=tuple(values), finite_count=count)


def _place(probability: float, count: int) -> tuple[int, float]:
    """Returns the rank of the element at or before a quantile, and the weight of the one behind it."""
    place = Fraction(probability) * (count - 1)
    rank = math.floor(place)
    return rank, float(place - rank)


def _elements(signs: Mapping[int, int], greatest: Mapping[int, float]) -> Search:
    """Finds the elements of some ranks, which are not zero.

    Args:
        signs: The sign of each element, by its rank among all elements but NaN.
        greatest: The greatest magnitude of each sign.
    """
    left = dict(signs)
    found: dict[int, Span] = {}
    tops = {sign: math.frexp(greatest[sign])[1] - 1 for sign in signs.values()}
    while spans := {sign: octaves for sign in left.values() if (octaves := _octaves(sign, tops[sign]))}:
        sums = yield [octave.question for octaves in spans.values() for octave in octaves]
        for rank, sign in tuple(left.items()):
            inside = [octave for octave in spans.get(sign, ()) if _begins(octave, sums) <= rank]
            if inside and (sign > 0 or inside[-1] is not spans[sign][-1]):
                found[rank] = inside[-1].bin(_place_in(inside[-1], sums, rank))
                del left[rank]
        tops = {sign: top - _OCTAVES for sign, top in tops.items()}
    if left:
        raise InvalidRequestError(
            f"a quantile is as near to zero as {2.0**_LEAST_EXPONENT:.2g}, but not zero: such have no exact quantiles "
            "over a data set. Ask for a histogram",
            field="reduce",
        )
    if not found:
        return {}
    sums = yield [span.question for span in dict.fromkeys(found.values())]
    return {rank: span.edge(_place_in(span, sums, rank)) for rank, span in found.items()}


def _octaves(sign: int, top: int) -> list[Span]:
    """Returns the octaves of a sign from an exponent towards zero, the least first: a dozen, or as many as there are.

    Of the negative ones the last, nearest to zero, only tells where the one before it ends.
    """
    least = _LEAST_EXPONENT if sign > 0 else _LEAST_EXPONENT - 1
    exponents = range(max(top - _OCTAVES, least), top + 1)
    if sign > 0:
        return [Span(low=2.0**each, high=2.0 ** (each + 1), bins=_COARSE) for each in exponents]
    return [Span(low=-(2.0 ** (each + 1)), high=-(2.0**each), bins=_COARSE) for each in reversed(exponents)]


def _begins(span: Span, sums: Mapping[Reduction[Any], Any]) -> int:
    """Returns the rank of the least element that is not less than all of a span."""
    counted: SiteHistogram = sums[span.question]
    return counted.below_count


def _place_in(span: Span, sums: Mapping[Reduction[Any], Any], rank: int) -> int:
    """Returns which bin of a span the element of a rank is in, which is in the span."""
    counted: SiteHistogram = sums[span.question]
    return int(np.searchsorted(counted.below_count + np.cumsum(counted.counts), rank, side="right"))
