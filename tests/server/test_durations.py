"""Durations and counts: what a scraper reads of them is what it would read of prometheus_client's own."""

from __future__ import annotations

import threading

import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.openmetrics import exposition

from fluoroscope_server.metrics.counts import Counts
from fluoroscope_server.metrics.durations import TOGETHER, Durations

prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # its authors left it untyped; as `Metrics` does

BUCKETS = (0.001, 0.01, 2.5)
SECONDS = st.lists(st.sampled_from([0.0, *BUCKETS, 1e9]) | st.floats(0, 10), max_size=3 * TOGETHER)


def texts(registry: CollectorRegistry) -> tuple[bytes, bytes]:
    return generate_latest(registry), exposition.generate_latest(registry)  # type: ignore[no-untyped-call]  # its authors left it untyped


@given(SECONDS, SECONDS)
def test_durations_read_as_a_histogram(first: list[float], second: list[float]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    durations = Durations("took_seconds", "How long.", ("stage",), buckets=BUCKETS, registry=ours)
    histogram = Histogram("took_seconds", "How long.", ("stage",), buckets=BUCKETS, registry=theirs)
    for stage, seconds in (("first", first), ("second", second)):
        mine, its = durations.labels(stage), histogram.labels(stage)
        for each in seconds:
            rounded = round(each * 1024) / 1024  # sums in any order are the same then
            mine.observe(rounded)
            its.observe(rounded)
    assert texts(ours) == texts(theirs)
    assert texts(ours) == texts(theirs), "scraped again"


def test_durations_without_labels() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    durations = Durations("took_seconds", "How long.", buckets=BUCKETS, registry=ours).labels()
    histogram = Histogram("took_seconds", "How long.", buckets=BUCKETS, registry=theirs)
    durations.observe(0.5)
    histogram.observe(0.5)
    assert texts(ours) == texts(theirs)


def test_what_was_not_added_yet_is_added_when_it_is_scraped() -> None:
    registry = CollectorRegistry()
    waiting = [0.5, 0.25]

    def settle() -> None:
        while waiting:
            durations.labels().observe(waiting.pop())

    durations = Durations("took_seconds", "How long.", buckets=BUCKETS, registry=registry, settle=settle)
    durations.labels()
    assert registry.get_sample_value("took_seconds_count") == 2
    assert registry.get_sample_value("took_seconds_sum") == 0.75


def test_nothing_is_lost_while_others_scrape() -> None:
    registry, ended = CollectorRegistry(), threading.Event()
    series = Durations("took_seconds", "How long.", buckets=BUCKETS, registry=registry).labels()

    def scrape() -> None:
        while not ended.is_set():
            registry.get_sample_value("took_seconds_count")

    scrapers = [threading.Thread(target=scrape) for _ in range(2)]
    for each in scrapers:
        each.start()
    for _ in range(50_000):
        series.observe(0.5)
    ended.set()
    for each in scrapers:
        each.join()
    assert registry.get_sample_value("took_seconds_count") == 50_000
    assert registry.get_sample_value("took_seconds_bucket", {"le": "2.5"}) == 50_000


@pytest.mark.parametrize("gauge", [False, True])
def test_counts_read_as_a_counter_or_a_gauge(gauge: bool) -> None:
    name = "calls_open" if gauge else "calls_total"
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    counts = Counts(name, "Calls.", ("method", "code"), registry=ours, gauge=gauge)
    its = (Gauge if gauge else Counter)(name, "Calls.", ("method", "code"), registry=theirs)
    counts.labels("a", "OK")
    its.labels("a", "OK")
    for _ in range(3):
        counts.labels("b", "OK").value += 1
        its.labels("b", "OK").inc()
    assert texts(ours) == texts(theirs)
