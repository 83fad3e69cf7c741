"""What Prometheus would read from the server's metrics page."""

from __future__ import annotations

import re
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Self

_SAMPLE = re.compile(r"^(?P<name>\w+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One line of the page: a number with a name and labels."""

    line: str
    """The line as it is."""

    name: str
    """The name of the series."""

    labels: dict[str, str]
    """Its labels."""

    value: float
    """Its number."""


class Scrape:
    """All samples of one visit."""

    def __init__(self, text: str) -> None:
        """Takes the page."""
        found = ((line, _SAMPLE.match(line)) for line in text.splitlines())
        self._samples = [
            Sample(line=line, name=match["name"], labels=_labels(match["labels"]), value=float(match["value"]))
            for line, match in found
            if match
        ]

    @classmethod
    def of(cls, address: str) -> Self:
        """Reads the metrics page at `HOST:PORT`; raises OSError if nobody answers there."""
        connection = HTTPConnection(address, timeout=10)  # not urllib: it would go through a proxy, if one is set
        try:
            connection.request("GET", "/metrics")
            return cls(connection.getresponse().read().decode())
        finally:
            connection.close()

    def named(self, name: str, **labels: str) -> list[Sample]:
        """Returns the samples of a name that have at least these labels, in the page's order."""
        return [sample for sample in self._samples if sample.name == name and labels.items() <= sample.labels.items()]

    def stages(self, method: str) -> dict[str, float]:
        """Returns the mean seconds of each stage of a method that was called, in the order of the stages."""
        totals = self.named("fluoroscope_stage_seconds_sum", method=method)
        counts = self.named("fluoroscope_stage_seconds_count", method=method)
        return {
            total.labels["stage"]: total.value / count.value
            for total, count in zip(totals, counts, strict=True)
            if count.value
        }


def _labels(text: str | None) -> dict[str, str]:
    return dict(_LABEL.findall(text or ""))
