"""What is done on the device to a captured value before it is sent: what one asks for, and what one gets for it."""

from __future__ import annotations

import math
import operator
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from fluoroscope.calls.argument import building, several, whole
from fluoroscope.calls.covariance import SiteCorrelation, SiteCovariance
from fluoroscope.calls.errors import CorruptStreamError, InvalidRequestError
from fluoroscope.calls.histogram import SiteHistogram
from fluoroscope.calls.quantiles import SiteQuantiles
from fluoroscope.calls.statistics import SiteStatistics
from fluoroscope.calls.units import SiteDeadUnits, TopElements
from fluoroscope.v1 import inspection_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from fluoroscope.calls.parts import Parts

R_co = TypeVar("R_co", covariant=True)
_Message = inspection_pb2.Reduction
_ORDERS = {1.0: _Message.Norm.ORDER_ONE, 2.0: _Message.Norm.ORDER_TWO, math.inf: _Message.Norm.ORDER_INFINITY}


class Reduction(ABC, Generic[R_co]):
    """A computation on one captured value. `activation[reduction]` is what came back for it."""

    __slots__ = ()

    @abstractmethod
    def message(self) -> inspection_pb2.Reduction:
        """Returns the reduction as the contract says it; raises InvalidRequestError if it cannot say it."""

    @abstractmethod
    def read(self, parts: Parts) -> R_co:
        """Returns what came back for it; raises CorruptStreamError if it is not all there."""


@dataclass(frozen=True, slots=True)
class Full(Reduction[np.ndarray]):
    """The value as it is: comes back as `Activation.array`."""

    def message(self) -> inspection_pb2.Reduction:
        """Returns the reduction as the contract says it."""
        return _Message(full=_Message.Full())

    def read(self, parts: Parts) -> np.ndarray:
        """Returns the value as it was sent."""
        return parts.sent()[0]


@dataclass(frozen=True, slots=True)
class Statistics(Reduction[SiteStatistics]):
    """The numbers that describe the value: come back as `Activation.statistics`, in a few bytes."""

    def message(self) -> inspection_pb2.Reduction:
        """Returns the reduction as the contract says it."""
        return _Message(statistics=_Message.Describe())

    def read(self, parts: Parts) -> SiteStatistics:
        """Returns the statistics."""
        return SiteStatistics.from_wire(parts.numbers("statistics"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram(Reduction[SiteHistogram]):
    """How the elements of the value are spread: comes back as `Activation.histogram`."""

    bins: int = 50
    """How many bins of the same width, from 1 to 10,000."""

    low: float | None = None
    """The left edge of the first bin. None means the least finite element."""

    high: float | None = None
    """The right edge of the last bin, which belongs to it. None means the greatest finite element."""

    def message(self) -> inspection_pb2.Reduction:
        """Returns the reduction as the contract says it."""
        return _Message(
            histogram=_Message.Histogram(bins=whole(self.bins, "bins", bits=32), low=self.low, high=self.high)
        )

    def read(self, parts: Parts) -> SiteHistogram:
        """Returns the histogram."""
        return SiteHistogram.from_wire(parts.numbers("histogram"))


@dataclass(frozen=True, slots=True, init=False)
class Quantiles(Reduction[SiteQuantiles]):
    """Quantiles of the finite elements: come back as `Activation.quantiles`.

    `Quantiles(0.05, 0.5, 0.95)` are the median and the ends of the middle nine tenths. They are exact, and linear
    between two elements.
    """

    probabilities: tuple[float, ...]
    """Which, each from 0 to 1; at most 1,000."""

    def __init__(self, *probabilities: float) -> None:
        """Takes the probabilities; raises InvalidRequestError if one is no number."""
        try:
            numbers = tuple(map(float, probabilities))
        except (TypeError, ValueError):
            raise InvalidRequestError(
                f"Quantiles of {', '.join(map(repr, probabilities))}; expected numbers from 0 to 1, one by one, as in "
                "Quantiles(0.05, 0.5, 0.95)",
                field="reduce",
            ) from None
        object.__setattr__(self, "probabilities", numbers)

    def message(self) -> inspection_pb2.Reduction:
        """Returns the reduction as the contract says it."""
        return _Message(quantiles=_Message.Quantiles(probabilities=self.probabilities))

    def read(self, parts: Parts) -> SiteQuantiles:
        """Returns the quantiles."""
        numbers = parts.numbers("quantiles")
        if len(numbers.values) != len(self.probabilities):
            raise CorruptStreamError(
                f"{len(numbers.values)} quantiles came for {len(self.probabilities)} probabilities"
            )
        return SiteQuantiles(
            probabilities=self.probabilities, values=tuple(numbers.values), finite_count=numbers.finite_count
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Norm(Reduction[np.ndarray]):
    """The norm along axes: comes back as `Activation.norm`, a float32 array without these axes.

    `Norm(axes=-1)` is the norm of each example or token.
    """

    axes: int | Sequence[int] = ()
    """The axes to take it along, kept as a tuple; negative ones count from the last. Empty means all of them."""

    order: float = 2.0
    """1, the sum of magnitudes; 2, the root of the sum of squares; or `math.inf`, the greatest magnitude."""

    def __post_init__(self) -> None:
        """Makes a tuple of the axes."""
        object.__setattr__(self, "axes", _axes(self.axes))

    def message(self) -> inspection_pb2.Reduction:
        """Returns the reduction as the contract says it."""
        if self.order not in _ORDERS:
            raise InvalidRequestError(f"the order of a norm is {self.order}; expected 1, 2 or math.inf", field="order")
        return _Message(norm=_Message.Norm(axes=several(self.axes), order=_ORDERS[self.order]))

    def read(self, parts: Parts) -> np.ndarray:
        """Returns the norms."""
        return parts.tensor()


@dataclass(frozen=True, slots=True, kw_only=True)
class Mean(Reduction[np.ndarray]):
    """The mean along axes: comes back as `Activation.mean`, a float32 array without these axes.

    `Mean(axes=0)` is the mean over the examples of the batch.
    """

    axes: int | Sequence[int] = ()
    """The axes to take it along, kept as a tuple; negative ones count from the last. Empty means all of them."""

    def __post_init__(self) -> None:
        """Makes a tuple of the axes."""
        object.__setattr__(self, "axes", _axes(self.axes))

    def message(self) -> inspection_pb2.Reduction:
        """Returns the reduction as the contract says it."""
        return _Message(mean=_Message.Mean(axes=several(self.axes)))

    def read(self, parts: Parts) -> np.ndarray:
        """Returns the means."""
        return parts.tensor()


@dataclass(frozen=True, slots=True)
class TopK(Reduction[TopElements]):
    """The `k` greatest elements along the last axis, and where they are: come back as `Activation.top_k`."""

    k: int
    """How many, from 1 to the size of the last axis."""

    def message(self) -> inspection_pb2.Reduction:
        """Returns the reduction as the contract says it."""
        return _Message(top_k=_Message.TopK(k=whole(self.k, "k", bits=32)))

    def read(self, parts: Parts) -> TopElements:
        """Returns the elements and their indices."""
        return TopElements(values=parts.tensor("values"), indices=parts.tensor("indices"))


@dataclass(frozen=True, slots=True)
class DeadUnits(Reduction[SiteDeadUnits]):
    """How often each unit, each index of the last axis, is zero: comes back as `Activation.dead_units`."""

    def message(self) -> inspection_pb2.Reduction:
        """Returns the reduction as the contract says it."""
        return _Message(dead_units=_Message.DeadUnits())

    def read(self, parts: Parts) -> SiteDeadUnits:
        """Returns the counts."""
        return SiteDeadUnits(zero_counts=parts.tensor().astype(np.int64), sample_count=parts.sample_count)


@dataclass(frozen=True, slots=True)
class Covariance(Reduction[SiteCovariance]):
    """The covariance of all pairs of units, of at most 4,096: comes back as `Activation.covariance`."""

    def message(self) -> inspection_pb2.Reduction:
        """Returns the reduction as the contract says it."""
        return _Message(covariance=_Message.Covariance())

    def read(self, parts: Parts) -> SiteCovariance:
        """Returns the covariance."""
        return SiteCovariance(matrix=parts.tensor("matrix"), mean=parts.tensor("mean"), sample_count=parts.sample_count)


@dataclass(frozen=True, slots=True)
class Correlation(Reduction[SiteCorrelation]):
    """Pearson's correlation of all pairs of units, of at most 4,096: comes back as `Activation.correlation`."""

    def message(self) -> inspection_pb2.Reduction:
        """Returns the reduction as the contract says it."""
        return _Message(correlation=_Message.Correlation())

    def read(self, parts: Parts) -> SiteCorrelation:
        """Returns the correlation."""
        return SiteCorrelation(
            matrix=parts.tensor("matrix"),
            mean=parts.tensor("mean"),
            std=parts.tensor("std"),
            sample_count=parts.sample_count,
        )


def reduction_from_wire(message: inspection_pb2.Reduction) -> Reduction[Any]:
    """Returns a reduction as it was asked for.

    Raises:
        CorruptStreamError: It is none that this version knows, and so none that it asked for.
    """
    name = message.WhichOneof("reduction")
    if name is None or name not in FROM_WIRE:
        raise CorruptStreamError(f"the server reduced a value by {name or 'nothing'}, which nobody asked for")
    return FROM_WIRE[name](getattr(message, name))


def _histogram(message: _Message.Histogram) -> Histogram:
    low, high = (getattr(message, end) if message.HasField(end) else None for end in ("low", "high"))
    return Histogram(bins=message.bins, low=low, high=high)


def _norm(message: _Message.Norm) -> Norm:
    order = next((order for order, number in _ORDERS.items() if number == message.order), math.nan)
    return Norm(axes=tuple(message.axes), order=order)


FROM_WIRE: dict[str, Callable[[Any], Reduction[Any]]] = {
    "full": lambda _: Full(),
    "statistics": lambda _: Statistics(),
    "histogram": _histogram,
    "quantiles": lambda message: Quantiles(*message.probabilities),
    "norm": _norm,
    "mean": lambda message: Mean(axes=tuple(message.axes)),
    "top_k": lambda message: TopK(message.k),
    "dead_units": lambda _: DeadUnits(),
    "covariance": lambda _: Covariance(),
    "correlation": lambda _: Correlation(),
}
"""What reads each reduction, by the name of its field in the contract's `Reduction`."""


def reductions_of(reduce: Reduction[Any] | Iterable[Reduction[Any]]) -> tuple[Reduction[Any], ...]:
    """Returns one reduction, or several, as a tuple; raises InvalidRequestError if one is none."""
    reductions = several(reduce)
    for each in reductions:
        if not isinstance(each, Reduction):
            raise InvalidRequestError(f"reduce is {each!r}; expected a reduction such as Statistics()", field="reduce")
    return reductions


def reduction_messages(reductions: Iterable[Reduction[Any]]) -> list[inspection_pb2.Reduction]:
    """Returns reductions as the contract says them; raises InvalidRequestError if it cannot say one."""
    messages = []
    for each in reductions:
        with building(each, field="reduce"):
            messages.append(each.message())
    return messages


def _axes(axes: int | Sequence[int]) -> tuple[int, ...]:
    with building(f"axes {axes!r}", field="axes"):
        return tuple(map(operator.index, several(axes)))
