"""Durations: a histogram that costs a tenth of a microsecond, for what every request measures several times."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

import numpy as np
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from prometheus_client import CollectorRegistry, Metric

TOGETHER: Final = 256
"""How many durations are sorted into buckets together: one by one, each would take as long as ten do."""


class Duration:
    """One series. Only one thread may add to it; any may read it."""

    __slots__ = ("_bounds", "_counts", "_lock", "_new", "_sum")

    def __init__(self, bounds: np.ndarray) -> None:
        """Begins with none; `bounds` are the upper bounds of the buckets, in seconds, ascending, the last infinite."""
        self._bounds = bounds
        self._counts = np.zeros(len(bounds), np.int64)
        self._sum = 0.0
        self._new: list[float] = []
        self._lock = threading.Lock()

    def observe(self, seconds: float) -> None:
        """Adds one, in seconds."""
        new = self._new
        new.append(seconds)
        if len(new) >= TOGETHER:
            self.totals()

    def totals(self) -> tuple[np.ndarray, float]:
        """Returns how many there are up to each bound, and their sum in seconds."""
        with self._lock:
            count = len(self._new)  # more may come meanwhile, behind these
            new = np.asarray(self._new[:count], np.float64)
            del self._new[:count]
            self._counts += np.bincount(np.searchsorted(self._bounds, new), minlength=len(self._bounds))
            self._sum += float(new.sum())
            return np.cumsum(self._counts), self._sum


class Durations(Collector):
    """The series of one histogram, by their labels.

    A histogram of prometheus_client takes two locks and looks through its buckets for each observation. Here that is
    done for many at once, and when they are scraped.
    """

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str] = (),
        *,
        buckets: Sequence[float],
        registry: CollectorRegistry,
        settle: Callable[[], None] = lambda: None,
    ) -> None:
        """Registers the histogram; it has no series yet.

        Args:
            name: its name.
            documentation: what it measures, in a sentence.
            labels: the names of the labels of its series.
            buckets: upper bounds in seconds, ascending.
            registry: where it is registered.
            settle: called before it is scraped, on the scraper's thread: adds what was not added yet.
        """
        self._settle = settle
        self._name, self._documentation, self._labels = name, documentation, labels
        self._bounds = np.asarray([*buckets, np.inf])
        self._names = [floatToGoString(bound) for bound in self._bounds]  # type: ignore[no-untyped-call]  # its authors left it untyped
        self._series: dict[tuple[str, ...], Duration] = {}
        registry.register(self)

    def labels(self, *values: str) -> Duration:
        """Returns the series with these labels; from now on it is exported."""
        return self._series.setdefault(values, Duration(self._bounds))

    def collect(self) -> Iterator[Metric]:
        """Yields what a scraper gets."""
        self._settle()
        family = HistogramMetricFamily(self._name, self._documentation, labels=self._labels)
        for values, series in list(self._series.items()):
            counts, seconds = series.totals()
            family.add_metric(values, list(zip(self._names, counts.tolist(), strict=True)), seconds)
        yield family
