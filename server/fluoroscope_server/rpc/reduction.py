"""Reductions and what they give, as messages: both directions of each in one row of one table."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fluoroscope.v1 import inspection_pb2 as inspection
from fluoroscope.wire import MOST_AXES, WireError, dtype_from_wire
from fluoroscope_server.engine import (
    Cast,
    Correlation,
    Covariance,
    DeadUnits,
    Full,
    Histogram,
    Mean,
    Norm,
    Quantiles,
    SiteHistogram,
    SiteQuantiles,
    SiteStatistics,
    Statistics,
    TopK,
)
from fluoroscope_server.engine.reductions import MOST_BINS, MOST_QUANTILES, TYPES
from fluoroscope_server.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from google.protobuf.message import Message

    from fluoroscope.v1.tensor_pb2 import DataType
    from fluoroscope_server.engine import Reduction, Summary

NormMessage = inspection.Reduction.Norm

ORDERS: dict[int, float] = {
    NormMessage.ORDER_ONE: 1.0,
    NormMessage.ORDER_TWO: 2.0,
    NormMessage.ORDER_INFINITY: math.inf,
}
"""The orders of a norm, by their number on the wire."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One reduction."""

    kind: type[Reduction]
    """Its class."""

    decode: Callable[[Any, str], Reduction]
    """`(message, field) -> reduction`; raises InvalidRequestError, which blames a field within `field`."""

    encode: Callable[[Any, Any], None] = lambda reduction, message: None  # noqa: ARG005  # most have no parameters
    """`(reduction, message)`: fills the message with what was asked."""


def decode_reduction(message: inspection.Reduction, *, field: str) -> Reduction:
    """Returns a reduction; raises InvalidRequestError if none is set, or its parameters cannot be right."""
    name = message.WhichOneof("reduction")
    if name is None:
        raise InvalidRequestError(f"no known reduction is set; the known are {', '.join(REDUCTIONS)}", field=field)
    return REDUCTIONS[name].decode(getattr(message, name), f"{field}.{name}")


def encode_reduction(reduction: Reduction, message: inspection.Reduction) -> None:
    """Fills a message with a reduction as it was asked for; a cast shows in the type of the results, not here."""
    inner = reduction.reduction if isinstance(reduction, Cast) else reduction
    name = _NAMES[type(inner)]
    getattr(message, name).SetInParent()
    REDUCTIONS[name].encode(inner, getattr(message, name))


def decode_cast(number: DataType.ValueType, *, field: str) -> np.dtype:
    """Returns the type to cast to; raises InvalidRequestError if it is none that values can be cast to."""
    known = ", ".join(str(each) for each in TYPES)
    try:
        dtype = dtype_from_wire(number)
    except WireError as error:
        raise InvalidRequestError(f"{error}; values can be cast to {known}", field=field) from error
    if dtype not in TYPES:
        raise InvalidRequestError(f"values cannot be cast to {dtype}, only to {known}", field=field)
    return dtype


def encode_summary(summary: Summary) -> tuple[str, Message]:
    """Returns a few numbers as a message, and the name of the field of `Summary` that it belongs to."""
    return SUMMARIES[type(summary)](summary)


def _histogram(message: inspection.Reduction.Histogram, field: str) -> Histogram:
    if not 1 <= message.bins <= MOST_BINS:
        raise InvalidRequestError(f"bins is {message.bins}; expected 1 to {MOST_BINS:,}", field=f"{field}.bins")
    low, high = (getattr(message, end) if message.HasField(end) else None for end in ("low", "high"))
    for end, value in (("low", low), ("high", high)):
        if value is not None and not math.isfinite(_float32(value)):
            raise InvalidRequestError(
                f"{end} is {value}; expected a finite float32, or nothing: then it is found", field=f"{field}.{end}"
            )
    if low is not None and high is not None and not _float32(high) - _float32(low) >= np.finfo(np.float32).tiny:
        raise InvalidRequestError(
            f"low is {low} and high is {high}: low must be less, by more than float32's rounding", field=f"{field}.low"
        )
    return Histogram(bins=message.bins, low=low, high=high)


def _fill_histogram(reduction: Histogram, message: inspection.Reduction.Histogram) -> None:
    message.bins = reduction.bins
    for end in ("low", "high"):
        if (value := getattr(reduction, end)) is not None:
            setattr(message, end, value)


def _quantiles(message: inspection.Reduction.Quantiles, field: str) -> Quantiles:
    count = len(message.probabilities)
    if not 1 <= count <= MOST_QUANTILES:
        raise InvalidRequestError(
            f"there are {count:,} probabilities; expected 1 to {MOST_QUANTILES:,}", field=f"{field}.probabilities"
        )
    for index, probability in enumerate(message.probabilities):
        if not 0 <= probability <= 1:
            raise InvalidRequestError(
                f"a probability is {probability}; expected 0 to 1", field=f"{field}.probabilities[{index}]"
            )
    return Quantiles(probabilities=tuple(message.probabilities))


def _axes(axes: Collection[int], field: str) -> tuple[int, ...]:
    if len(axes) > MOST_AXES:
        raise InvalidRequestError(
            f"there are {len(axes):,} axes; no value has more than {MOST_AXES}", field=f"{field}.axes"
        )
    return tuple(axes)


def _norm(message: NormMessage, field: str) -> Norm:
    order = message.order or NormMessage.ORDER_TWO
    if order not in ORDERS:
        known = ", ".join(NormMessage.Order.Name(each) for each in ORDERS)  # type: ignore[arg-type]  # its keys are such
        raise InvalidRequestError(f"{order} is no order of a norm; the orders are {known}", field=f"{field}.order")
    return Norm(axes=_axes(message.axes, field), order=ORDERS[order])


def _fill_norm(reduction: Norm, message: NormMessage) -> None:
    message.axes.extend(reduction.axes)
    message.order = next(number for number, order in ORDERS.items() if order == reduction.order)  # type: ignore[assignment]  # such a number


def _top_k(message: inspection.Reduction.TopK, field: str) -> TopK:
    if message.k < 1:
        raise InvalidRequestError("k is 0; expected 1 to the size of the last axis", field=f"{field}.k")
    return TopK(k=message.k)


def _fill_top_k(reduction: TopK, message: inspection.Reduction.TopK) -> None:
    message.k = reduction.k


def _float32(number: float) -> float:
    with np.errstate(over="ignore"):
        return float(np.float32(number))


REDUCTIONS: dict[str, Row] = {
    "full": Row(kind=Full, decode=lambda message, field: Full()),  # noqa: ARG005  # no parameters, here and below
    "statistics": Row(kind=Statistics, decode=lambda message, field: Statistics()),  # noqa: ARG005
    "histogram": Row(kind=Histogram, decode=_histogram, encode=_fill_histogram),
    "quantiles": Row(
        kind=Quantiles,
        decode=_quantiles,
        encode=lambda reduction, message: message.probabilities.extend(reduction.probabilities),
    ),
    "norm": Row(kind=Norm, decode=_norm, encode=_fill_norm),
    "mean": Row(
        kind=Mean,
        decode=lambda message, field: Mean(axes=_axes(message.axes, field)),
        encode=lambda reduction, message: message.axes.extend(reduction.axes),
    ),
    "top_k": Row(kind=TopK, decode=_top_k, encode=_fill_top_k),
    "dead_units": Row(kind=DeadUnits, decode=lambda message, field: DeadUnits()),  # noqa: ARG005
    "covariance": Row(kind=Covariance, decode=lambda message, field: Covariance()),  # noqa: ARG005
    "correlation": Row(kind=Correlation, decode=lambda message, field: Correlation()),  # noqa: ARG005
}
"""The reductions, by the name of the field of `Reduction` that asks for them."""

_NAMES = {row.kind: name for name, row in REDUCTIONS.items()}


def _statistics_message(statistics: SiteStatistics) -> tuple[str, inspection.Statistics]:
    return "statistics", inspection.Statistics(
        count=statistics.count,
        mean=statistics.mean,
        std=statistics.std,
        min=statistics.min,
        max=statistics.max,
        abs_max=statistics.abs_max,
        l2_norm=statistics.l2_norm,
        zero_count=statistics.zero_count,
        nan_count=statistics.nan_count,
        inf_count=statistics.inf_count,
    )


def _histogram_message(histogram: SiteHistogram) -> tuple[str, inspection.Histogram]:
    return "histogram", inspection.Histogram(
        low=histogram.low,
        high=histogram.high,
        counts=histogram.counts,
        below_count=histogram.below_count,
        above_count=histogram.above_count,
        nan_count=histogram.nan_count,
    )


def _quantiles_message(quantiles: SiteQuantiles) -> tuple[str, inspection.Quantiles]:
    return "quantiles", inspection.Quantiles(values=quantiles.values, finite_count=quantiles.finite_count)


SUMMARIES: dict[type, Callable[[Any], tuple[str, Message]]] = {
    SiteStatistics: _statistics_message,
    SiteHistogram: _histogram_message,
    SiteQuantiles: _quantiles_message,
}
"""What makes a message of each kind of summary, and names its field of `Summary`."""
