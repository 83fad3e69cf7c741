"""Counts: a counter or gauge that costs a tenth of a microsecond, for what every request counts several times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prometheus_client import CollectorRegistry, Metric


@dataclass(slots=True)
class Count:
    """One series. Only one thread may change it; any may read it."""

    value: int = 0
    """What was counted; of a counter it only grows."""


class Counts(Collector):
    """The series of one metric, by their labels.

    A counter of prometheus_client takes a lock each time, since any thread may change it. These belong to one thread,
    and are read when they are scraped.
    """

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str],
        *,
        registry: CollectorRegistry,
        gauge: bool = False,
    ) -> None:
        """Registers the metric, as a counter or a gauge; it has no series yet."""
        self._family = GaugeMetricFamily if gauge else CounterMetricFamily
        self._name, self._documentation, self._labels = name, documentation, labels
        self._counts: dict[tuple[str, ...], Count] = {}
        registry.register(self)

    def labels(self, *values: str) -> Count:
        """Returns the series with these labels; from now on it is exported."""
        return self._counts.setdefault(values, Count())

    def collect(self) -> Iterator[Metric]:
        """Yields what a scraper gets."""
        family = self._family(self._name, self._documentation, labels=self._labels)
        for values, count in list(self._counts.items()):
            family.add_metric(values, count.value)
        yield family
